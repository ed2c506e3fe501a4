"""Functions that bring a session into each state, and a second copy of the state table."""

from collections.abc import Iterable

from hcall_abi.frames import (
    MAX_BODY,
    Frame,
    FrameType,
    Goodbye,
    HCall,
    Hello,
    HReturn,
    Open,
    Opened,
    Segment,
    Write,
)
from hcall_abi.session import Event, Role, Session, SessionState

ZEROS = (0,) * 9

HELLO = Hello(1, 1, MAX_BODY, 0, bytes(range(32)), "server")
OPEN = Open(7, 1, 0, bytes(range(32, 64)), bytes(32), "client")
OPENED = Opened(7, 0, 1, 3, bytes(32), "FW1110")
REFUSED = OPENED._replace(status=1)
CALL = HCall(8, 0x434, ZEROS, (Segment.read(0x1000, b"label"), Segment.written(0x2000, 64)))
ANSWER = HReturn(8, 0, ZEROS, (Write(0x2000, b"data"),))
BYE = Goodbye(0, "")

FRAMES: dict[FrameType, Frame] = {
    FrameType.HELLO: HELLO,
    FrameType.OPEN: OPEN,
    FrameType.OPENED: OPENED,
    FrameType.HCALL: CALL,
    FrameType.HRETURN: ANSWER,
    FrameType.GOODBYE: BYE,
}

S, C = Role.SERVER, Role.CLIENT

# state -> the frame types that may be sent in it, the sender, and the next state (the rows of
# spec/protocol.md#states)
TABLE: dict[SessionState, dict[tuple[Role, FrameType], SessionState]] = {
    SessionState.START: {(S, FrameType.HELLO): SessionState.GREETED},
    SessionState.GREETED: {(C, FrameType.OPEN): SessionState.OPENING},
    SessionState.OPENING: {(S, FrameType.OPENED): SessionState.OPEN},
    SessionState.OPEN: {(C, FrameType.HCALL): SessionState.OPEN, (S, FrameType.HRETURN): SessionState.OPEN},
    SessionState.REFUSED: {},
    SessionState.CLOSED: {},
}
for _state, _row in TABLE.items():
    if _state is not SessionState.CLOSED:
        _row[S, FrameType.GOODBYE] = _row[C, FrameType.GOODBYE] = SessionState.CLOSED

# The frames that lead from START to each state, with their senders.
PATHS: dict[SessionState, list[tuple[Role, Frame]]] = {
    SessionState.START: [],
    SessionState.GREETED: [(S, HELLO)],
    SessionState.OPENING: [(S, HELLO), (C, OPEN)],
    SessionState.OPEN: [(S, HELLO), (C, OPEN), (S, OPENED)],
    SessionState.REFUSED: [(S, HELLO), (C, OPEN), (S, REFUSED)],
    SessionState.CLOSED: [(S, BYE)],
}


def fed(session: Session, pieces: Iterable[bytes]) -> list[Event]:
    """Return all events of a session after it has received these pieces one by one."""
    events: list[Event] = []
    for piece in pieces:
        session.receive_data(piece)
        events += session.events()
    return events


def pair(state: SessionState = SessionState.OPEN) -> tuple[Session, Session]:
    """Return a server's and a client's session in this state, after they have exchanged the needed frames."""
    both = {S: Session(S), C: Session(C)}
    for sender, frame in PATHS[state]:
        receiver = both[C if sender is S else S]
        assert fed(receiver, [both[sender].send(frame)]) == [frame]
    assert both[S].state is both[C].state is state
    return both[S], both[C]


def at(role: Role, state: SessionState, *, pending: bool = False) -> Session:
    """Return the session of one side in this state. With `pending`, one call (tag 8) waits for its answer."""
    server, client = pair(state)
    if pending and state is SessionState.OPEN:
        fed(server, [client.send(CALL)])
    return server if role is S else client
