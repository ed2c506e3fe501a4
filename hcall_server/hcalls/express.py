"""Functions for frequent h-calls: each turns a frame of the plain shape into the arguments of the call."""

# The express way: one function decodes and checks a frequent call
#
# A call costs the engine about 5 us: decode the frame, run the checks of `hcalls.arguments`, run the
# handler, encode the answer.  More than half of that goes to the objects between the steps: a tuple for
# each segment, a closure for each argument, a search for each buffer.  A guest's driver lays out its
# buffers the same way in every call.  So for this layout, the plain shape, one function does all of it
# without such objects:
#
#     unpack    one `struct` reads registers, segment table and authorization head
#     compare   about twenty comparisons in one expression
#     cut       label, password and data are slices of the frame
#
# It returns the call's own tuple of arguments, for the same handler that the ordinary way calls.  It returns
# None for any other frame.  Then the ordinary way runs from the start, and finds the broken rule and its
# status.  So this module refuses nothing.  Two things must hold, and tests check them:
#
#   1. For every frame, the result is None or exactly that of the ordinary way.
#   2. The client library's own frames have the plain shape.  Else the functions would never be used.
#
# A frame has the plain shape under these conditions:
#
#   - Each buffer is in a segment of its own.
#   - The segments are in the order of the arguments, at ascending addresses.
#   - Every buffer is placed as strict memory demands.
#   - Every argument passes its check.  A token of a list is 0.
#
# `source_of` makes each function as source text from a row of `hcall_abi.calls`.  The checks of the ordinary
# way come from the same rows.  No size is a literal: sizes come from the layouts of the frame.
#
# We dropped a cache of decoded frames, with the bytes of registers and segment table as its key.  It was
# faster by a third.  But a cache is state, needs a bound, and helps only a guest that repeats its calls.

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import cast

from hcall_abi.arguments import PAGE, Arg, Kind, Limit
from hcall_abi.calls import HCallSpec, Opcode
from hcall_abi.codec import HCALL_HEAD_LAYOUT, SEGMENT_LAYOUT
from hcall_abi.frames import ADDRESS_SPACE, Access, new_tuple
from hcall_abi.layout import FixedLayout
from hcall_abi.statuses import REGISTERS
from hcall_abi.structures import AUTH_LAYOUT
from hcall_server.hcalls.memory import Place
from hcall_server.hcalls.numbers import CONSUMERS, refused_word
from hcall_server.keystore.access import Credentials
from hcall_server.keystore.limits import KeystoreLimits

Express = Callable[[bytes, int, int, KeystoreLimits], "tuple[object, ...] | None"]
"""Takes a frame's bytes, the start and the end of its body, and the limits; returns the arguments or None."""

SERVED = (
    Opcode.READ_OBJECT,
    Opcode.WRITE_OBJECT,
    Opcode.REMOVE_OBJECT,
    Opcode.CONFIRM_OBJECT_FLUSHED,
    Opcode.GET_OBJECTLABELS,
)
"""The h-calls that have an express way: the frequent ones."""

Target = str | int | bytes | None
"""The target of an item of a frame: a variable, a constant that it has to equal, or None to skip it."""


