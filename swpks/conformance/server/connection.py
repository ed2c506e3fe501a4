"""One raw connection to the judged server: it sends any bytes, and receives frames with a deadline.

A client library refuses to send a malformed frame.  The judge must send them, so it has its own connection.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable
from typing import NamedTuple

from hcall_abi import proof
from hcall_abi.codec import decode, encode
from hcall_abi.errors import PeerError
from hcall_abi.frames import (
    MAGIC,
    MAX_BODY,
    NONCE_SIZE,
    VERSION,
    Frame,
    FrameType,
    Goodbye,
    GoodbyeReason,
    Hello,
    Open,
    Opened,
    ProofKind,
)
from swpks.conformance.case import Deviation

_HEADER = struct.Struct(">4sBBHII")
_SHOWN = 24
"""Most bytes of a frame that a dialogue shows: the header, and the first 8 of the body."""
TEXT = "swpks conformance"
"""The name that the judge gives in OPEN."""


class ServerPlace(NamedTuple):
    """The address of the judged server, and how the judge connects to it.

    `address` is the path of a Unix socket or (host, port).  `patience` is the longest time in seconds for one
    answer.
    """

    address: str | tuple[str, int]
    access_key: bytes | None = None
    partition: int = 0
    patience: float = 5.0
    dial: Callable[[], socket.socket] | None = None
    """Makes the connection in place of `address`, for a server without a listening socket."""

    @property
    def over_tcp(self) -> bool:
        """Whether the address is TCP, where the server must demand a proof."""
        return isinstance(self.address, tuple)

    def __repr__(self) -> str:
        return f"ServerPlace({self.address!r}, partition={self.partition})"


class EndOfStream(Deviation):
    """The server closed the stream where the contract demands a frame."""


class NoAnswer(Deviation):
    """The server sent nothing during `patience` seconds."""


class RawConnection:
    """A connection; `note` gets a line without secrets for each frame sent or received."""

    def __init__(self, place: ServerPlace, note: Callable[[str], None]) -> None:
        self._place = place
        self._note = note
        self._buffer = b""
        self._socket = _connected(place)

    def send(self, data: bytes, words: str = "") -> None:
        """Send bytes as they are; `words` describe them in the dialogue.

        A server may close before it has read all bytes, so an error of the socket is no deviation here.
        """
        self._note(f"-> {words or _hex(data)}")
        self._socket.settimeout(self._place.patience)
        try:
            self._socket.sendall(data)
        except TimeoutError:
            self._note(f"   the server has not read it within {self._place.patience:.1f} s")
        except OSError:
            self._note("   the server has closed")

    def hello(self) -> Hello:
        """Return the HELLO; Deviation if another frame comes first."""
        frame = self.frame("HELLO")
        if not isinstance(frame, Hello):
            raise Deviation("HELLO at once after the connection", _name(frame))
        return frame

    def open(self, hello: Hello, *, tag: int = 1, partition: int | None = None) -> Opened:
        """Send a right OPEN and return its OPENED; Deviation if the server's proof is wrong."""
        opening, nonce = self.opening(hello, tag=tag, partition=partition)
        self.send(encode(opening), f"OPEN partition {opening.partition}, proof kind {opening.proof_kind}")
        opened = self.opened()
        key = self._place.access_key
        # The proof of a refusal is zeros: a server proves nothing to a client that it refuses.
        if key and opened.status == 0:
            right = proof.server_proof(key, hello.nonce, nonce, opening.partition)
            if not proof.proofs_equal(opened.proof, right):
                raise Deviation("the server's proof of the access key in OPENED", "another proof")
        return opened

    def opening(self, hello: Hello, *, tag: int = 1, partition: int | None = None) -> tuple[Open, bytes]:
        """Return a right OPEN and its nonce."""
        number = self._place.partition if partition is None else partition
        key, nonce = self._place.access_key, os.urandom(NONCE_SIZE)
        if key is None:
            return Open(tag, number, ProofKind.NONE, nonce, proof.NO_PROOF, TEXT), nonce
        shown = proof.client_proof(key, hello.nonce, nonce, number)
        return Open(tag, number, ProofKind.HMAC_SHA256, nonce, shown, TEXT), nonce

    def opened(self) -> Opened:
        """Return the next frame, which must be OPENED."""
        frame = self.frame("OPENED")
        if not isinstance(frame, Opened):
            raise Deviation("OPENED", _name(frame))
        return frame

    def frame(self, awaited: str = "a frame") -> Frame:
        """Return the next frame of the server.

        Raises Deviation for a malformed frame, EndOfStream for the end of the stream, and NoAnswer if nothing
        comes during `patience` seconds.
        """
        # The header is checked before the body is read: a wrong length would make the judge wait for missing
        # bytes.
        deadline = self._deadline()
        header = self._bytes(_HEADER.size, awaited, deadline)
        magic, version, kind, flags, tag, length = _HEADER.unpack(header)
        if (magic, version, flags) != (MAGIC, VERSION, 0) or kind not in list(FrameType) or length > MAX_BODY:
            raise Deviation("a right frame header", f"the header {header.hex()}")
        if tag and kind in (FrameType.HELLO, FrameType.GOODBYE):
            raise Deviation(f"tag 0 in {FrameType(kind).name}", f"tag {tag}")
        body = self._bytes(length, awaited, deadline)
        try:
            frame = decode(kind, tag, body, 0, length)
        except PeerError as error:
            raise Deviation(f"a right {FrameType(kind).name} ({error.rule.sentence})", str(error)) from None
        self._note(f"<- {_words(frame)}")
        return frame

    def expect_goodbye(self, reason: int) -> None:
        """Read a GOODBYE with this reason, and the end of the stream; Deviation for anything else."""
        frame = self.frame("GOODBYE")
        if not isinstance(frame, Goodbye) or frame.reason != reason:
            raise Deviation(f"GOODBYE with reason {reason}", _words(frame))
        self.expect_end()

    def expect_closed(self) -> None:
        """Read the end of the stream, with or without a GOODBYE 1 before it.

        A server may close before it reads the frame that breaks the protocol; then it sends no GOODBYE.
        """
        try:
            self.expect_goodbye(GoodbyeReason.PROTOCOL_ERROR)
        except EndOfStream:
            return

    def expect_end(self) -> None:
        """Read the end of the stream; Deviation for any byte before it."""
        if self._buffer or (rest := self._received("the end of the stream", self._deadline())):
            raise Deviation("the end of the stream", f"further bytes: {_hex(self._buffer or rest)}")
        self._note("<- end of the stream")

    def end_sending(self) -> None:
        """End the stream from the judge to the server; the server can still answer."""
        self._note("-> end of the stream")
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the connection without a GOODBYE."""
        self._socket.close()

    def _bytes(self, count: int, awaited: str, deadline: float) -> bytes:
        while len(self._buffer) < count:
            received = self._received(awaited, deadline)
            if not received:
                inside = " inside a frame" if self._buffer else ""
                raise EndOfStream(awaited, f"the end of the stream{inside}")
            self._buffer += received
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def _deadline(self) -> float:
        return time.monotonic() + self._place.patience

    def _received(self, awaited: str, deadline: float) -> bytes:
        """Return the next bytes, b"" at the end of the stream; a connection reset counts as the end."""
        # All pieces have one deadline.  Otherwise a server that sends single bytes could delay the run for
        # hours.
        self._socket.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            return self._socket.recv(1 << 18)
        except TimeoutError:
            came = f"only {len(self._buffer)} bytes" if self._buffer else "nothing"
            raise NoAnswer(awaited, f"{came} within {self._place.patience:.1f} s") from None
        except ConnectionError:
            # If a server closes with unread bytes, its kernel sends a reset.  The server can't prevent that.
            return b""


def _connected(place: ServerPlace) -> socket.socket:
    if place.dial is not None:
        return place.dial()
    if isinstance(place.address, tuple):
        made = socket.create_connection(place.address, place.patience)
        # Small pieces are sent one by one on purpose; Nagle's algorithm would join them.
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(place.patience)
    try:
        made.connect(place.address)
    except BaseException:
        made.close()
        raise
    return made


def _hex(data: bytes) -> str:
    more = f" ... {len(data)} bytes" if len(data) > _SHOWN else ""
    return data[:_SHOWN].hex() + more


def _name(frame: Frame) -> str:
    return type(frame).__name__.upper()


def _words(frame: Frame) -> str:
    """Describe a frame for the dialogue, without its data; the `repr` of frames shows no secret."""
    if isinstance(frame, Goodbye):
        return f"GOODBYE reason {frame.reason}, {frame.text!r}"
    if isinstance(frame, Hello):
        return f"HELLO versions {frame.lowest} to {frame.highest}, max_body {frame.max_body}, {frame.name!r}"
    return repr(frame)
