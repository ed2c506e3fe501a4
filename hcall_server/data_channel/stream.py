"""A stream over a plain non-blocking socket; every h-call uses it, so it does little.

Trio's own SocketStream takes a lock, checks a closed flag and runs a checkpoint in each operation.  Here one
task owns each connection, so none of that is needed.  The task calls `recv` and `send` directly, and waits
only if the kernel returns EAGAIN.
"""

from __future__ import annotations

import socket

import trio
from trio.abc import Stream
from trio.lowlevel import checkpoint, notify_closing, wait_readable, wait_writable

RECEIVE_SIZE = 64 * 1024
"""Bytes of one receive, at most.  This bounds the calls of a batch, and the memory of a connection."""


class CountedStream(Stream):
    """A stream that knows the unsent bytes of a cancelled `send_all`.

    They are in `unsent`, and may begin in the middle of a frame.
    """

    unsent: bytes | bytearray | memoryview = b""


class SocketStream(CountedStream):
    """A connected stream socket, Unix or TCP, used by one task.

    `receive_some` always lets other tasks run.  `send_all` lets other tasks run only when it has to wait.
    That is enough, because the task calls `receive_some` between two sends.  If the peer is gone,
    `trio.BrokenResourceError` is raised, as by any Trio stream.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.descriptor = sock.fileno()
        self._socket = sock
        self._recv = sock.recv
        self._send = sock.send
        self._drained = True

    def __repr__(self) -> str:
        return f"SocketStream({self._socket.fileno()})"

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return the received bytes, at most `max_bytes`; b"" at the end of the stream."""
        size = max_bytes or RECEIVE_SIZE
        while True:
            try:
                if self._drained:
                    await wait_readable(self._socket)
                else:
                    await checkpoint()
                data = self._recv(size)
            except BlockingIOError:
                self._drained = True
                continue
            except OSError as error:
                raise _broken(error) from error
            # A short read has emptied the socket.  Another read at once would be useless.
            self._drained = len(data) < size
            return data

    def receive_now(self) -> bytes | None:
        """Return received bytes, at most RECEIVE_SIZE; None if none have arrived.

        b"" at the end of the stream.
        """
        try:
            return self._recv(RECEIVE_SIZE)
        except BlockingIOError:
            return None
        except OSError as error:
            raise _broken(error) from error

    def send_now(self, data: bytes) -> int:
        """Send as many bytes as the socket takes at once; return their number."""
        try:
            return self._send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise _broken(error) from error

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`; waits only while the socket takes no more."""
        try:
            sent = self._send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise _broken(error) from error
        if sent != len(data):
            await self._send_rest(memoryview(data)[sent:])

    async def _send_rest(self, rest: memoryview) -> None:
        while rest:
            # The wait below may be cancelled.  `unsent` then has the rest of this frame, which must be sent
            # before GOODBYE.
            self.unsent = rest
            try:
                await wait_writable(self._socket)
                rest = rest[self._send(rest) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise _broken(error) from error
        self.unsent = b""

    async def wait_send_all_might_not_block(self) -> None:
        """Return when the socket takes bytes again."""
        try:
            await wait_writable(self._socket)
        except OSError as error:
            raise _broken(error) from error

    def close(self) -> None:
        """Close the socket at once; a task that waits for it gets `trio.ClosedResourceError`."""
        if self._socket.fileno() >= 0:
            notify_closing(self._socket)
            self._socket.close()

    async def aclose(self) -> None:
        """Close the socket, then let other tasks run."""
        self.close()
        await checkpoint()


def _broken(error: OSError) -> trio.BrokenResourceError:
    """Return Trio's error for a broken connection."""
    return trio.BrokenResourceError(f"the connection is gone: {error.strerror or error}")
