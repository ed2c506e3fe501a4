"""The checker of histories accepts each possible history, and refuses the others."""

from __future__ import annotations

import math

import pytest

from swpks.testing.simulation.histories import Answer, Did, Event, Fate, GuestCall, check
from swpks.testing.simulation.linear import NotLinearizable, outcomes

DONE, ABSENT, DENIED, TAKEN = Answer.DONE, Answer.ABSENT, Answer.DENIED, Answer.TAKEN


def write(
    called: float, answered: float, data: bytes, answer: Answer = DONE, label: str = "x", ipl: int = 1
) -> GuestCall:
    return GuestCall(called, answered, "a", ipl, Did.WRITE, label, data, answer=answer)


def read(called: float, answered: float, answer: bytes | Answer, label: str = "x", ipl: int = 1) -> GuestCall:
    return GuestCall(called, answered, "a", ipl, Did.READ, label, answer=answer)


def confirm(called: float, answered: float, answer: Answer, label: str = "x", ipl: int = 1) -> GuestCall:
    return GuestCall(called, answered, "a", ipl, Did.CONFIRM, label, answer=answer)


def remove(called: float, answered: float, answer: Answer = DONE) -> GuestCall:
    return GuestCall(called, answered, "a", 1, Did.REMOVE, "x", answer=answer)


def guarded(
    called: float, answer: bytes | Answer, password: bytes, *, ipl: int = 1, system: str = "a"
) -> GuestCall:
    return GuestCall(called, called + 0.5, system, ipl, Did.READ, "g", password=password, answer=answer)


def crash(at: float, fate: Fate = Fate.CRASHED) -> Event:
    return Event(at, "a", fate)


def good(*sessions: list[GuestCall], events: tuple[Event, ...] = ()) -> bool:
    try:
        return bool(check(sessions, events))
    except NotLinearizable:
        return False


def test_calls_that_overlap_may_run_in_any_order() -> None:
    assert good([write(1, 5, b"1")], [read(2, 4, b"1"), read(6, 7, b"1")])
    assert good([write(1, 5, b"1")], [read(2, 4, ABSENT), read(6, 7, b"1")])
    assert not good([write(1, 9, b"1")], [read(2, 3, b"1"), read(4, 5, ABSENT)])


def test_a_stale_read_is_found() -> None:
    assert not good([write(1, 2, b"1")], [read(3, 4, ABSENT)])
    assert not good([write(1, 2, b"1"), remove(3, 4)], [read(5, 6, b"1")])


def test_a_second_write_is_refused_and_a_removal_makes_room() -> None:
    assert good(
        [write(1, 2, b"1"), write(3, 4, b"2", TAKEN), remove(5, 6), write(7, 8, b"2"), read(9, 10, b"2")]
    )
    assert not good([write(1, 2, b"1"), write(3, 4, b"2")])
    assert not good([remove(1, 2)])


def test_a_call_without_an_answer_has_run_once_or_never() -> None:
    unknown = write(1, math.inf, b"1", Answer.UNKNOWN)
    assert good([unknown, read(2, 3, ABSENT)])
    assert good([unknown, read(2, 3, b"1")])
    assert good([unknown, read(2, 3, ABSENT), read(4, 5, b"1")])
    assert not good([unknown, read(2, 3, b"1"), read(4, 5, ABSENT)])
    again = [unknown, read(2, 3, b"1"), remove(4, 5), read(6, 7, b"1")]
    assert not good(again)


def test_a_call_without_an_answer_does_not_run_after_the_end_of_its_session() -> None:
    unknown = write(1, 2, b"1", Answer.UNKNOWN)
    assert good([unknown], [read(3, 4, b"1")])
    assert not good([unknown], [read(3, 4, ABSENT), read(5, 6, b"1")])


def test_a_crash_takes_what_nobody_has_confirmed() -> None:
    lost = [write(1, 2, b"1"), read(4, 5, ABSENT, ipl=2)]
    assert good(lost, events=(crash(3),))
    assert not good(lost)
    assert good([write(1, 2, b"1"), read(4, 5, b"1", ipl=2)], events=(crash(3),))


