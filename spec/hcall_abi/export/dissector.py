"""The Wireshark dissector `swpks`, a program in Lua (R-81).

The file dissector.lua beside this module has the program.  It contains no fact of the contract.  This module
adds the tables of the contract to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import resources

from hcall_abi import frames
from hcall_abi.arguments import Arg, Kind
from hcall_abi.calls import CALLS, HCallSpec
from hcall_abi.consumers import Consumer
from hcall_abi.export.c_structures import STRUCTURES, Member
from hcall_abi.policies import Policy
from hcall_abi.statuses import Status, blamed_register

_PLACE = "--@tables@\n"

Value = str | int | bool | Mapping[str, "Value"] | Mapping[int, "Value"] | Sequence["Value"]
"""A value that becomes Lua text."""


def dissector() -> str:
    """Return the whole text of the dissector."""
    program = (resources.files("hcall_abi.export") / "dissector.lua").read_text("utf-8")
    tables = "".join(f"local {name} = {_lua(value)}\n" for name, value in _tables().items())
    return program.replace(_PLACE, tables)


def _tables() -> dict[str, Value]:
    """Return each table of the program by its name."""
    arguments = sorted({arg.name for spec in CALLS.values() for arg in spec.args})
    results = sorted({output.name for spec in CALLS.values() for output in spec.outputs})
    return {
        "MAGIC": int.from_bytes(frames.MAGIC, "big"),
        "VERSION": frames.VERSION,
        "MAX_BODY": frames.MAX_BODY,
        "FRAMES": {int(kind): kind.name for kind in frames.FrameType},
        "SIZES": {structure.name: structure.size for structure in STRUCTURES},
        "LAYOUTS": {
            structure.name: [_member(each) for each in structure.members] for structure in STRUCTURES
        },
        "WORDS": _words(),
        "STATUSES": {int(status): status.name for status in Status},
        "BLAMED": {int(status): register for status in Status if (register := blamed_register(status))},
        "POLICIES": [{"name": bit.name or "", "mask": int(bit)} for bit in Policy],
        "CALLS": {int(opcode): _call(spec) for opcode, spec in CALLS.items()},
        "ARGUMENT_NAMES": dict.fromkeys(arguments, True),
        "RESULT_NAMES": dict.fromkeys(results, True),
    }


def _words() -> dict[str, Value]:
    """Return the words of each field that has numbers with names."""
    return {
        "frame_header.type": {int(kind): kind.name for kind in frames.FrameType},
        "open.proof_kind": {int(kind): kind.name for kind in frames.ProofKind},
        "opened.status": {int(status): status.name for status in frames.OpenStatus},
        "goodbye.reason": {int(reason): reason.name for reason in frames.GoodbyeReason},
        "segment.access": {int(access): access.name for access in frames.Access},
        "auth.consumer": {int(consumer): consumer.name for consumer in Consumer},
        "hcall.opcode": {int(opcode): spec.name for opcode, spec in CALLS.items()},
        "hreturn.status": {int(status): status.name for status in Status},
    }


def _member(member: Member) -> dict[str, Value]:
    kind = "bytes" if member.field.code.endswith("s") else f"{'s' if member.signed else 'u'}{member.bits}"
    row: dict[str, Value] = {
        "name": member.name,
        "offset": member.offset,
        "size": member.field.size,
        "kind": kind,
        "items": member.field.items,
    }
    return row | {"constant": member.encoded.hex()} if member.constant else row


def _call(spec: HCallSpec) -> dict[str, Value]:
    return {
        "name": spec.opcode.name,
        "names": {arg.register: arg.name for arg in spec.args},
        "results": {output.register: output.name for output in spec.outputs},
        "arguments": [_argument(spec, arg) for arg in spec.args if arg.kind.readable or arg.kind.writable],
    }


def _argument(spec: HCallSpec, arg: Arg) -> dict[str, Value]:
    kinds = {Kind.AUTHORIZATION: "authorization", Kind.LABEL: "label", Kind.VARIABLE_LABEL: "label"}
    row: dict[str, Value] = {
        "name": arg.name,
        "register": arg.register,
        "kind": kinds.get(arg.kind, "bytes"),
        "readable": arg.kind.readable,
        "written": arg.kind.writable,
    }
    return row | {"length": spec.length_of(arg).register} if arg.length else row


def _lua(value: Value) -> str:
    """Return a value as Lua text; a table has a line for each row that is a table itself."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, Mapping):
        return _table(f"[{_lua(key)}] = {_lua(each)}" for key, each in value.items())
    return _table(map(_lua, value))


def _table(items: Iterable[str]) -> str:
    texts = list(items)
    # Nested tables get lines of their own: the whole would be one line of 10,000 characters.
    between = ",\n  " if any("{" in text for text in texts) else ", "
    return "{ " + between.join(texts) + " }" if texts else "{}"
