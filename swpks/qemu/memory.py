"""Guest memory for synchronous code: it has only the pieces that the bridge has read already."""

# Why a call is marshalled again and again
#
# `hcall_client.marshal` is synchronous, but a read through the stub is not.  So the call is marshalled again
# and again.  If it needs memory that was not read yet, it raises `NotRead`, and the bridge reads that piece.
# A call has five buffers at most, so this ends soon.

from __future__ import annotations

from collections.abc import Awaitable, Callable

from hcall_abi.frames import HReturn
from hcall_client.marshal import marshal
from hcall_client.request import Request

ReadMemory = Callable[[int, int], Awaitable[bytes]]
"""Reads guest memory: an address and a length in bytes."""


class NotRead(Exception):
    """The call needs memory that the bridge has not read yet."""

    def __init__(self, address: int, length: int) -> None:
        super().__init__(f"{length} bytes at 0x{address:X}")
        self.address = address
        self.length = length


class SeenMemory:
    """The pieces that the bridge has read from a guest's memory of `size` bytes, which begins at 0."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._pieces: dict[tuple[int, int], bytes] = {}

    def holds(self, address: int, length: int) -> bool:
        """Return whether all these bytes lie inside the guest's memory."""
        # A buffer outside of memory becomes no segment; the server then returns the status of that argument.
        return address + length <= self._size

    def read(self, address: int, length: int) -> bytes:
        """Return a piece that was read with this address and length; NotRead for any other."""
        try:
            return self._pieces[address, length]
        except KeyError:
            raise NotRead(address, length) from None

    def write(self, address: int, data: bytes) -> None:
        """Store a changed piece; later reads return the change."""
        self.see(address, data)

    def see(self, address: int, data: bytes) -> None:
        """Store a piece that the bridge has read."""
        self._pieces[address, len(data)] = data


async def marshal_slowly(
    opcode: int, registers: tuple[int, ...], memory: SeenMemory, read: ReadMemory
) -> Request[HReturn]:
    """Return the call of a guest; read each piece of guest memory that the call needs."""
    # The loop calls the synchronous `marshal`.  An asynchronous copy would be a second version of the rules
    # for buffers.
    while True:
        try:
            return marshal(opcode, registers, memory)
        except NotRead as wanted:
            memory.see(wanted.address, await read(wanted.address, wanted.length))
