"""A data channel without I/O: bytes in, events out; frames in, bytes out.

Both ends use it.  A session cuts the stream into frames, and joins frames to a stream.  `hcall_abi.exchange`
checks the order of frames: every event and every sent frame takes a step of its table.

The session takes bytes in pieces of any size.  It holds at most one unfinished frame and the last piece.  So
its memory is bounded by the header, the largest body and the size of one receive.  Each byte is copied a
fixed number of times, for pieces of any size.
"""

# Bytes to frames, with bounded memory
#
# A peer chooses how it cuts its stream: one byte at a time, or a thousand calls in one piece. It also
# chooses the lengths in the headers. This module must stay correct, fast and small for all of these:
#
#   1. A frame is refused by its header as soon as the header is there. No byte of a body is stored for a
#      frame that its header forbids.
#   2. Memory is bounded by one header, one largest body and one receive.
#   3. Each byte is copied a fixed number of times. So a peer that sends single bytes slows down only
#      itself.
#
# There are two stores. `data` is the last piece, read in place from `_position` on. In the usual case all
# frames of a piece are whole, so nothing is copied. `_partial` collects an unfinished frame until `_needed`
# bytes are there, and then becomes `data`. `_needed` is a header at first, and the whole frame once the
# header has been read.
#
# `spans` is for the server. It returns the calls of a window as offsets, without a frame object and without
# a step of the exchange. It stops in front of everything that is not a whole HCALL with a good header. So
# each check of `next_event` still meets every frame that could break a rule.

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

from hcall_abi.codec import (
    HEADER_LAYOUT,
    ProtocolError,
    decode,
    encode,
)
from hcall_abi.errors import SwpksError
from hcall_abi.exchange import Event, Exchange, OtherVersion, OutOfTurn, Role, SessionState
from hcall_abi.frames import (
    MAGIC,
    MAX_BODY,
    VERSION,
    Frame,
    FrameType,
    Goodbye,
    GoodbyeReason,
    HCall,
    Hello,
)
from hcall_abi.rules import protocol as rules
from hcall_abi.rules.rule import Rule

# `Event`, `OtherVersion`, `Role` and `SessionState` are defined in `hcall_abi.exchange`. `Session` takes or
# returns their values. So a user of `Session` can import all names from this module.
__all__ = ["Event", "LocalProtocolError", "OtherVersion", "Role", "Session", "SessionState", "complaint"]

_OPEN, _CLOSED = SessionState.OPEN, SessionState.CLOSED
_KNOWN_TYPES = frozenset(int(kind) for kind in FrameType)
_HEADER_SIZE = HEADER_LAYOUT.size
_HCALL_START = HEADER_LAYOUT.pack(VERSION, int(FrameType.HCALL), 0, 0)[:8]
"""The first 8 bytes of every HCALL: magic, version, type and flags."""
_TAG_AND_LENGTH = Struct(">II").unpack_from
_LONGEST_TEXT = 255
"""Longest text of a GOODBYE, in bytes of UTF-8."""


Span = tuple[int, int, int]
"""An h-call that waits: its tag, and the start and end of its body in `Session.data`."""


class LocalProtocolError(Exception):
    """This side has a bug: it tried to send a frame that the protocol does not allow now."""

    def __init__(self, rule: Rule, message: str) -> None:
        super().__init__(f"{message} [rule {rule.id}: {rule.sentence}; see {rule.page}]")
        self.rule = rule


_BEFORE_CALLS = (SessionState.START, SessionState.GREETED, SessionState.OPENING)
"""The states in which no frame has guest memory."""


def complaint(error: SwpksError) -> Goodbye:
    """Return the GOODBYE for a peer that broke the protocol: reason 1, and the rule in its text."""
    text = f"{error.rule.id}: {error.message}; {error.rule.sentence}"
    # The text is cut at a number of bytes. A character that was cut in its middle is removed, because it
    # would break `goodbye.text`.
    shortened = text.encode()[:_LONGEST_TEXT].decode(errors="ignore")
    return Goodbye(int(GoodbyeReason.PROTOCOL_ERROR), shortened)


