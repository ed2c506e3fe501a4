"""The data channel as a state machine without I/O: bytes in, events out; frames in, bytes out.

Both ends use it.  A session goes through the states below; the table says, for each state, which
frame each role may send and where that leads.  GOODBYE ends a session from every state.

    state       who may send     frame     leads to
    START       server           HELLO     GREETED
    GREETED     client           OPEN      OPENING
    OPENING     server           OPENED    OPEN, or REFUSED for a status other than 0
    OPEN        client           HCALL     OPEN
                server           HRETURN   OPEN
    any         either           GOODBYE   CLOSED

The engine takes bytes in any pieces.  It holds at most one unfinished frame plus the last piece
that it was given: memory is bounded by the header, the largest body and the size of one receive.
Each byte is copied a fixed number of times, however small the pieces are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import Enum
from struct import Struct
from typing import NamedTuple

from hcall_abi.codec import (
    HEADER_LAYOUT,
    ProtocolError,
    decode,
    decode_hcall,
    encode,
    hreturn_parts,
)
from hcall_abi.frames import (
    MAGIC,
    MAX_BODY,
    VERSION,
    Frame,
    FrameType,
    Goodbye,
    HCall,
    Hello,
    HReturn,
    Open,
    Opened,
)


class Role(Enum):
    """Which end of the channel a session speaks for."""

    SERVER = "server"
    CLIENT = "client"


class SessionState(Enum):
    """Where a session stands."""

    START = "start"
    GREETED = "greeted"
    OPENING = "opening"
    OPEN = "open"
    REFUSED = "refused"
    CLOSED = "closed"


_ENDINGS: dict[tuple[SessionState, Role, int], SessionState] = {
    (state, role, FrameType.GOODBYE): SessionState.CLOSED
    for state in SessionState
    if state is not SessionState.CLOSED
    for role in Role
}
_TABLE: dict[tuple[SessionState, Role, int], SessionState] = {
    (SessionState.START, Role.SERVER, FrameType.HELLO): SessionState.GREETED,
    (SessionState.GREETED, Role.CLIENT, FrameType.OPEN): SessionState.OPENING,
    (SessionState.OPENING, Role.SERVER, FrameType.OPENED): SessionState.OPEN,
    (SessionState.OPEN, Role.CLIENT, FrameType.HCALL): SessionState.OPEN,
    (SessionState.OPEN, Role.SERVER, FrameType.HRETURN): SessionState.OPEN,
    **_ENDINGS,
}

_TYPES: dict[type, int] = {
    Hello: int(FrameType.HELLO),
    Open: int(FrameType.OPEN),
    Opened: int(FrameType.OPENED),
    HCall: int(FrameType.HCALL),
    HReturn: int(FrameType.HRETURN),
    Goodbye: int(FrameType.GOODBYE),
}
_MOVES: dict[tuple[SessionState, Role], dict[int, SessionState]] = {
    (state, role): {int(kind): to for (at, who, kind), to in _TABLE.items() if (at, who) == (state, role)}
    for state in SessionState
    for role in Role
}
"""The table by state and role, so that a session looks its row up once a state and not once a frame."""
_KNOWN_TYPES = frozenset(int(kind) for kind in FrameType)
_TAGGED = frozenset({FrameType.OPEN, FrameType.OPENED, FrameType.HCALL, FrameType.HRETURN})
_HEADER_SIZE = HEADER_LAYOUT.size
_HCALL_START = HEADER_LAYOUT.pack(VERSION, int(FrameType.HCALL), 0, 0)[:8]
"""Magic, version, type and flags of every HCALL frame: the header that passes all the time."""
_TAG_AND_LENGTH = Struct(">II").unpack_from


class OtherVersion(NamedTuple):
    """An OPEN in a protocol version that this end does not speak; its body was skipped."""

    tag: int
    version: int


Event = Frame | OtherVersion


class LocalProtocolError(Exception):
    """This end tried to send a frame that the protocol does not allow now: a bug here, not there."""


class Session:
    """One end of one data channel.

    `max_body` is the largest body in bytes that this end accepts.  Give received bytes to
    `receive_data`, then take events from `events`; a ProtocolError from there is final: say
    GOODBYE 1 and close.
    """

    def __init__(self, role: Role, *, max_body: int = MAX_BODY) -> None:
        self.role = role
        self.peer = Role.CLIENT if role is Role.SERVER else Role.SERVER
        self._enter(SessionState.START)
        self.max_body = max_body
        self._peer_max_body = MAX_BODY
        self._data = b""
        self._position = 0
        self._partial = bytearray()
        self._needed = _HEADER_SIZE
        self._pending: deque[int] = deque()

    def __repr__(self) -> str:
        return f"Session({self.role.value}, {self.state.value})"

    @property
    def buffered(self) -> int:
        """How many received bytes wait for the rest of their frame, or to be taken as events."""
        return len(self._partial) + len(self._data) - self._position

    @property
    def pending(self) -> int:
        """How many calls have been sent and not yet answered."""
        return len(self._pending)

    def receive_data(self, data: bytes) -> None:
        """Take received bytes; `events` then tells what they mean.

        Take all events before giving more bytes: what is left over has to be moved.  Bytes after
        the end of the session are dropped.
        """
        if self.state is SessionState.CLOSED:
            return
        if self._position < len(self._data):
            self._wait_for(_HEADER_SIZE)
        if self._partial:
            self._partial += data
            return
        self._data = bytes(data)
        self._position = 0

    def receive_eof(self) -> None:
        """Take the end of the stream; ProtocolError when it comes inside a frame."""
        if self.buffered and self.state is not SessionState.CLOSED:
            raise _violation("the stream ended inside a frame", "frames arrive whole", "framing")
        self._enter(SessionState.CLOSED)

    def events(self) -> Iterator[Event]:
        """Yield one event for each whole frame received.

        Each event is checked against the state at the moment it is taken, so answer an OPEN
        before taking the next one.
        """
        while (event := self.next_event()) is not None:
            yield event

    def next_event(self) -> Event | None:
        """Return the next of the `events`, None when there is no whole frame."""
        return self._next_event() if self.state is not SessionState.CLOSED else None

    def calls(self, most: int) -> list[HCall]:
        """Take up to `most` calls that wait whole and one behind the other: a short cut for servers.

        It stops in front of whatever is not plainly the next call; `next_event` tells what that is.
        """
        calls: list[HCall] = []
        data, start = self._data, self._position
        size, longest = len(data), self.max_body
        while self._serving and data.startswith(_HCALL_START, start) and len(calls) < most:
            body = start + _HEADER_SIZE
            if body > size:
                break
            tag, length = _TAG_AND_LENGTH(data, start + 8)
            end = body + length
            if end > size or length > longest:
                break
            try:
                call = decode_hcall(tag, data, body, end)
            except ProtocolError:
                break  # the calls before it still count
            calls.append(call)
            self._pending.append(tag)
            start = self._position = end
        return calls

    def answers(self, returns: list[HReturn]) -> list[tuple[bytes, bytes]]:
        """Return the frames of the answers to the oldest calls, each as its fixed part and its data.

        LocalProtocolError for answers in another order, or without a call.
        """
        pending = self._pending
        for returned in returns:
            if not self._serving or not pending or pending.popleft() != returned[0]:
                raise _not_due()
        return [hreturn_parts(returned) for returned in returns]

    def send(self, frame: Frame) -> bytes:
        """Return the bytes of `frame`; LocalProtocolError when it may not be sent now."""
        kind = _TYPES[type(frame)]
        state = self._may_send.get(kind)
        if state is None:
            name = FrameType(kind).name
            raise LocalProtocolError(f"{self.role.value} may not send {name} in {self.state.value}")
        data = encode(frame)
        match frame:
            case HCall():
                if len(data) - _HEADER_SIZE > self._peer_max_body:
                    raise LocalProtocolError(f"the server takes bodies of {self._peer_max_body} bytes")
                self._pending.append(frame.tag)
            case Open():
                self._pending.append(frame.tag)
            case HReturn():
                self._answer(frame.tag)
            case Opened():
                self._answer(frame.tag)
                state = SessionState.REFUSED if frame.status else SessionState.OPEN
            case _:
                pass
        self._enter(state)
        return data

    def _enter(self, state: SessionState) -> None:
        self.state = state
        self._may_send = _MOVES[state, self.role]
        self._may_receive = _MOVES[state, self.peer]
        self._serving = state is SessionState.OPEN and self.role is Role.SERVER

    def _answer(self, tag: int) -> None:
        """Note that the oldest pending call is answered; calls are answered in order."""
        if not self._pending or self._pending[0] != tag:
            raise _not_due()
        self._pending.popleft()

    def _next_event(self) -> Event | None:
        data, start = self._data, self._position
        body = start + _HEADER_SIZE
        if len(data) < body:
            return self._resume()
        magic, version, kind, flags, tag, length = HEADER_LAYOUT.unpack_raw(data, start)
        self._check_header(magic, version, kind, flags, tag)
        if length > self.max_body:
            raise _violation(f"a body of {length} bytes", f"at most {self.max_body} bytes", "framing")
        end = body + length
        if len(data) < end:
            self._wait_for(_HEADER_SIZE + length)
            return None
        event: Event
        if version != VERSION:
            event = self._other_version(version, tag)
        else:
            event = self._accept(decode(kind, tag, data, body, end), kind)
        self._position = end
        return event

    def _wait_for(self, size: int) -> None:
        """Put an unfinished frame aside until `size` bytes of it have come."""
        self._needed = size
        if self._position < len(self._data):
            self._partial = bytearray(self._data[self._position :])
            self._data = b""
            self._position = 0

    def _resume(self) -> Event | None:
        """Go on with the frame that was put aside, once enough of it has come."""
        if not self._partial:
            self._wait_for(_HEADER_SIZE)
        if len(self._partial) < self._needed:
            return None
        self._data = bytes(self._partial)
        self._position = 0
        self._partial = bytearray()
        return self._next_event()

    def _check_header(self, magic: bytes, version: int, kind: int, flags: int, tag: int) -> None:
        """Refuse a frame by its header alone, before its body has come."""
        if magic != MAGIC:
            raise _violation("bad magic", "a frame starts with HCAL", "frame-header")
        if version != VERSION:
            if (self.state, self.role, kind) != (SessionState.GREETED, Role.SERVER, FrameType.OPEN):
                raise _violation(f"a frame of version {version}", f"the version is {VERSION}", "frame-header")
            return
        _check_fields(kind, flags, tag)
        if kind not in self._may_receive:
            name = FrameType(kind).name
            rule = f"no {name} from the {self.peer.value} in state {self.state.value}"
            raise _violation(f"unexpected {name}", rule, "states")

    def _other_version(self, version: int, tag: int) -> OtherVersion:
        self._pending.append(tag)
        self._enter(SessionState.OPENING)
        return OtherVersion(tag, version)

    def _accept(self, frame: Frame, kind: int) -> Event:
        """Follow the table for a frame from the peer that its header check has found there."""
        state = self._may_receive[kind]
        match frame:
            case HReturn():
                self._match(frame.tag)
            case Opened():
                self._match(frame.tag)
                state = SessionState.REFUSED if frame.status else SessionState.OPEN
            case Open() | HCall():
                self._pending.append(frame.tag)
            case Hello():
                self._peer_max_body = frame.max_body
            case _:
                pass
        self._enter(state)
        return frame

    def _match(self, tag: int) -> None:
        if not self._pending or self._pending[0] != tag:
            rule = "answers come in the order of the calls and echo their tags"
            raise _violation("an answer with an unexpected tag", rule, "tags")
        self._pending.popleft()


def _not_due() -> LocalProtocolError:
    return LocalProtocolError("an answer must carry the tag of the oldest call")


def _violation(message: str, rule: str, heading: str) -> ProtocolError:
    return ProtocolError(message, rule=rule, section=f"spec/protocol.md#{heading}")


def _check_fields(kind: int, flags: int, tag: int) -> None:
    if flags:
        raise _violation("unknown flags", "flags are 0", "frame-header")
    if kind not in _KNOWN_TYPES:
        raise _violation(f"unknown frame type {kind}", "frame types are 1 to 6", "frame-header")
    if tag and kind not in _TAGGED:
        raise _violation("a tag where there is none", "HELLO and GOODBYE have tag 0", "frame-header")
