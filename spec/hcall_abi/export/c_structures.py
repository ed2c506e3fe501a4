"""The structures of frames and guest memory as C: packed bytes, values, and the functions between both."""

# Two C structures for each definition
#
# A packed structure with integer members would be short, but reading such a member is undefined on machines
# that demand alignment, and its bytes depend on the byte order of the machine.  So each definition becomes
# two structures:
#
#   - `struct pks_NAME` has the bytes of the wire or of guest memory.  Its members are arrays of bytes, so it
#     has alignment 1 and no padding.  A pointer to received bytes may be cast to it.
#   - `struct pks_NAME_values` has the same fields as integers of the machine, without the constants.
#
# `pks_pack_NAME` and `pks_unpack_NAME` convert between both.  At compile time, assertions compare size and
# offset of each member with the Construct definition.

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from construct import Renamed, Struct, Validator

from hcall_abi import frames, structures
from hcall_abi.layout import Field, FixedLayout

_BITS = {"B": 8, "H": 16, "I": 32, "L": 32, "Q": 64}
"""The width of each integer code of `struct`; a signed code is the same letter in lower case."""


class Member(NamedTuple):
    """One field of a definition, with its place and its C types."""

    name: str
    offset: int
    field: Field

    @property
    def length(self) -> int:
        """The number of array items, or 0 for a field that is no array."""
        if self.field.code.endswith("s"):
            return self.field.size
        return self.field.items if self.field.items > 1 else 0

    @property
    def bits(self) -> int:
        """The width of one item: 8 for bytes."""
        return 8 if self.field.code.endswith("s") else _BITS[self.field.code.upper()]

    @property
    def signed(self) -> bool:
        """Whether the values are signed."""
        return self.field.code in "bhilq"

    @property
    def constant(self) -> bool:
        """Whether every sender puts the same value here."""
        return self.field.constant is not None

    @property
    def encoded(self) -> bytes:
        """The bytes of a constant."""
        return struct.pack(">" + self.field.packed, self.field.constant)

    @property
    def array(self) -> str:
        """The C suffix of an array, such as `[9]`, or nothing."""
        return f"[{self.length}]" if self.length else ""

    @property
    def packed(self) -> str:
        """The declaration of the member in the structure of bytes."""
        kind = "uint8_t" if self.bits == 8 else f"pks_be{self.bits}"
        return f"{kind} {self.name}{self.array};"

    @property
    def value(self) -> str:
        """The declaration of the member in the structure of values."""
        return f"{'' if self.signed else 'u'}int{self.bits}_t {self.name}{self.array};"


class Structure(NamedTuple):
    """One definition that the C header has: its C name, its page, and its members."""

    name: str
    page: str
    size: int
    members: tuple[Member, ...]

    @property
    def variables(self) -> tuple[Member, ...]:
        """The members that are not constant."""
        return tuple(member for member in self.members if not member.constant)


def _fixed_part(con: Any) -> Struct:
    """Return the leading fields of a definition that have a fixed size.

    In HELLO, OPEN, OPENED and GOODBYE a text of variable length follows them.
    """
    parts = []
    for part in con.subcons:
        plain = _unchecked(part)
        try:
            FixedLayout(Struct(plain))
        except TypeError:
            break
        parts.append(plain)
    return Struct(*parts)


def _unchecked(part: Any) -> Any:
    """Return a field without the check of its value; a check has no bytes of its own."""
    if isinstance(part, Renamed) and isinstance(part.subcon, Validator):
        return part.name / part.subcon.subcon
    return part


def _members(layout: FixedLayout, variable: tuple[str, ...]) -> Iterator[Member]:
    """Yield the members of a layout; a constant of a name in `variable` counts as a variable."""
    offset = reserved = 0
    for field in layout.fields:
        name = field.name
        if name is None:
            reserved += 1
            name = f"reserved{reserved}"
        yield Member(name, offset, field._replace(constant=None) if name in variable else field)
        offset += field.size


def _structure(name: str, page: str, con: Any, *variable: str) -> Structure:
    layout = FixedLayout(_fixed_part(con))
    return Structure(name, page, layout.size, tuple(_members(layout, variable)))


