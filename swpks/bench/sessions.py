"""Sessions that send encoded frames, many in one send, and return complete answers."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Self

from hcall_abi.codec import HEADER_LAYOUT, decode, encode
from hcall_abi.frames import Goodbye, GoodbyeReason, HReturn
from hcall_client.blocking import BlockingChannel
from hcall_client.errors import ConnectionLost, SessionEnded
from hcall_client.unix import connect_unix

RECEIVE_SIZE = 1 << 18


class BenchSession:
    """A session whose open socket this class reads and writes directly.

    `timeout` is in seconds.  It limits the opening, each receive and each send.  After it, TimeoutError is
    raised.
    """

    def __init__(self, path: str | os.PathLike[str], timeout: float) -> None:
        self._socket = connect_unix(path)
        try:
            BlockingChannel.connect(self._socket, name="swpks bench", timeout=timeout)
        except BaseException:
            self._socket.close()
            raise
        self._socket.settimeout(timeout)
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Send GOODBYE and wait until the server has closed; then no call of this session still runs."""
        with self._socket, suppress(OSError):
            self._socket.sendall(encode(Goodbye(GoodbyeReason.DONE, "")))
            self._socket.shutdown(socket.SHUT_WR)
            while self._socket.recv(RECEIVE_SIZE):
                pass

    def fileno(self) -> int:
        """Return the descriptor of the socket."""
        return self._socket.fileno()

    def send(self, frames: bytes) -> None:
        """Send whole frames; ConnectionLost if the server has closed the session."""
        try:
            self._socket.sendall(frames)
        except TimeoutError:
            raise
        except OSError:
            self.receive()  # raises SessionEnded with the reason, if a GOODBYE was received
            raise ConnectionLost() from None

    def receive(self) -> list[HReturn]:
        """Receive once, and return the complete answers: successes and refusals.

        Raises SessionEnded for a GOODBYE, ConnectionLost at the end of the stream.
        """
        try:
            piece = self._socket.recv(RECEIVE_SIZE)
        except TimeoutError:
            raise
        except OSError:
            piece = b""
        if not piece:
            raise ConnectionLost()
        return list(self._answers(self._rest + piece))

    def _answers(self, data: bytes) -> Iterator[HReturn]:
        at = 0
        while len(data) - at >= HEADER_LAYOUT.size:
            _, _, kind, _, tag, length = HEADER_LAYOUT.unpack_raw(data, at)
            start = at + HEADER_LAYOUT.size
            end = start + length
            if end > len(data):
                break
            frame = decode(kind, tag, data, start, end)
            if isinstance(frame, Goodbye):
                raise SessionEnded(frame.reason, frame.text)
            if isinstance(frame, HReturn):
                yield frame
            at = end
        self._rest = data[at:]
