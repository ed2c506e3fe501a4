"""Byte streams in memory with a limited buffer; they are quicker than those of `trio.testing`."""

from __future__ import annotations

import trio

ROOMY = 1 << 20
"""Bytes of a buffer: more than a simulation ever sends at once, so a send does not wait for the reader."""


class Pipe(trio.abc.Stream):
    """One end of a stream; `limit` is the size in bytes of its buffer for arriving bytes."""

    def __init__(self, limit: int) -> None:
        self.peer = self
        self._limit = limit
        self._arrived = bytearray()
        self._closed = False
        self._changed: trio.Event | None = None

    def __repr__(self) -> str:
        return f"Pipe({'closed' if self._closed else 'open'}, {len(self._arrived)} bytes)"

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes, and wait while the buffer of the other end is full."""
        await trio.lowlevel.checkpoint()
        rest, peer = memoryview(data), self.peer
        while not self._closed:
            if peer._closed:
                raise trio.BrokenResourceError("the other end is closed")
            room = peer._limit - len(peer._arrived)
            peer._arrived += rest[:room]
            rest = rest[room:]
            peer._wake()
            if not rest:
                return
            await self._change()
        raise trio.ClosedResourceError("this end is closed")

    async def wait_send_all_might_not_block(self) -> None:
        """Return when the other end has room for a byte, or one end is closed."""
        await trio.lowlevel.checkpoint()
        while not (self._closed or self.peer._closed or len(self.peer._arrived) < self.peer._limit):
            await self._change()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return bytes that have arrived, b"" if the other end is closed."""
        # Trio demands a checkpoint in each call of a stream; the wait below is a checkpoint too.
        if self._closed or self._arrived or self.peer._closed:
            await trio.lowlevel.checkpoint()
        while not (self._closed or self._arrived or self.peer._closed):
            await self._change()
        if self._closed:
            raise trio.ClosedResourceError("this end is closed")
        data = bytes(self._arrived[:max_bytes])
        del self._arrived[:max_bytes]
        self.peer._wake()
        return data

    async def aclose(self) -> None:
        """Close this end."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Close this end without a checkpoint; the other end can still read the bytes that were sent."""
        self._closed = True
        self._wake()
        self.peer._wake()

    async def _change(self) -> None:
        if self._changed is None:
            self._changed = trio.Event()
        await self._changed.wait()

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None


def pipes(limit: int = ROOMY) -> tuple[Pipe, Pipe]:
    """Return the two ends of a new stream."""
    one, other = Pipe(limit), Pipe(limit)
    one.peer, other.peer = other, one
    return one, other
