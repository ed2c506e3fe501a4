"""The session of a data channel: one state table, and one `step` that both ends take for every frame."""

# The session: who may send which frame, and when
#
# Two programs share a byte stream. Each of them must know at any moment which frame may come next, and which
# end sends it. If their views differ by one frame, an answer reaches the wrong h-call, and a guest gets the
# data of another object. So the session guarantees four things:
#
#   1. After the same frames both ends are in the same state. A frame outside of the table changes nothing.
#   2. No h-call runs before the server has accepted OPEN, and none after GOODBYE.
#   3. Every answer belongs to the oldest question that has none. The receiver checks that, and so does the
#      sender.
#   4. A broken rule is found at the frame that breaks it, by its header alone where the header shows it.
#
# The table has a row for each legal combination of state, sender, frame type and condition. Every other
# combination is refused. `Exchange.step` looks the row up, checks the tag, and enters the next state. An end
# calls it for the frames that it sends and for those that it receives. There is no second set of rules for
# sending. So guarantee 1 follows: both ends run the same code over the same frames. The caller knows whose
# fault a broken rule is. A bad frame that was received is an error of the peer. A bad frame that this end
# tries to send is a bug of this end.
#
# Frames cross on their way, so the two ends may see them in another order. That is harmless in `open`, the
# only state in which both may send: an HRETURN answers an HCALL that both have seen, and changes no state.
# GOODBYE can cross any frame. So an end in `closed` drops all later frames without a check.
#
# A step changes nothing before all its checks have passed. So a refused frame can be refused again. A caller
# may catch the error of a bad send: its session is unchanged.
#
# Conditions: an OPENED with status 0 opens the session, another status refuses it. An OPEN of a version that
# the server does not speak leads to `opening` as well, so that OPENED can refuse it. It is the only frame of
# another version that is legal anywhere.
#
# Tags: OPEN and HCALL ask, OPENED and HRETURN answer. Unanswered tags form a queue. An answer must have the
# tag at its head. A tag is therefore not needed to find the call; it is a check that finds a lost or
# doubled answer at once. We do not permit answers in any order, matched by tag. The server runs the calls of
# a session one after the other, so it would gain nothing. Every client would need a table instead of a queue.
#
# Spans: most frames are HCALL and HRETURN in state `open`. Both rows lead back to `open` and have no
# condition. So they change only the queue of tags. A server that answers each call before it looks at the
# next one needs no queue. It takes calls as spans (`Session.spans`), answers them in their order, and copies
# their tags. So guarantee 3 holds without a check. It takes no step for them: a step costs a tenth of a call.
# `spans` stops before every other frame, and that frame takes its step.
#
# Other modules check bytes, lengths and the largest body (`hcall_abi.session`), and the contents of OPEN (the
# server). The end of the stream is no frame, but it closes a session as GOODBYE does: see `Exchange.end`.
#
# An earlier version had a table without conditions. The code that sends and the code that receives each had
# the rules of OPENED and of the tags. We dropped that: two copies of a rule can differ, and the page could
# not be drawn from the table.

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import NamedTuple

from hcall_abi.errors import SwpksError
from hcall_abi.frames import (
    Frame,
    FrameType,
    Goodbye,
    HCall,
    Hello,
    HReturn,
    Open,
    Opened,
)
from hcall_abi.rules import protocol as rules


class Role(Enum):
    """An end of the channel."""

    SERVER = "server"
    CLIENT = "client"


class SessionState(Enum):
    """The state of a session."""

    START = "start"
    GREETED = "greeted"
    OPENING = "opening"
    OPEN = "open"
    REFUSED = "refused"
    CLOSED = "closed"


class Condition(Enum):
    """Distinguishes rows with the same state, sender and frame type; the value is the text in the page."""

    NONE = "-"
    STATUS_ZERO = "status 0"
    STATUS_OTHER = "another status"
    VERSION_OTHER = "a version that the server does not speak"


class TagUse(Enum):
    """The meaning of the tag of a frame type; the value is the text in the page."""

    ZERO = "0"
    ASKS = "chosen by the sender"
    ANSWERS = "that of the oldest unanswered frame"


class Turn(NamedTuple):
    """A row of the table: in `state`, `sender` may send `frame` if `condition` holds.

    `follows` is the next state.
    """

    state: SessionState
    sender: Role
    frame: FrameType
    condition: Condition
    follows: SessionState


_START, _GREETED, _OPENING, _OPEN, _REFUSED, _CLOSED = SessionState
_SERVER, _CLIENT = Role

TABLE: tuple[Turn, ...] = (
    Turn(_START, _SERVER, FrameType.HELLO, Condition.NONE, _GREETED),
    Turn(_GREETED, _CLIENT, FrameType.OPEN, Condition.NONE, _OPENING),
    Turn(_GREETED, _CLIENT, FrameType.OPEN, Condition.VERSION_OTHER, _OPENING),
    Turn(_OPENING, _SERVER, FrameType.OPENED, Condition.STATUS_ZERO, _OPEN),
    Turn(_OPENING, _SERVER, FrameType.OPENED, Condition.STATUS_OTHER, _REFUSED),
    Turn(_OPEN, _CLIENT, FrameType.HCALL, Condition.NONE, _OPEN),
    Turn(_OPEN, _SERVER, FrameType.HRETURN, Condition.NONE, _OPEN),
    *(
        Turn(state, sender, FrameType.GOODBYE, Condition.NONE, _CLOSED)
        for state in SessionState
        if state is not _CLOSED
        for sender in Role
    ),
)
"""Every legal row.  All other combinations are refused."""