class _Source:
    """The source of one function in the making: its format, variables, conditions, slices and scope."""

    def __init__(self, spec: HCallSpec, arguments: type[tuple[object, ...]]) -> None:
        self._spec = spec
        self._buffers = [arg for arg in spec.args if arg.kind.readable or arg.kind.writable]
        self._format = ">"
        self._names: list[str] = []
        self._demands: list[str] = []
        self._constant = b""
        self._cuts: list[str] = []
        self.scope: dict[str, object] = {
            "CONSUMERS": CONSUMERS,
            "Credentials": Credentials,
            "Place": Place,
            "arguments": arguments,
            "new": new_tuple,
            "refused_word": refused_word,
        }

    def text(self) -> str:
        """Return the function as Python source."""
        self._read_frame()
        self._demand_places()
        values = [self._value(arg) for arg in self._spec.args if not arg.kind.is_length]
        begin = HCALL_HEAD_LAYOUT.size + SEGMENT_LAYOUT.size * len(self._buffers) + AUTH_LAYOUT.size
        self.scope["unpack"] = struct.Struct(self._format).unpack_from
        size = struct.calcsize(self._format)
        demands = "\n        and ".join(self._demands)
        lines = [
            f"if end - start < {size}:\n        return None",
            f"{', '.join(self._names)} = unpack(data, start)",
            f"if not (\n        {demands}\n    ):\n        return None",
            f"p0 = start + {begin}",
            *self._cuts,
            f"return new(arguments, ({', '.join(values)},))",
        ]
        head = f"def {self._spec.opcode.name.lower()}(data, start, end, limits):"
        return "\n    ".join([head, *lines]) + "\n"

    # Items of the frame

    def _read_frame(self) -> None:
        used = [f"r{arg.register}" for arg in self._spec.args]
        unused: list[Target] = [None] * (REGISTERS - len(used))
        self._read(HCALL_HEAD_LAYOUT, opcode=[None], registers=[*used, *unused], count=[len(self._buffers)])
        for n, arg in enumerate(self._buffers):
            access = Access.IN if arg.kind.readable else Access.OUT
            self._read(SEGMENT_LAYOUT, address=[f"a{n}"], length=[f"l{n}"], access=[int(access)])
        if self._buffers[0].kind is not Kind.AUTHORIZATION:
            raise TypeError("no express way for a call without an authorization block in front")
        self._read(AUTH_LAYOUT, consumer=["consumer"], password_length=["n"])
        self._end_constant()

    def _read(self, layout: FixedLayout, **targets: Sequence[Target]) -> None:
        """Add code that reads the items of a layout, and compares its constants."""
        for field in layout.fields:
            known = targets[field.name] if field.name in targets else [field.constant] * field.items
            for target in known:
                self._take(field.code, target)

    def _take(self, code: str, target: Target) -> None:
        if isinstance(target, int | bytes):
            self._constant += struct.pack(">" + code, target)
            return
        self._end_constant()
        if target is None:
            self._format += f"{struct.calcsize('>' + code)}x"
        else:
            self._format += code
            self._names.append(target)

    def _end_constant(self) -> None:
        """Add one condition for the last constants, which are adjacent in the frame."""
        constant, self._constant = self._constant, b""
        if constant:
            name = f"c{len(self._names)}"
            self._format += f"{len(constant)}s"
            self._names.append(name)
            self._demands.append(f"{name} == {constant!r}")

    # Conditions

    def _demand_places(self) -> None:
        """Add the conditions of the segments: one for each buffer, in order, without overlap.

        The frame has no bytes after those of the segments.
        """
        table = HCALL_HEAD_LAYOUT.size + SEGMENT_LAYOUT.size * len(self._buffers)
        carried = [f"l{n}" for n, arg in enumerate(self._buffers) if arg.kind.readable]
        self._demands.append(f"end - start == {' + '.join([str(table), *carried])}")
        for n, arg in enumerate(self._buffers):
            # A segment ends before the next one begins.  Segments that overlap would break the protocol.
            limit = f"a{n + 1}" if n + 1 < len(self._buffers) else str(ADDRESS_SPACE)
            self._demands += [f"a{n} == r{arg.register}", f"a{n} + l{n} <= {limit}"]
            if arg.alignment > 1:
                self._demands.append(f"not a{n} % {arg.alignment}")
            if arg.one_page:
                self._demands.append(f"a{n} % {PAGE} + l{n} <= {PAGE}")

    def _value(self, arg: Arg) -> str:
        """Add the conditions of an argument's check; return the expression of its value."""
        match arg.kind:
            case Kind.AUTHORIZATION:
                return self._credentials(arg)
            case Kind.LABEL | Kind.INPUT:
                self._demand_length(arg)
                return self._bytes(f"l{self._buffers.index(arg)}")
            case Kind.OUTPUT:
                self._demand_length(arg)
                return f"new(Place, (r{arg.register}, r{self._spec.length_of(arg).register}))"
            case Kind.POLICY:
                return self._policy(arg)
            case Kind.LIST_TOKEN:
                # A token needs the table of open lists, which only the ordinary way has.
                self._demands.append(f"not r{arg.register}")
                return "0"
            case _:
                raise TypeError(f"no express way for an argument of kind {arg.kind}")

    def _credentials(self, arg: Arg) -> str:
        self._demands += [
            f"l{self._buffers.index(arg)} == {AUTH_LAYOUT.size} + n",
            "consumer in CONSUMERS",
            f"n <= limits.{Limit.PASSWORD.value}",
        ]
        return f"new(Credentials, (CONSUMERS[consumer], {self._bytes('n')}))"

    def _demand_length(self, arg: Arg) -> None:
        length = self._spec.length_of(arg)
        self._demands.append(f"l{self._buffers.index(arg)} == r{length.register}")
        bounds = length.bounds
        if bounds is None:
            return
        # The function would lack the further condition of this row.  So the import fails instead.
        if bounds.beyond:
            raise TypeError("no express way for a length that depends on another")
        fixed = str(bounds.most or ADDRESS_SPACE)
        # The limit is read at each call, because it changes when the store of a partition grows.
        most = f"limits.{bounds.most.value}" if isinstance(bounds.most, Limit) else fixed
        self._demands.append(f"{bounds.least} <= r{length.register} <= {most}")

    def _policy(self, arg: Arg) -> str:
        word = f"r{arg.register}"
        self.scope["words"] = arg.words
        self._demands += [
            f"{word} < {1 << arg.bits}",
            f"refused_word(words, {word}, limits.supported_policies) is None",
        ]
        return word

    def _bytes(self, length: str) -> str:
        """Return the expression of the next `length` bytes that the frame carries."""
        here = len(self._cuts)
        self._cuts.append(f"p{here + 1} = p{here} + {length}")
        return f"data[p{here}:p{here + 1}]"


def source_of(spec: HCallSpec) -> str:
    """Return the function of one call as Python source; TypeError for a call that can't have one."""
    return _Source(spec, tuple).text()


def express_of(spec: HCallSpec, arguments: type[tuple[object, ...]]) -> Express:
    """Return the function of one call; it makes `arguments`, the named tuple that its handler takes.

    TypeError for a call that can't have one.
    """
    source = _Source(spec, arguments)
    text = source.text()
    exec(compile(text, f"<express {spec.opcode.name}>", "exec"), source.scope)  # noqa: S102 - our own text
    return cast(Express, source.scope[spec.opcode.name.lower()])
