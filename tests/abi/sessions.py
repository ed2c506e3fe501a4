"""Sessions brought into each state, and the state table written down a second time."""

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
from hcall_abi.session import Event, Role, Session, State

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

# state -> what may be sent in it, by whom, and the state that follows (the rows of spec/protocol.md#states)
TABLE: dict[State, dict[tuple[Role, FrameType], State]] = {
    State.START: {(S, FrameType.HELLO): State.GREETED},
    State.GREETED: {(C, FrameType.OPEN): State.OPENING},
    State.OPENING: {(S, FrameType.OPENED): State.OPEN},
    State.OPEN: {(C, FrameType.HCALL): State.OPEN, (S, FrameType.HRETURN): State.OPEN},
    State.REFUSED: {},
    State.CLOSED: {},
}
for _state, _row in TABLE.items():
    if _state is not State.CLOSED:
        _row[S, FrameType.GOODBYE] = _row[C, FrameType.GOODBYE] = State.CLOSED

# The frames that lead from START to each state, with who sends them.
PATHS: dict[State, list[tuple[Role, Frame]]] = {
    State.START: [],
    State.GREETED: [(S, HELLO)],
    State.OPENING: [(S, HELLO), (C, OPEN)],
    State.OPEN: [(S, HELLO), (C, OPEN), (S, OPENED)],
    State.REFUSED: [(S, HELLO), (C, OPEN), (S, REFUSED)],
    State.CLOSED: [(S, BYE)],
}


def fed(session: Session, pieces: Iterable[bytes]) -> list[Event]:
    """All events of a session that gets these pieces one by one."""
    events: list[Event] = []
    for piece in pieces:
        session.receive_data(piece)
        events += session.events()
    return events


def pair(state: State = State.OPEN) -> tuple[Session, Session]:
    """A server's and a client's session that have talked each other into a state."""
    both = {S: Session(S), C: Session(C)}
    for sender, frame in PATHS[state]:
        receiver = both[C if sender is S else S]
        assert fed(receiver, [both[sender].send(frame)]) == [frame]
    assert both[S].state is both[C].state is state
    return both[S], both[C]


def at(role: Role, state: State, *, pending: bool = False) -> Session:
    """One end in a state; with `pending`, one call (tag 8) waits for its answer."""
    server, client = pair(state)
    if pending and state is State.OPEN:
        fed(server, [client.send(CALL)])
    return server if role is S else client