TAGS: dict[int, TagUse] = {
    FrameType.HELLO: TagUse.ZERO,
    FrameType.OPEN: TagUse.ASKS,
    FrameType.OPENED: TagUse.ANSWERS,
    FrameType.HCALL: TagUse.ASKS,
    FrameType.HRETURN: TagUse.ANSWERS,
    FrameType.GOODBYE: TagUse.ZERO,
}
"""The use of the tag, by frame type."""

_TURNS: dict[SessionState, dict[int, tuple[Turn, ...]]] = {
    state: {kind: tuple(row for row in TABLE if row[0] is state and row[2] == kind) for kind in FrameType}
    for state in SessionState
}
"""The table by state and frame type.  A step compares senders and conditions: their hashes are slow."""


class OtherVersion(NamedTuple):
    """An OPEN in a protocol version that the server does not support; its body was skipped."""

    tag: int
    version: int


Event = Frame | OtherVersion

_TYPES: dict[type[Event], FrameType] = {
    Hello: FrameType.HELLO,
    Open: FrameType.OPEN,
    OtherVersion: FrameType.OPEN,
    Opened: FrameType.OPENED,
    HCall: FrameType.HCALL,
    HReturn: FrameType.HRETURN,
    Goodbye: FrameType.GOODBYE,
}


class OutOfTurn(SwpksError):
    """A frame breaks a rule of the session; `hcall_abi.session` knows which end sent it."""


class Exchange:
    """A session as both ends see it.

    It has the state, and the tags of the frames that have no answer yet.
    """

    def __init__(self) -> None:
        self._enter(_START)
        self._unanswered: deque[int] = deque()

    def __repr__(self) -> str:
        return f"Exchange({self.state.value}, {self.pending} unanswered)"

    @property
    def pending(self) -> int:
        """How many frames wait for their answers."""
        return len(self._unanswered)

    def step(self, sender: Role, event: Event) -> None:
        """Take the step for a frame of `sender`.

        If a rule forbids the frame, raise OutOfTurn; then nothing has changed.
        """
        kind = _TYPES[type(event)]
        # The row is checked first, then the tag. The state changes last, so a refused frame changes nothing.
        turn = self._turn(sender, kind, _condition(event))
        if not isinstance(event, (Hello, Goodbye)):
            if TAGS[kind] is TagUse.ASKS:
                self._unanswered.append(event.tag)
            else:
                self._answer(kind, event.tag)
        if turn.follows is not self.state:
            self._enter(turn.follows)

    def admit(self, sender: Role, kind: int, tag: int) -> None:
        """Refuse a frame by its header alone.

        Raise OutOfTurn if no frame of type `kind` may come from `sender` now.  `kind` is one of
        `FrameType`. When the body has come, the caller must still call `step`.
        """
        # Only the tag that must be 0 can be checked by the header. `step` checks the others.
        if tag and TAGS[kind] is TagUse.ZERO:
            raise OutOfTurn(rules.FRAME_TAG, f"{FrameType(kind).name} with tag {tag}")
        self._turn(sender, kind, None)

    def skips(self, sender: Role, kind: int) -> bool:
        """Whether a frame is legal now although this end does not support its version.

        The body of such a frame is skipped.
        """
        turns = self._turns.get(kind, ())
        return any(turn.sender is sender and turn.condition is Condition.VERSION_OTHER for turn in turns)

    def end(self) -> None:
        """Close the session because the stream has ended; allowed in every state."""
        self._enter(_CLOSED)

    def _enter(self, state: SessionState) -> None:
        self.state = state
        # The rows of the present state are looked up once for each change of state, and not for each frame.
        self._turns = _TURNS[state]

    def _turn(self, sender: Role, kind: int, condition: Condition | None) -> Turn:
        """Return the row for a frame; OutOfTurn if there is none.  If `condition` is None, any row fits."""
        for turn in self._turns[kind]:
            if turn.sender is sender and (condition is None or turn.condition is condition):
                return turn
        message = f"{FrameType(kind).name} from the {sender.value} in state {self.state.value}"
        raise OutOfTurn(rules.SESSION_STATE, message)

    def _answer(self, kind: FrameType, tag: int) -> None:
        """Remove the oldest unanswered tag from the queue; OutOfTurn if the answer has another tag."""
        if not self._unanswered:
            raise OutOfTurn(
                rules.SESSION_TAG, f"{kind.name} with unexpected tag {tag}: nothing is unanswered"
            )
        oldest = self._unanswered[0]
        if oldest != tag:
            message = f"{kind.name} with unexpected tag {tag}: the oldest unanswered tag is {oldest}"
            raise OutOfTurn(rules.SESSION_TAG, message)
        self._unanswered.popleft()


def _condition(event: Event) -> Condition:
    """Return the condition that holds for a frame; each frame has one."""
    if type(event) is Opened:
        return Condition.STATUS_OTHER if event.status else Condition.STATUS_ZERO
    return Condition.VERSION_OTHER if type(event) is OtherVersion else Condition.NONE
