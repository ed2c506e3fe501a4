"""One h-call and its answer as fields of a log line, without secrets (spec/service.md#log-of-the-calls).

Registers are shown unchanged.  Of guest memory, only the label and the head of the authorization block are
shown.
"""

# Why a label can be missing
#
# A label is no secret, but its register is an address that a guest has chosen.  If a guest swaps two
# registers, its password or its object data would be logged as a label.  So a label is hidden in four cases:
#
#   1. The authorization block of the call is not well formed.  This is so if its register was swapped.
#   2. The memory of the label overlaps that of another argument.
#   3. The label has four bytes in a row of the presented password, or of a password that is set.  The memory
#      may still have a password that this call does not present.
#   4. The label looks like the head of an authorization block.
#
# We dropped a shorter test, to show the labels of successful calls only.  It would hide the labels that a
# developer looks for.

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from hcall_abi.arguments import Arg, Kind
from hcall_abi.calls import CALLS, HCallSpec, Opcode, Output
from hcall_abi.consumers import Consumer
from hcall_abi.frames import HCall, HReturn
from hcall_abi.layout import LayoutMismatch
from hcall_abi.statuses import status_name
from hcall_abi.structures import AUTH_LAYOUT, LABEL_HEADER_SIZE
from hcall_server.hcalls.memory import readable_at

CallFields = Mapping[str, str | int | Mapping[str, str | int]]

SHOWN = 64
"""Bytes of a label that a line shows at most: a line stays below 1 KiB."""
_RUN = 4
"""Bytes of a password in a row that make a label suspect."""
_LABELS = (Kind.LABEL, Kind.VARIABLE_LABEL)
_AUTH_SIZE = AUTH_LAYOUT.size
_DECIMAL = (Kind.LENGTH, Kind.CONSUMER)
_HEX_RESULTS = ("token", "policy")


class _Block(NamedTuple):
    """A well-formed authorization block."""

    consumer: int
    password: bytes


def call_fields(call: HCall, answer: HReturn, passwords: Iterable[bytes] = ()) -> CallFields:
    """Return the fields of a call; for an unknown opcode, only the opcode and the status.

    `passwords` are those that are set: a label with a part of one is hidden.
    """
    spec = CALLS.get(Opcode(call.opcode)) if call.opcode in CALLS else None
    if spec is None:
        return {"hcall": f"0x{call.opcode:X}", "status": status_name(answer.status)}
    fields: dict[str, str | int | Mapping[str, str | int]] = {"hcall": spec.opcode.name}
    fields |= _identity(spec, call, passwords)
    fields["arguments"] = {arg.name: _argument(arg, call.registers[arg.place]) for arg in spec.args}
    fields["status"] = status_name(answer.status)
    if spec.outputs:
        fields["results"] = {out.name: _result(out, out.of(answer.registers)) for out in spec.outputs}
    written = sum(len(data) for _, data in answer.writes)
    return fields | ({"written": written} if written else {})


def _argument(arg: Arg, value: int) -> str | int:
    return value if arg.kind in _DECIMAL else f"0x{value:X}"


def _result(out: Output, value: int) -> str | int:
    return f"0x{value:X}" if out.name in _HEX_RESULTS else value


def _identity(
    spec: HCallSpec, call: HCall, passwords: Iterable[bytes]
) -> dict[str, str | int | Mapping[str, str | int]]:
    """Return the consumer, the length of the password, and the label, as far as the call has them."""
    block = _authorization(spec, call)
    found: dict[str, str | int | Mapping[str, str | int]] = {}
    if block:
        found = {"consumer": _consumer(block.consumer), "password_length": len(block.password)}
    data = _label(spec, call)
    if data is not None:
        shown = shown_label(spec, call, passwords) is not None
        found["label"] = label_text(data) if shown else _hidden(data)
    return found


def shown_block(spec: HCallSpec, call: HCall) -> int | None:
    """Return the address of a call's authorization block; None unless the block is well formed."""
    arg = _of_kind(spec, (Kind.AUTHORIZATION,))
    return call.registers[arg.place] if arg and _block(call, arg) else None


def shown_label(spec: HCallSpec, call: HCall, passwords: Iterable[bytes] = ()) -> bytes | None:
    """Return the label of a call if it may be shown, None otherwise (see the essay above).

    `passwords` are those that are set.
    """
    arg, data = _of_kind(spec, _LABELS), _label(spec, call)
    if arg is None or data is None:
        return None
    harmless = _harmless(spec, call, arg, data, _authorization(spec, call), passwords)
    return data if harmless else None


