"""A thin proxy between the judge and a right server: it changes, drops, delays or reorders one thing.

The proxy is no process and has no thread: it replaces the judge's socket.  So a mutant costs no more than the
calls of its chapter.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from hcall_abi.codec import decode, encode
from hcall_abi.frames import MAX_BODY, Frame, FrameType, HCall, HReturn

HEADER = 16
RIGHT_CALL = b"HCAL\1\4\0\0"
"""The first bytes of a right HCALL: magic, version, type, flags."""

Answers = Callable[["Passing", Frame], list[Frame | bytes] | None]
"""Return the frames or bytes in place of a server's frame, None for no change."""
Calls = Callable[["Passing", HCall], HCall | None]
"""Return the call in place of a client's, None for no change."""


class Mutant(NamedTuple):
    """A wrong server: the change that makes it wrong, and the chapter whose cases must find it."""

    name: str
    chapter: str
    answers: Answers | None = None
    calls: Calls | None = None

    def __str__(self) -> str:
        return self.name


class Passing:
    """The data that a change may use.

    `call` is the call whose answer is being passed on. The other fields store values of the change itself.
    """

    def __init__(self, shared: dict[str, object]) -> None:
        self.call: HCall | None = None
        self.shared = shared
        """Memory of all connections of the run."""
        self.held: list[Frame | bytes] = []
        """Frames that the mutant delays."""


class ProxySocket:
    """A replacement of the judge's socket, with the methods that `RawConnection` uses."""

    def __init__(self, real: socket.socket, mutant: Mutant, shared: dict[str, object]) -> None:
        self._real = real
        self._mutant = mutant
        self._passing = Passing(shared)
        self._calls: deque[HCall] = deque()
        self._out = b""
        self._in = b""

    def settimeout(self, seconds: float) -> None:
        """Set the time limit of the real socket."""
        self._real.settimeout(seconds)

    def shutdown(self, how: int) -> None:
        """End one direction, after all bytes that were sent."""
        self._real.sendall(self._out)
        self._real.shutdown(how)

    def close(self) -> None:
        """Close the connection."""
        self._real.close()

    def sendall(self, data: bytes) -> None:
        """Send the judge's bytes to the server, after each whole HCALL in them was changed."""
        self._out += data
        for frame in self._frames("_out"):
            self._real.sendall(self._call(frame))
        # An unfinished HCALL waits here until the rest of the frame is sent. Bytes with a wrong header are
        # passed on at once, because the server refuses them at once.
        if not self._begins_call():
            self._real.sendall(self._out)
            self._out = b""

    def _begins_call(self) -> bool:
        head = self._out[:HEADER]
        right = head[:8] == RIGHT_CALL[: len(head[:8])]
        return right and int.from_bytes(head[12:16], "big") <= MAX_BODY

    def recv(self, size: int) -> bytes:
        """Return the server's next bytes, after each whole frame in them was changed."""
        while True:
            received = self._real.recv(size)
            if not received:
                rest, self._in = self._in, b""
                return rest
            self._in += received
            frames = [self._answer(frame) for frame in self._frames("_in")]
            if any(frames):
                return b"".join(frames)
            if frames and not self._passing.held:
                # The mutant dropped a frame. The judge would wait until its time-out. This error ends the
                # wait at once.
                raise TimeoutError

    def _frames(self, name: str) -> Iterator[bytes]:
        """Yield the whole frames in a buffer, and leave the remaining bytes there."""
        while True:
            data: bytes = getattr(self, name)
            end = HEADER + int.from_bytes(data[12:16], "big")
            wrong = name == "_out" and data[:8] != RIGHT_CALL
            if wrong or len(data) < HEADER or len(data) < end:
                return
            setattr(self, name, data[end:])
            yield data[:end]

    def _call(self, data: bytes) -> bytes:
        try:
            call = decode(FrameType.HCALL, int.from_bytes(data[8:12], "big"), data, HEADER, len(data))
        except Exception:
            return data
        assert isinstance(call, HCall)
        self._calls.append(call)
        changed = self._mutant.calls(self._passing, call) if self._mutant.calls else None
        return data if changed is None else encode(changed)

    def _answer(self, data: bytes) -> bytes:
        frame = decode(data[5], int.from_bytes(data[8:12], "big"), data, HEADER, len(data))
        self._passing.call = self._calls.popleft() if isinstance(frame, HReturn) and self._calls else None
        changed = self._mutant.answers(self._passing, frame) if self._mutant.answers else None
        if changed is None:
            return data
        return b"".join(each if isinstance(each, bytes) else encode(each) for each in changed)
