"""The session of spec/protocol.md as tables and as a diagram, generated from `hcall_abi.exchange`."""

from collections.abc import Iterator

from hcall_abi.exchange import TABLE, TAGS, Condition, Role, SessionState, Turn
from hcall_abi.frames import FrameType

Lines = Iterator[tuple[object, ...]]


def states() -> Lines:
    """Yield every row of the state table: state, sender, frame, condition, next state."""
    for state, sender, frame, condition, follows in TABLE:
        yield state.value, sender.value, frame.name, condition.value, follows.value


def tags() -> Lines:
    """Yield the use of the tag for each frame type."""
    for kind, use in TAGS.items():
        yield FrameType(kind).name, use.value


def diagram() -> str:
    """Return a diagram of the states from top to bottom.

    Side transitions are at the right of their state.
    """
    rows = [row for row in TABLE if row.frame is not FrameType.GOODBYE]
    lines = ["```"]
    state: SessionState | None = next(iter(SessionState))
    seen: set[SessionState] = set()
    while state:
        seen.add(state)
        here = [row for row in rows if row.state is state]
        # The first row that leads to a new state is drawn downwards; all other rows are drawn at the right.
        below = next((row.follows for row in here if row.follows not in seen), None)
        lines.append(state.value)
        lines += [f"  |--- {_turn(row)} --> {row.follows.value}" for row in here if row.follows is not below]
        lines += [f"  |    {_turn(row)}" for row in here if row.follows is below]
        lines += ["  v"] if below else []
        state = below
    return "\n".join([*lines, "", _ending(), "```", ""])


def _ending() -> str:
    """Return the line of the diagram about GOODBYE.

    It also names the states in which an end may not send GOODBYE.
    """
    ways = {(row.state, row.sender, row.follows) for row in TABLE if row.frame is FrameType.GOODBYE}
    ends = {follows for _, _, follows in ways}
    lacking = [
        s.value for s in SessionState if any((s, role, end) not in ways for role in Role for end in ends)
    ]
    arrow = " or ".join(end.value for end in ends)
    return f"GOODBYE from either end, in any state but {', '.join(lacking)} --> {arrow}"


def _turn(row: Turn) -> str:
    """Return the text of a transition: the frame, its sender, and its condition."""
    text = f"{row.frame.name} from the {row.sender.value}"
    return text if row.condition is Condition.NONE else f"{text}, {row.condition.value}"
