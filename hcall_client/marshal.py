"""Translates an h-call of a real guest, registers and memory, to a call of the data channel, and back.

A guest puts addresses into registers; the data channel carries the memory behind them as segments.  The row
of the call (`hcall_abi.calls.CALLS`) says which memory belongs to it.  So a front end that has caught an
h-call needs only the registers and access to guest memory:

    answer = channel.call(marshal(opcode, registers, memory))
    deliver(answer, memory)

This module checks no argument.  It leaves out memory that the guest does not have.  The hypervisor then
refuses the argument (spec/protocol.md#memory).
"""

# Which memory a call takes along
#
# A real hypervisor reads guest memory when it needs it. The server cannot read guest memory through the data
# channel. So the front end sends, with the call, all memory that the call may use. The table of h-calls says
# which: each address argument has a length argument, and an authorization block has its own length.
#
#   - Nothing is refused here. If a buffer is too long for a frame, or the guest lacks a part of it, the
#     segment is left out. The hypervisor then finds no memory behind the address, and answers the status of
#     that argument. So a wrong call is refused in one place, and the answer is the same over every front end.
#   - Segments of one frame may not share a byte (`hcall.overlap`), but buffers of a guest may. So buffers
#     that overlap become one segment, with the access of all.
#   - Neighbours that only touch stay apart: a buffer is in one segment in any case.

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
        """Return whether the guest has all of this memory; `length` is at least 1."""

    def read(self, address: int, length: int) -> bytes:
        """Return the bytes at an address; called only for memory that the guest has."""

    def write(self, address: int, data: bytes) -> None:
        """Write bytes at an address; called only for memory that the guest has."""


class _Range(NamedTuple):
    """Guest memory from `start` to just before `end`, and the access of the call to this memory."""

    start: int
    end: int
    access: int


def marshal(opcode: int, registers: Sequence[int], memory: GuestMemory) -> Request[HReturn]:
    """Return the call that a guest makes with `opcode` in r3 and `registers` in r4 and on.

    Buffers that share bytes become one segment.  A call that is not in the table gets no memory.  The
    request returns the answer whatever its status is; a bad status is not raised as an error.  Raises
    ValueError for values that do not fit into nine 64-bit registers.
    """
    # A front end may know only the registers that the call uses. The others become 0.
    padded = (*registers, *(0,) * (9 - len(registers)))
    spec = _ROW_OF.get(opcode)
    ranges = _ranges(spec, padded, memory) if spec else ()
    return raw_call(opcode, padded, [_segment(piece, memory) for piece in _merged(ranges)])


def deliver(answer: HReturn, memory: GuestMemory) -> None:
    """Copy the writes of a call into guest memory."""
    for address, data in answer.writes:
        memory.write(address, data)


def argument_count(opcode: int) -> int:
    """Return how many registers from r4 on the call takes.

    The result is 0 for a call that the table does not have.
    """
    spec = _ROW_OF.get(opcode)
    return len(spec.args) if spec else 0


def _ranges(spec: HCallSpec, registers: Sequence[int], memory: GuestMemory) -> Iterator[_Range]:
    """Yield the memory of each buffer of a call.

    A buffer is left out if the guest lacks a part of it, or if it is too long for a frame.
    """
    for arg in spec.args:
        if not (arg.kind.readable or arg.kind.writable):
            continue
        start = registers[arg.place]
        length = _length(spec, arg, registers, memory)
        written = arg.kind.writable
        # An output buffer does not travel with the call. So its length is bounded only by the size of the
        # length field.
        longest = _LONGEST_OUTPUT if written else LONGEST_INPUT
        if 0 < length <= longest and start + length <= ADDRESS_SPACE and memory.holds(start, length):
            yield _Range(start, start + length, Access.OUT if written else Access.IN)


def _length(spec: HCallSpec, arg: Arg, registers: Sequence[int], memory: GuestMemory) -> int:
    if arg.length:
        return registers[spec.arg(arg.length).place]
    return _block_length(registers[arg.place], memory)


def _block_length(address: int, memory: GuestMemory) -> int:
    """Return the length of the authorization block.

    If the guest has only a part of the block in memory, return the length of the header.  If it lacks a
    part of the header too, return 0.
    """
    # The guest may have put any number into the register.
    if address + _HEADER > ADDRESS_SPACE or not memory.holds(address, _HEADER):
        return 0
    length = _HEADER + int.from_bytes(memory.read(address, _HEADER)[_PASSWORD_LENGTH], "big")
    # If the password is not in memory, only the header is sent. The engine then refuses the block, as
    # it refuses any wrong length.
    whole = address + length <= ADDRESS_SPACE and memory.holds(address, length)
    return length if whole else _HEADER


def _merged(ranges: Iterable[_Range]) -> list[_Range]:
    """Return the ranges in order of their addresses; ranges that share a byte are one range."""
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
