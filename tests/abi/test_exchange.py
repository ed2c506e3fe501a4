"""`Exchange` follows the state table, and its short cuts give the same result as its steps."""

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcall_abi.exchange import TABLE, TAGS, Condition, Event, Exchange, OtherVersion, OutOfTurn, Role, TagUse
from hcall_abi.frames import FrameType
from hcall_abi.rules import protocol as rules
from hcall_abi.session import SessionState
from tests.abi import sessions
from tests.abi.sessions import ANSWER, BYE, CALL, FRAMES, HELLO, OPEN, OPENED, PATHS, REFUSED

S, C = Role.SERVER, Role.CLIENT
FOREIGN = OtherVersion(7, 2)
EVENTS: list[Event] = [*FRAMES.values(), REFUSED, FOREIGN]
EVERY = list(itertools.product(SessionState, Role, range(len(EVENTS))))


def at(state: SessionState) -> Exchange:
    """Return an exchange in this state. In OPEN, one call waits for `ANSWER`."""
    exchange = Exchange()
    for sender, frame in PATHS[state]:
        exchange.step(sender, frame)
    if state is SessionState.OPEN:
        exchange.step(C, CALL)
    return exchange


def seen(exchange: Exchange) -> tuple[SessionState, list[int]]:
    """Return the whole state of an exchange, for a comparison."""
    return exchange.state, list(exchange._unanswered)


@pytest.mark.parametrize("state,sender,number", EVERY)
def test_every_state_sender_and_frame(state: SessionState, sender: Role, number: int) -> None:
    """A step leads to the state in the second copy of the table.

    Without a row it raises, and changes nothing.
    """
    event, exchange = EVENTS[number], at(state)
    kind = FrameType.OPEN if event is FOREIGN else FrameType[type(event).__name__.upper()]
    follows = sessions.TABLE[state].get((sender, kind))
    if follows is None:
        before = seen(exchange)
        with pytest.raises(OutOfTurn) as caught:
            exchange.step(sender, event)
        assert caught.value.rule is rules.SESSION_STATE
        assert seen(exchange) == before
    else:
        exchange.step(sender, event)
        assert exchange.state is (SessionState.REFUSED if event is REFUSED else follows)


def test_each_row_is_there_once_and_leads_somewhere() -> None:
    """No two rows contradict each other, and every state is reached.

    REFUSED ends only by GOODBYE; CLOSED has no rows.
    """
    assert len({row[:4] for row in TABLE}) == len(TABLE) == 17
    assert {SessionState.START, *(row.follows for row in TABLE)} == set(SessionState)
    ends = set(SessionState) - {row.state for row in TABLE if row.frame is not FrameType.GOODBYE}
    assert ends == {SessionState.REFUSED, SessionState.CLOSED}
    assert [row for row in TABLE if row.state is SessionState.CLOSED] == []


def test_spans_rest_on_rows_that_stay_in_open() -> None:
    """HCALL and HRETURN never change the state OPEN, so a server may answer without a step."""
    rows = [row for row in TABLE if row.frame in (FrameType.HCALL, FrameType.HRETURN)]
    assert {(row.state, row.condition, row.follows) for row in rows} == {
        (SessionState.OPEN, Condition.NONE, SessionState.OPEN)
    }
    assert {row.frame: row.sender for row in rows} == {FrameType.HCALL: C, FrameType.HRETURN: S}
    assert (TAGS[FrameType.HCALL], TAGS[FrameType.HRETURN]) == (TagUse.ASKS, TagUse.ANSWERS)


def refusal(judge: Callable[..., None], *arguments: object) -> str:
    """Return the message of a refusal, or "" if there is none.

    The check of a header does not read the tag. So "" is returned for a refusal of the tag too.
    """
    try:
        judge(*arguments)
    except OutOfTurn as broken:
        return "" if broken.rule is rules.SESSION_TAG else str(broken)
    return ""


@given(st.lists(st.tuples(st.sampled_from(list(Role)), st.sampled_from(EVENTS)), max_size=12))
def test_a_header_is_refused_where_the_frame_is(sequence: list[tuple[Role, Event]]) -> None:
    """`admit` refuses the header of a frame with the same message as `step` refuses the frame."""
    exchange = Exchange()
    for sender, event in sequence:
        if event is FOREIGN:
            row = exchange.state is SessionState.GREETED and sender is C
            assert exchange.skips(sender, FrameType.OPEN) is row
            continue
        kind = FrameType[type(event).__name__.upper()]
        by_header = refusal(exchange.admit, sender, kind, 0)
        by_step = refusal(exchange.step, sender, event)
        assert by_header == by_step


@pytest.mark.parametrize("kind", FrameType)
def test_tags_of_headers(kind: FrameType) -> None:
    """HELLO and GOODBYE must have tag 0; the other types may have any tag."""
    state, sender = next((row.state, row.sender) for row in TABLE if row.frame is kind)
    exchange = at(state)
    exchange.admit(sender, kind, 0)
    if TAGS[kind] is TagUse.ZERO:
        with pytest.raises(OutOfTurn) as caught:
            exchange.admit(sender, kind, 1)
        assert caught.value.rule is rules.FRAME_TAG
    else:
        exchange.admit(sender, kind, 1)


def test_a_wrong_tag_changes_nothing() -> None:
    """An answer must have the tag of the oldest call without an answer. Another tag changes nothing.

    The message has the wrong tag and the expected one.
    """
    exchange = at(SessionState.OPEN)
    before = seen(exchange)
    with pytest.raises(OutOfTurn, match="unexpected tag 9: the oldest unanswered tag is 8") as caught:
        exchange.step(S, ANSWER._replace(tag=9))
    assert caught.value.rule is rules.SESSION_TAG
    assert seen(exchange) == before
    exchange.step(S, ANSWER)
    with pytest.raises(OutOfTurn, match="unexpected tag 8: nothing is unanswered"):
        exchange.step(S, ANSWER)


def test_an_open_of_another_version_is_answered_as_any_other() -> None:
    """An OPEN of another version waits for its answer, as any OPEN does."""
    exchange = Exchange()
    exchange.step(S, HELLO)
    exchange.step(C, FOREIGN)
    assert exchange.pending == 1
    exchange.step(S, REFUSED)
    assert (exchange.state, exchange.pending) == (SessionState.REFUSED, 0)


@pytest.mark.parametrize("state", SessionState)
def test_the_end_of_the_stream(state: SessionState) -> None:
    """The end of the stream closes a session in every state."""
    exchange = at(state)
    exchange.end()
    assert exchange.state is SessionState.CLOSED
    with pytest.raises(OutOfTurn):
        exchange.step(S, BYE)


def test_a_session_from_its_first_frame_to_its_last() -> None:
    """Both ends step through the frames of a short session."""
    exchange = Exchange()
    frames: list[tuple[Role, Event]] = [(S, HELLO), (C, OPEN), (S, OPENED), (C, CALL), (S, ANSWER), (C, BYE)]
    for sender, frame in frames:
        exchange.step(sender, frame)
    assert repr(exchange) == "Exchange(closed, 0 unanswered)"
