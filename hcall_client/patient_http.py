"""HTTP of Python's own library over a Unix socket, with one timeout for the whole request.

A command starts faster with this library than with httpx. But the timeout of `http.client` begins again
with each piece of an answer. A server that sends single bytes would never be too late. So this module has a
timeout of its own.
"""

from __future__ import annotations

import io
import select
import socket
import time
from http.client import HTTPConnection, HTTPResponse, IncompleteRead
from typing import cast

from hcall_client.patience import Attempts, Patience, milliseconds
from hcall_client.unix import connect_unix

LARGEST_ANSWER = 32 << 20
"""Bytes of an answer at most: a copy in base64 takes far less."""
LARGEST_HEAD = 1 << 20
"""Bytes of its header at most; `http.client` takes 100 lines of 64 KiB, and any number of interim answers."""


class WrongAnswer(Exception):
    """An answer that has no length, or a wrong one, or is too large."""


def content_of(answer: HTTPResponse) -> bytes:
    """Return the body of an answer; WrongAnswer, or IncompleteRead if it ends too early.

    The stated length is checked first, because `http.client` allocates as many bytes as the answer states.
    """
    # A body without a length ends with its connection. If the connection broke, the part that came would look
    # complete.
    if answer.length is None and not answer.chunked:
        raise WrongAnswer("a body without a length")
    if (answer.length or 0) > LARGEST_ANSWER:
        raise WrongAnswer(f"a body of more than {LARGEST_ANSWER} bytes")
    # One byte more than allowed is read. A chunked body has no stated length, so only this byte shows that it
    # is too large.
    content = answer.read(LARGEST_ANSWER + 1)
    if len(content) > LARGEST_ANSWER:
        raise WrongAnswer(f"a body of more than {LARGEST_ANSWER} bytes")
    if answer.length:
        raise IncompleteRead(content, answer.length)
    return content


class UnixConnection(HTTPConnection):
    """A connection to the Unix socket at `path`.

    All its operations share `patience`, and raise TimeoutError when that time is used up.
    """

    def __init__(self, host: str, path: str, patience: Patience) -> None:
        super().__init__(host)
        self._path = path
        self._patience = patience

    def connect(self) -> None:
        """Connect; while the queue of the server is full, try again."""
        # Only a full queue leads to another attempt. `Attempts` raises every other error.
        attempts = Attempts(self._patience)
        while True:
            try:
                connected = _PatientSocket(connect_unix(self._path), self._patience)
            except OSError as error:
                time.sleep(attempts.pause_after(error))
            else:
                # A cast is enough: `http.client` uses only the three methods that this class has.
                self.sock = cast(socket.socket, connected)
                return


class _PatientSocket:
    """The part of a socket that `http.client` uses, on a socket that does not block."""

    def __init__(self, sock: socket.socket, patience: Patience) -> None:
        self._socket = sock
        self._patience = patience
        self._poll = select.poll()
        self._received = 0
        self._broken: OSError | None = None
        # The number of users of the socket: the connection, and each file of `makefile`.
        self._open = 1

    def sendall(self, data: bytes) -> None:
        """Send all bytes, in time; if the server has closed the connection, `receive_into` may raise that."""
        rest = memoryview(data)
        while rest:
            self._wait(select.POLLOUT)
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:  # a Unix socket may be writable and have too little room
                continue
            except (BrokenPipeError, ConnectionResetError) as error:
                # A server may refuse a request by its header, and close before it has read the body.  Its
                # answer, which has the reason, is in this socket.
                self._broken = error
                return

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return a file that reads the received bytes.

        The socket is closed after this object and all its files are closed.
        """
        self._open += 1
        return io.BufferedReader(_Received(self))

    def receive_into(self, buffer: memoryview) -> int:
        """Wait for bytes, in time; return how many there are, 0 at the end."""
        while True:
            self._wait(select.POLLIN)
            try:
                size = self._socket.recv_into(buffer)
            except BlockingIOError:
                continue
            # All answers together are bounded: `http.client` skips any number of interim answers (1xx).
            self._received += size
            if self._broken and not self._received:
                raise self._broken
            if self._received > LARGEST_HEAD + LARGEST_ANSWER:
                raise WrongAnswer(f"more than {LARGEST_HEAD + LARGEST_ANSWER} bytes")
            return size

    def close(self) -> None:
        """Close the socket, unless a file still reads it.

        If a body ends with the connection, `http.client` calls this before it reads the body.
        """
        self._open -= 1
        if self._open <= 0:
            self._socket.close()

    def _wait(self, event: int) -> None:
        """Wait until the socket is ready.

        TimeoutError when the time is over, even if the socket is ready at that moment.
        """
        # `look` raises when the time is over, also if the socket is ready. So single bytes can't extend
        # the time.
        self._poll.register(self._socket, event)
        while not self._poll.poll(milliseconds(self._patience.look())):
            pass


class _Received(io.RawIOBase):
    """A file over the received bytes of a patient socket."""

    def __init__(self, sock: _PatientSocket) -> None:
        self._patient = sock

    def readable(self) -> bool:
        """Return True: `io.BufferedReader` demands it."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # BufferedReader gives one
        """Read the bytes that are there, at least one; return their number, 0 at the end."""
        return self._patient.receive_into(buffer)

    def close(self) -> None:
        """Close the file; the socket is closed after its last user."""
        if not self.closed:
            self._patient.close()
        super().close()
