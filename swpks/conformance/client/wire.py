"""The scripted server's end of a data channel: it sends any bytes, and checks all bytes of the client."""

from __future__ import annotations

import fcntl
import os
import re
import select
import socket
import struct
import termios
import time
from typing import Any, TypeVar

from hcall_abi.codec import HEADER_LAYOUT, ProtocolError, decode, encode
from hcall_abi.frames import MAGIC, MAX_BODY, VERSION, Frame, FrameType, Goodbye, GoodbyeReason, HCall, Open
from swpks.conformance.case import Deviation
from swpks.conformance.client.dialogue import Silent, shown

_HEADER = HEADER_LAYOUT.size
_RECEIVE = 1 << 16
_PIECE_SECONDS = 0.02
"""Seconds to wait until the client has read a piece; after that, the rest is sent in larger pieces."""
_CLIENTS = (FrameType.OPEN, FrameType.HCALL, FrameType.GOODBYE)
"""The frames that a client sends."""

_NONCE = re.compile(r"nonce=b(['\"]).*?\1, (?=name=)")

F = TypeVar("F", Open, HCall, Goodbye)


class ServedConnection:
    """One accepted connection; `log` gets a line for each frame that either end sends."""

    def __init__(self, sock: socket.socket, log: list[str], patience: float) -> None:
        self.log = log
        self.max_body = MAX_BODY
        self._socket = sock
        self._patience = patience
        self._received = bytearray()
        self._over = False
        sock.settimeout(patience)

    # Sending

    def say(self, *frames: Frame | bytes) -> None:
        """Send frames, or raw bytes, in one piece."""
        self._tell(frames)
        self._send(b"".join(map(_bytes, frames)))

    def trickle(self, *frames: Frame | bytes, size: int = 1) -> None:
        """Send frames in pieces of `size` bytes; wait after each piece until the client has read it.

        If the client does not read a piece in time, the rest is sent without waiting.
        """
        self._tell(frames)
        data, wait = b"".join(map(_bytes, frames)), True
        for start in range(0, len(data), size):
            self._send(data[start : start + size])
            wait = wait and self._taken()

    def finish(self) -> None:
        """End the stream from server to client.  The client's bytes can still be read."""
        self.log.append("server: the end of the stream")
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the client has closed already

    def close(self) -> None:
        """Close the connection."""
        self._over = True
        self._socket.close()

    def _tell(self, frames: tuple[Frame | bytes, ...]) -> None:
        for each in frames:
            text = f"bytes {each.hex()}" if isinstance(each, bytes) else _summary(each)
            self.log.append(shown(f"server: {text}"))

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except TimeoutError:
            raise Silent("a client that reads", f"nothing read for {self._patience:g} s") from None
        except OSError:
            pass  # the client has closed; the next wait checks the bytes that it sent before

    def _taken(self) -> bool:
        # Without this wait, the kernel would join the pieces into one.
        deadline = time.monotonic() + _PIECE_SECONDS
        # TIOCOUTQ is the number of bytes that the peer has not read yet.
        while struct.unpack("i", fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4)))[0]:
            if time.monotonic() > deadline:
                return False
            os.sched_yield()
        return True

    # Receiving

    @property
    def descriptor(self) -> int | None:
        """The descriptor of the socket; None after the end of the stream or after `close`."""
        return None if self._over else self._socket.fileno()

    @property
    def buffered(self) -> bool:
        """Whether bytes were received that no call has returned yet."""
        return bool(self._received)

    def take(self, kind: type[F]) -> F:
        """Return the next frame; Deviation if it is not of this kind."""
        frame = self._frame()
        if frame is None:
            raise Deviation(kind.__name__.upper(), "the end of the stream")
        if not isinstance(frame, kind):
            raise Deviation(kind.__name__.upper(), _summary(frame))
        return frame

    def goodbye(self, reason: GoodbyeReason, *, text: bool = False) -> None:
        """Take a GOODBYE with this reason, and the end of the stream.

        With `text`, an empty text in the GOODBYE is a Deviation.
        """
        said = self.take(Goodbye)
        if said.reason != reason:
            raise Deviation(f"GOODBYE {int(reason)}", _summary(said))
        if text and not said.text:
            raise Deviation("a GOODBYE whose text names the rule", "an empty text")
        self.gone()

    def gone(self) -> None:
        """Take the end of the stream; Deviation for any byte before it."""
        frame = self._frame()
        if frame is not None:
            raise Deviation("the end of the stream", _summary(frame))

    def rest(self) -> list[Frame]:
        """Return all frames up to the end of the stream."""
        frames = []
        while (frame := self._frame()) is not None:
            frames.append(frame)
        return frames

    def unasked(self) -> Deviation:
        """Return the deviation for bytes that may not come now."""
        frame = self._frame()
        return Deviation(
            "the line of the client", "the end of the stream" if frame is None else _summary(frame)
        )

    def _frame(self) -> Frame | None:
        """Return the next frame, None at the end of the stream; Deviation for a frame that breaks a rule."""
        header = self._read(_HEADER, "the header of a frame")
        if header is None:
            return None
        # Each field is checked alone: the deviation can then name the wrong field, and not only the rule.
        magic, version, kind, flags, tag, length = HEADER_LAYOUT.unpack_raw(header)
        place = f"a frame with the header {header.hex()}"
        _demand(magic == MAGIC, "a frame that begins with HCAL", place)
        _demand(version == VERSION, "a frame of version 1", place)
        _demand(flags == 0, "a frame with flags 0", place)
        _demand(kind in _CLIENTS, "OPEN, HCALL or GOODBYE", place)
        _demand(kind != FrameType.GOODBYE or tag == 0, "GOODBYE with tag 0", place)
        most = f"a body of at most {self.max_body} bytes, the max_body of HELLO"
        _demand(length <= self.max_body, most, f"{length} bytes")
        body = self._read(length, f"a body of {length} bytes") or b""
        try:
            frame = decode(kind, tag, body, 0, length)
        except ProtocolError as error:
            raise Deviation(
                f"a frame of rule {error.rule.id}: {error.rule.sentence}", error.message
            ) from None
        self.log.append(shown(f"client: {_summary(frame)}"))
        return frame

    def _read(self, size: int, what: str) -> bytes | None:
        """Return that number of bytes; None if the stream ends before the first of them."""
        deadline = time.monotonic() + self._patience
        while len(self._received) < size:
            if not self._more(deadline):
                if self._received:
                    raise Deviation(what, f"the end of the stream behind {len(self._received)} bytes of it")
                return None
        data = bytes(self._received[:size])
        del self._received[:size]
        return data

    def _more(self, deadline: float) -> bool:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise Silent("a frame or the end of the stream", f"nothing for {self._patience:g} s")
        try:
            data = self._socket.recv(_RECEIVE)
        except ConnectionError:  # the client closed without reading all our bytes
            data = b""
        self._received += data
        self._over = self._over or not data
        return bool(data)


def _demand(holds: bool, expected: str, came: str) -> None:
    if not holds:
        raise Deviation(expected, came)


def _bytes(frame: Frame | bytes) -> bytes:
    return frame if isinstance(frame, bytes) else encode(frame)


def _summary(frame: Any) -> str:
    """Return a frame in one line; the line begins with the frame's name in capitals."""
    name, _, rest = repr(frame).partition("(")
    # The nonce is left out: it is random, and would be most of the line.
    return f"{name.upper()} ({_NONCE.sub('', rest)}"
