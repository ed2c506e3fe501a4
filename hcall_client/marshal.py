"""Translates an h-call of a real guest, registers and memory, to a call of the data channel, and back.

A guest puts addresses into registers; the data channel carries the memory behind them as segments.  The row
of the call (`hcall_abi.calls.CALLS`) says which memory belongs to it.  So a front end that has caught an
h-call needs only the registers and access to guest memory:

    answer = channel.call(marshal(opcode, registers, memory))
    deliver(answer, memory)

This module checks no argument.  Memory that the guest does not have is left out.  Then the hypervisor blames
the argument, as spec/protocol.md#memory says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from hcall_abi.arguments import Arg
from hcall_abi.calls import CALLS, HCallSpec
from hcall_abi.frames import ADDRESS_SPACE, MAX_BODY, Access, HReturn, Segment
from hcall_abi.structures import AUTH_LAYOUT
from hcall_client.calls import raw_call
from hcall_client.request import Request

LONGEST_INPUT = MAX_BODY // 2
"""Most bytes of one buffer that are carried to the hypervisor: the largest keystore fits in."""

_LONGEST_OUTPUT = (1 << 32) - 1
_ROW_OF = {int(opcode): spec for opcode, spec in CALLS.items()}
_HEADER = AUTH_LAYOUT.size
_PASSWORD_LENGTH = slice(14, 16)


class GuestMemory(Protocol):
    """A guest's memory, by logical real address (spec/protocol.md#memory)."""

    def holds(self, address: int, length: int) -> bool:
        """Say whether the guest has all of this memory; `length` is at least 1."""

    def read(self, address: int, length: int) -> bytes:
        """Return the bytes there; asked only for memory that the guest holds."""

    def write(self, address: int, data: bytes) -> None:
        """Change the bytes there; asked only for memory that the guest holds."""


class _Range(NamedTuple):
    """Memory from `start` up to and without `end`, and the access of the call to it."""

    start: int
    end: int
    access: int


def marshal(opcode: int, registers: Sequence[int], memory: GuestMemory) -> Request[HReturn]:
    """Return the call that a guest makes with `opcode` in r3 and `registers` in r4 and on.

    Buffers that share bytes become one segment.  A call that the table does not have takes no
    memory along.  The request's result is the answer as it came, whatever its status; ValueError
    for what does not fit nine 64-bit registers.
    """
    padded = (*registers, *(0,) * (9 - len(registers)))
    spec = _ROW_OF.get(opcode)
    ranges = _ranges(spec, padded, memory) if spec else ()
    return raw_call(opcode, padded, [_segment(piece, memory) for piece in _merged(ranges)])


def deliver(answer: HReturn, memory: GuestMemory) -> None:
    """Copy the writes of a call into guest memory."""
    for address, data in answer.writes:
        memory.write(address, data)


def argument_count(opcode: int) -> int:
    """Return how many registers from r4 on the call takes; 0 for a call that the table does not have."""
    spec = _ROW_OF.get(opcode)
    return len(spec.args) if spec else 0


def _ranges(spec: HCallSpec, registers: Sequence[int], memory: GuestMemory) -> Iterator[_Range]:
    """Yield the memory of each buffer of a call, as far as the guest has it and a frame carries it."""
    for arg in spec.args:
        if not (arg.kind.readable or arg.kind.writable):
            continue
        start = registers[arg.place]
        length = _length(spec, arg, registers, memory)
        written = arg.kind.writable
        longest = _LONGEST_OUTPUT if written else LONGEST_INPUT
        if 0 < length <= longest and start + length <= ADDRESS_SPACE and memory.holds(start, length):
            yield _Range(start, start + length, Access.OUT if written else Access.IN)


def _length(spec: HCallSpec, arg: Arg, registers: Sequence[int], memory: GuestMemory) -> int:
    if arg.length:
        return registers[spec.arg(arg.length).place]
    return _block_length(registers[arg.place], memory)


def _block_length(address: int, memory: GuestMemory) -> int:
    """Return how long the authorization block says that it is, its header alone if the rest is missing."""
    if address + _HEADER > ADDRESS_SPACE or not memory.holds(address, _HEADER):
        return 0
    told = _HEADER + int.from_bytes(memory.read(address, _HEADER)[_PASSWORD_LENGTH], "big")
    whole = address + told <= ADDRESS_SPACE and memory.holds(address, told)
    return told if whole else _HEADER


def _merged(ranges: Iterable[_Range]) -> list[_Range]:
    """Return the ranges in order, those that share a byte made one."""
    merged: list[_Range] = []
    for piece in sorted(ranges):
        if merged and piece.start < merged[-1].end:
            last = merged.pop()
            piece = _Range(last.start, max(last.end, piece.end), last.access | piece.access)  # noqa: PLW2901
        merged.append(piece)
    return merged


def _segment(piece: _Range, memory: GuestMemory) -> Segment:
    length = piece.end - piece.start
    data = memory.read(piece.start, length) if piece.access & Access.IN else b""
    return Segment(piece.start, length, piece.access, data)