def passwords_in(spec: HCallSpec, call: HCall) -> Iterator[bytes]:
    """Yield the passwords that a call has in its memory: the presented one, and one to set."""
    block = _authorization(spec, call)
    if block:
        yield block.password
    arg = _of_kind(spec, (Kind.PASSWORD,))
    password = _bytes_at(call, arg.register, spec.length_of(arg).register) if arg else None
    if password:
        yield password


def _authorization(spec: HCallSpec, call: HCall) -> _Block | None:
    arg = _of_kind(spec, (Kind.AUTHORIZATION,))
    return _block(call, arg) if arg else None


def _label(spec: HCallSpec, call: HCall) -> bytes | None:
    arg = _of_kind(spec, _LABELS)
    return _bytes_at(call, arg.register, spec.length_of(arg).register) if arg else None


def _of_kind(spec: HCallSpec, kinds: tuple[Kind, ...]) -> Arg | None:
    return next((arg for arg in spec.args if arg.kind in kinds), None)


def _consumer(number: int) -> str | int:
    known = number in Consumer.__members__.values()
    return Consumer(number).name.lower() if known else number


def _block(call: HCall, arg: Arg) -> _Block | None:
    """Return the authorization block; None for one that is not well formed."""
    data, offset = readable_at(call.segments, call.registers[arg.place])
    head = _head(data, offset)
    if head is None:
        return None
    consumer, length = head
    password = data[offset + _AUTH_SIZE : offset + _AUTH_SIZE + length]
    return _Block(consumer, bytes(password)) if len(password) == length else None


def _head(data: bytes, offset: int) -> tuple[int, int] | None:
    """Return consumer and password length of an authorization block; None for other bytes."""
    try:
        consumer, length = AUTH_LAYOUT.unpack(data, offset)
    except LayoutMismatch:
        return None
    return consumer, length


def _bytes_at(call: HCall, address_register: int, length_register: int) -> bytes | None:
    """Return the readable bytes of a buffer; None if it is empty, or is not in one segment."""
    address, length = (call.registers[each - 4] for each in (address_register, length_register))
    data, offset = readable_at(call.segments, address)
    found = data[offset : offset + length]
    return bytes(found) if found and len(found) == length else None


def _harmless(
    spec: HCallSpec, call: HCall, arg: Arg, label: bytes, block: _Block | None, passwords: Iterable[bytes]
) -> bool:
    """Whether a label may be shown.  It must be neither a password nor object data.

    A guest may swap registers by mistake.
    """
    if block is None or _head(label, 0) is not None:
        return False
    start = call.registers[arg.place]
    # Addresses are compared, not bytes: a part of the data may have any content.
    if any(start < end and begin < start + len(label) for begin, end in _others(spec, call, arg, block)):
        return False
    return not any(has_part(label, password) for password in (block.password, *passwords))


def has_part(label: bytes, password: bytes) -> bool:
    """Return whether a label, or a list of them, has a part of a password."""
    return any(run in label for run in runs_of(password))


def runs_of(password: bytes) -> Iterator[bytes]:
    """Yield the parts of a password that make a label suspect."""
    # A password of fewer than four bytes is one run.  An empty password has no run.
    runs = (password[n : n + _RUN] for n in range(max(len(password) - _RUN + 1, 1)))
    return (run for run in runs if run)


def _others(spec: HCallSpec, call: HCall, label: Arg, block: _Block) -> Iterator[tuple[int, int]]:
    """Yield begin and end of the memory of all other arguments."""
    for arg in spec.args:
        begin = call.registers[arg.place]
        if arg.kind is Kind.AUTHORIZATION:
            yield begin, begin + _AUTH_SIZE + len(block.password)
        elif arg.length is not None and arg is not label:
            yield begin, begin + call.registers[spec.length_of(arg).place]


def _hidden(data: bytes) -> str:
    return f"<{len(data)} bytes>"


def label_text(label: bytes) -> str:
    """Return a label as text: UTF-8, or hex; COMPONENT:NAME if it has the header of operating systems."""
    name, component = label, ""
    if len(label) > LABEL_HEADER_SIZE and label[8] == 0 and label[10] == LABEL_HEADER_SIZE:
        prefix = label[:8].rstrip(bytes(1))
        component = f"{_text(prefix)}:" if prefix else ""
        name = label[LABEL_HEADER_SIZE:]
    shown = _text(name[:SHOWN])
    return f"{component}{shown}{f'... ({len(name)} bytes)' if len(name) > SHOWN else ''}"


def _text(data: bytes) -> str:
    """Return printable text: UTF-8, or the UTF-16 of variables' names; hex for other bytes."""
    wide = len(data) % 2 == 0 and data[1::2] == bytes(len(data) // 2)
    text = data.decode("utf-16-le" if wide else "utf-8", "replace")
    return text if text.isprintable() and "\ufffd" not in text else f"hex:{data.hex()}"