def test_a_confirmed_write_is_never_lost() -> None:
    calls = [write(1, 2, b"1"), confirm(2.1, 2.2, Answer.FLUSHED), read(4, 5, ABSENT, ipl=2)]
    assert not good(calls, events=(crash(3),))
    older = [write(1, 1.1, b"0", label="y"), *calls[:2], read(4, 5, ABSENT, "y", ipl=2)]
    assert not good(older, events=(crash(3),)), "a flush takes all older changes with it"


def test_flushed_is_never_pending_again() -> None:
    one = write(1, 2, b"1")
    assert good([one, confirm(3, 4, Answer.PENDING), confirm(5, 6, Answer.FLUSHED)])
    assert not good([one, confirm(3, 4, Answer.FLUSHED), confirm(5, 6, Answer.PENDING)])


def test_a_crash_leaves_a_state_that_was() -> None:
    """After a crash the second of two writes may be lost. The first may be lost only together with it."""
    both = [write(1, 2, b"1"), write(3, 4, b"2", label="y")]
    assert good([*both, read(6, 7, b"1", ipl=2), read(8, 9, ABSENT, "y", ipl=2)], events=(crash(5),))
    assert not good([*both, read(6, 7, ABSENT, ipl=2), read(8, 9, b"2", "y", ipl=2)], events=(crash(5),))


def test_what_has_been_frozen_is_durable() -> None:
    calls = [write(1, 2, b"1"), read(5, 6, ABSENT, ipl=2)]
    assert not good(calls, events=(crash(3, Fate.FLUSHED), crash(4)))


def test_a_password_ends_with_the_ipl() -> None:
    """R-04: the checker knows that an IPL ends a password."""
    set_one = GuestCall(1, 2, "a", 1, Did.SET, "g", password=b"p", answer=DONE)
    assert good([set_one, guarded(3, ABSENT, b"p"), guarded(4, DENIED, b"")])
    assert good([set_one, guarded(3, DENIED, b"p", ipl=2), guarded(4, ABSENT, b"", ipl=2)])
    assert not good([set_one, guarded(3, ABSENT, b"p", ipl=2)])
    assert not good([set_one, guarded(3, DENIED, b"p")])


def test_a_password_and_transient_objects_move_with_a_live_partition() -> None:
    set_one = GuestCall(1, 2, "a", 1, Did.SET, "g", password=b"p", answer=DONE)
    volatile = write(2.1, 2.2, b"t", label="t")
    assert good([set_one, volatile], [guarded(3, ABSENT, b"p", system="b"), read(4, 5, b"t", "t")])
    assert not good([set_one], [guarded(3, DENIED, b"p", system="b")])
    assert not good([volatile], [read(4, 5, ABSENT, "t")])
    assert good([volatile], [read(4, 5, ABSENT, "t", ipl=2)])


def test_no_call_of_an_older_ipl_runs() -> None:
    assert not good([read(1, 2, ABSENT, ipl=2)], [write(3, 4, b"1", ipl=1)])


def test_a_restart_from_a_copy_goes_back_and_its_fenced_source_is_alone() -> None:
    restarted = Event(3, "a", Fate.RESTARTED, (None, None, None))
    here = [write(1, 2, b"1"), confirm(2.1, 2.2, Answer.FLUSHED)]
    elsewhere = GuestCall(4, 5, "b", 2, Did.READ, "x", answer=ABSENT)
    assert good(here, [elsewhere], events=(restarted,))
    assert good(here, [elsewhere], [read(6, 7, b"1")], events=(restarted,))
    lost = Event(5.5, "a", Fate.LOST)
    assert not good(here, [elsewhere], [read(6, 7, b"1")], events=(restarted, lost))
    assert not good(here, [elsewhere._replace(answer=b"1")], events=(restarted,))


def test_the_report_marks_what_no_order_reaches() -> None:
    with pytest.raises(NotLinearizable, match=r"(?m)^1 to 2: .*done$\n^> 3 to 4: .*absent$"):
        check([[write(1, 2, b"1"), read(3, 4, ABSENT)]])


def test_the_search_returns_every_end() -> None:
    one = write(1, math.inf, b"1", Answer.UNKNOWN)
    assert len(check([[one]])) == 2
    assert outcomes([], {"start"}, lambda state, call: [state]) == {"start"}