class Session:
    """One end of one data channel.

    `max_body` is the largest body in bytes that this end accepts.  Give received bytes to
    `receive_data`, then take events from `events`.  A ProtocolError from there is final: send GOODBYE 1 and
    close.
    """

    def __init__(self, role: Role, *, max_body: int = MAX_BODY) -> None:
        self.role = role
        self.peer = Role.CLIENT if role is Role.SERVER else Role.SERVER
        self.max_body = max_body
        self._exchange = Exchange()
        self._serves = role is Role.SERVER
        self._peer_max_body = MAX_BODY
        self.data = b""
        """The received bytes that `spans` point into."""
        self._position = 0
        self._partial = bytearray()
        self._needed = _HEADER_SIZE

    def __repr__(self) -> str:
        return f"Session({self.role.value}, {self.state.value})"

    @property
    def state(self) -> SessionState:
        """The state of the session."""
        return self._exchange.state

    @property
    def buffered(self) -> int:
        """How many received bytes wait for the rest of their frame, or to be taken as events."""
        return len(self._partial) + len(self.data) - self._position

    @property
    def unread(self) -> bytes:
        """The received bytes that wait (`buffered`)."""
        return bytes(self._partial) + self.data[self._position :]

    @property
    def pending(self) -> int:
        """How many calls have been sent and not yet answered."""
        return self._exchange.pending

    def receive_data(self, data: bytes | bytearray | memoryview) -> None:
        """Take received bytes; `events` then returns their frames.

        Take all events before the next bytes: unread bytes have to be copied.  Bytes after the end of the
        session are dropped.
        """
        if self._exchange.state is _CLOSED:
            return
        # The caller has not taken these bytes yet. Without the copy they would be lost with the old `data`.
        if self._position < len(self.data):
            self._wait_for(_HEADER_SIZE)
        if self._partial:
            self._partial += data
            return
        self.data = bytes(data)
        self._position = 0

    def receive_eof(self) -> None:
        """Take the end of the stream; ProtocolError when it comes inside a frame."""
        # In state `closed`, left-over bytes are no error: the peer sent them before it read our GOODBYE.
        if self.buffered and self.state is not SessionState.CLOSED:
            raise ProtocolError(rules.FRAME_WHOLE, "the stream ended inside a frame")
        self._exchange.end()

    def events(self) -> Iterator[Event]:
        """Yield one event for each whole frame received.

        Each event is checked when it is taken, against the state at that moment. So answer an OPEN before
        you take the next event.
        """
        while (event := self.next_event()) is not None:
            yield event

    def next_event(self) -> Event | None:
        """Return the next of the `events`, None when there is no whole frame."""
        return self._next_event() if self._exchange.state is not _CLOSED else None

    def spans(self, most: int) -> list[Span]:
        """Return the places of up to `most` complete HCALL frames that come next, without decoding them.

        This is for a server, which answers them in order. The spans point into `data`, which stays until
        the next `receive_data`. They end before the first frame that is no whole HCALL, or is not legal.
        `next_event` returns that frame, or raises its error.
        """
        spans: list[Span] = []
        if not self._serves or self._exchange.state is not _OPEN:
            return spans
        if len(self._partial) >= self._needed:
            self._take_partial()
        data, start = self.data, self._position
        size, longest = len(data), self.max_body
        # One comparison checks magic, version, type and flags.
        while data.startswith(_HCALL_START, start) and len(spans) < most:
            body = start + _HEADER_SIZE
            if body > size:
                break
            tag, length = _TAG_AND_LENGTH(data, start + 8)
            end = body + length
            if end > size or length > longest:
                break
            spans.append((tag, body, end))
            start = end
        self._position = start
        return spans

    def send(self, frame: Frame) -> bytes:
        """Return the bytes of `frame`; LocalProtocolError when it may not be sent now."""
        # The frame is encoded before the step: if a frame can't be built, the state must not change.
        data = encode(frame)
        size = len(data) - _HEADER_SIZE
        if size > self._peer_max_body and type(frame) is HCall:
            message = f"a body of {size} bytes, {self._peer_max_body} are the most"
            raise LocalProtocolError(rules.CALL_SIZE, message)
        try:
            self._exchange.step(self.role, frame)
        except OutOfTurn as broken:
            raise LocalProtocolError(broken.rule, broken.message) from None
        return data

    def _next_event(self) -> Event | None:
        data, start = self.data, self._position
        body = start + _HEADER_SIZE
        if len(data) < body:
            return self._resume()
        magic, version, kind, flags, tag, length = HEADER_LAYOUT.unpack_raw(data, start)
        try:
            self._check_header(magic, version, kind, flags, tag)
        except OutOfTurn as broken:
            raise ProtocolError(broken.rule, broken.message) from None
        if length > self.max_body:
            raise ProtocolError(rules.FRAME_LENGTH, f"a body of {length} bytes, {self.max_body} are the most")
        end = body + length
        if len(data) < end:
            self._wait_for(_HEADER_SIZE + length)
            return None
        # A body of another version has an unknown layout, so it is skipped by its length.
        event = decode(kind, tag, data, body, end) if version == VERSION else OtherVersion(tag, version)
        # The position moves last: a frame that breaks a rule stays, and a second call refuses it again.
        self._follow(event)
        self._position = end
        return event

    def _wait_for(self, size: int) -> None:
        """Put an unfinished frame aside until `size` bytes of it have come."""
        self._needed = size
        if self._position < len(self.data):
            self._partial = bytearray(self.data[self._position :])
            self.data = b""
            self._position = 0

    def _resume(self) -> Event | None:
        """Return the next event once the frame that was put aside is complete, None before."""
        if not self._partial:
            self._wait_for(_HEADER_SIZE)
        if len(self._partial) < self._needed:
            return None
        self._take_partial()
        return self._next_event()

    def _take_partial(self) -> None:
        self.data = bytes(self._partial)
        self._position = 0
        self._partial = bytearray()

    def _check_header(self, magic: bytes, version: int, kind: int, flags: int, tag: int) -> None:
        """Refuse a frame by its header alone, before its body has come."""
        if magic != MAGIC:
            raise ProtocolError(rules.FRAME_MAGIC, self._bad_magic(magic))
        # The version is checked before flags and type: only magic, version and length mean the same in every
        # version.
        if version != VERSION:
            if not self._exchange.skips(self.peer, kind):
                raise ProtocolError(rules.FRAME_VERSION, f"a frame of version {version}")
            return
        if flags:
            raise ProtocolError(rules.FRAME_FLAGS, f"flags 0x{flags:04X}")
        if kind not in _KNOWN_TYPES:
            raise ProtocolError(rules.FRAME_TYPE, f"frame type {kind}")
        self._exchange.admit(self.peer, kind, tag)

    def _bad_magic(self, magic: bytes) -> str:
        """Return the finding for a wrong magic; its bytes only if they can't be of a secret."""
        # In a session they may be object data, behind a frame whose length is wrong.
        if self.state not in _BEFORE_CALLS:
            return "bad magic where the frame before it ends"
        text = magic.decode("ascii", "replace")
        return f"bad magic {magic.hex(' ')}{f' ({text!r})' if text.isprintable() else ''}"

    def _follow(self, event: Event) -> None:
        """Take the exchange's step for a whole frame of the peer."""
        try:
            self._exchange.step(self.peer, event)
        except OutOfTurn as broken:
            raise ProtocolError(broken.rule, broken.message) from None
        if type(event) is Hello:
            self._peer_max_body = event.max_body