STRUCTURES = (
    _structure("frame_header", "protocol#frame-header", frames.HEADER),
    _structure("hello", "protocol#hello", frames.HELLO),
    _structure("open", "protocol#open", frames.OPEN),
    _structure("opened", "protocol#opened", frames.OPENED),
    _structure("hcall", "protocol#hcall", frames.HCALL_HEAD),
    _structure("segment", "protocol#hcall", frames.SEGMENT),
    _structure("hreturn", "protocol#hreturn", frames.HRETURN_HEAD),
    _structure("write", "protocol#hreturn", frames.WRITE),
    _structure("goodbye", "protocol#goodbye", frames.GOODBYE),
    _structure("auth", "structures#authorization-block", structures.AUTH_HEAD),
    _structure("label_header", "structures#label", structures.LABEL_HEADER),
    # The newest version has the most fields, and every version has the same offsets.
    _structure("config", "structures#config-block", structures.CONFIG_BLOCKS[3], "version"),
)
"""Every definition of the header, in the order of the file."""


def declaration(structure: Structure) -> str:
    """Return both C structures of a definition, the assertions, and its two functions."""
    parts = (
        _bytes(structure),
        _assertions(structure),
        _values(structure),
        _pack(structure),
        _unpack(structure),
    )
    return "\n".join(parts)


def _bytes(structure: Structure) -> str:
    members = "\n".join(f"\t{member.packed}" for member in structure.members)
    return f"/* {structure.page} */\nstruct pks_{structure.name} {{\n{members}\n}};\n"


def _assertions(structure: Structure) -> str:
    name = f"pks_{structure.name}"
    lines = [f"PKS_ASSERT({name}_size, sizeof(struct {name}) == {structure.size});"]
    lines += [
        f"PKS_ASSERT({name}_{member.name}, offsetof(struct {name}, {member.name}) == {member.offset});"
        for member in structure.members
    ]
    return "\n".join(lines) + "\n"


def _values(structure: Structure) -> str:
    members = "\n".join(f"\t{member.value}" for member in structure.variables)
    return f"struct pks_{structure.name}_values {{\n{members}\n}};\n"


def _pack(structure: Structure) -> str:
    name = f"pks_{structure.name}"
    head = (
        f"static inline void pks_pack_{structure.name}(struct {name} *to, const struct {name}_values *from)"
    )
    lines = ["pks_clear(to, sizeof(*to));"]
    for member in structure.members:
        lines += _constants(member, "to->{0} = {1};") if member.constant else _packed(member)
    return _function(head, lines)


def _unpack(structure: Structure) -> str:
    name = f"pks_{structure.name}"
    head = (
        f"static inline int pks_unpack_{structure.name}(struct {name}_values *to, const struct {name} *from)"
    )
    lines = []
    for member in structure.members:
        lines += _checked(member) if member.constant else _unpacked(member)
    text = "/* Returns 0, or -1 if a field that is constant has another value. */\n"
    return text + _function(head, [*lines, "return 0;"])


def _function(head: str, lines: list[str]) -> str:
    body = "\n".join(f"\t{line}" for line in lines)
    return f"{head}\n{{\n{body}\n}}\n"


def _packed(member: Member) -> list[str]:
    """Return the C lines that write a member from its value."""
    if member.length and member.bits == 8:
        return [f"pks_copy(to->{member.name}, from->{member.name}, sizeof(to->{member.name}));"]
    if member.bits == 8:
        return [f"to->{member.name} = from->{member.name};"]
    return [
        f"pks_put{member.bits}(&to->{item}, (uint{member.bits}_t)from->{item});" for item in _items(member)
    ]


def _unpacked(member: Member) -> list[str]:
    """Return the C lines that read the value of a member."""
    if member.length and member.bits == 8:
        return [f"pks_copy(to->{member.name}, from->{member.name}, sizeof(to->{member.name}));"]
    if member.bits == 8:
        return [f"to->{member.name} = from->{member.name};"]
    sign = "" if member.signed else "u"
    return [
        f"to->{item} = ({sign}int{member.bits}_t)pks_get{member.bits}(&from->{item});"
        for item in _items(member)
    ]


def _items(member: Member) -> list[str]:
    """Return the C expression of each array item, or of the one value."""
    return [f"{member.name}[{n}]" for n in range(member.length)] or [member.name]


def _checked(member: Member) -> list[str]:
    """Return the C lines that compare a constant member with its constant."""
    if not any(member.encoded):
        return [f"if (!pks_is_clear(&from->{member.name}, sizeof(from->{member.name})))", "\treturn -1;"]
    return [
        line
        for condition in _constants(member, "from->{0} != {1}")
        for line in (f"if ({condition})", "\treturn -1;")
    ]


def _constants(member: Member, form: str) -> list[str]:
    """Return `form` for each byte of a constant member that is not 0; `pks_clear` writes the others."""
    at = "{0}[{1}]" if member.length else "{0}"
    return [
        form.format(at.format(member.name, n), f"0x{byte:02x}")
        for n, byte in enumerate(member.encoded)
        if byte
    ]
