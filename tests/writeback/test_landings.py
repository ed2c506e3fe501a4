"""A CONFIRM waits for a landing: when flights start, and which waiters are called.

A flight is a commit in progress. Its end is the landing. Company are the guests that a landing has just
served. A flight waits a short time for their next CONFIRM.
"""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from hcall_abi.faults import NvramFault
from hcall_abi.rules import storage
from hcall_server.writeback.encryptor import DEFAULT_DELAY
from hcall_server.writeback.health import FIRST_RETRY
from hcall_server.writeback.schedule import TABLE, FlightEvent, FlightState, Schedule
from tests.writeback.rig import FLUSHED, PENDING, Rig
from tests.writeback.waiting import PATIENCE, Waiting, ask, flushed, starts_in
from tests.writeback.workers import ParkedWorker

GATHERING = 0.002
"""Seconds that a flight waits for company, as in the essay."""


# The table


def test_the_table_has_a_way_out_of_every_state() -> None:
    """R-23: Each state has a way out. While a flight is in progress (FLYING), no other one can start."""
    assert {state for state, _ in TABLE} == set(FlightState)
    assert {event for _, event in TABLE} == set(FlightEvent)
    assert {state for state, event in TABLE if event is FlightEvent.START} == {
        FlightState.IDLE,
        FlightState.RESTING,
    }


@pytest.mark.parametrize("state", [FlightState.FLYING, FlightState.LANDED])
def test_a_flight_that_is_under_way_keeps_others_from_starting(state: FlightState) -> None:
    """R-22: During a flight or its landing, a second `start` raises KeyError."""
    schedule = Schedule(DEFAULT_DELAY)
    schedule.start(0.0)
    if state is FlightState.LANDED:
        schedule.land()
    with pytest.raises(KeyError):
        schedule.start(0.0)


async def test_idle_a_waiter_starts_the_flight_in_its_own_turn(parked: ParkedWorker) -> None:
    """R-20: If no flight is in progress, a waiter starts a flight at once. The landing calls the waiter."""
    rig = Rig(worker=parked)
    waiting = ask(rig)
    assert (len(parked.jobs), waiting.calls) == (1, [])
    assert rig.confirm(b"label") == PENDING
    parked.let_go()
    assert (rig.confirm(b"label"), len(waiting.calls), rig.encryptor.pending) == (FLUSHED, 1, False)


async def test_flying_a_waiter_waits_for_that_landing(parked: ParkedWorker) -> None:
    """R-21: A landing also calls a waiter whose change came after the start of the flight.

    That change is still pending.
    """
    rig = Rig(worker=parked)
    first, late = ask(rig), ask(rig, b"late")
    assert len(parked.jobs) == 1
    parked.let_go()
    assert (len(first.calls), len(late.calls)) == (1, 1)
    assert (rig.confirm(b"label"), rig.confirm(b"late")) == (FLUSHED, PENDING)
    assert rig.power_cut().objects() == {b"label": b"data"}


async def test_landed_who_comes_back_at_once_is_in_the_next_flight(parked: ParkedWorker) -> None:
    """R-20: A waiter may wait again while a landing calls it. Then only the next landing calls it again."""
    rig = Rig(worker=parked)
    first, late = ask(rig), ask(rig, b"late")
    again: list[Waiting] = []
    first.then = lambda: again.append(ask(rig, b"next"))
    late.then = lambda: again.append(Waiting(rig, b"late"))
    parked.let_go()
    assert (len(again), [each.calls for each in again]) == (2, [[], []])
    # Both wait again, so the next flight has started at once.
    assert len(parked.jobs) == 2
    parked.let_go()
    assert [len(each.calls) for each in (first, late, *again)] == [1, 1, 1, 1]
    assert (rig.confirm(b"late"), rig.confirm(b"next")) == (FLUSHED, FLUSHED)
    assert rig.journal.commits == 2


async def test_resting_a_waiter_starts_no_flight(parked: ParkedWorker) -> None:
    """R-23: While the encryptor rests after a failure, a waiter starts no flight."""
    rig = Rig(worker=parked, plan=[NvramFault("full")])
    first = ask(rig)
    parked.let_go()
    again = Waiting(rig)
    assert (len(first.calls), again.calls, len(parked.jobs)) == (1, [], 1)
    assert rig.encryptor.health.state == "retrying"


async def test_resting_the_retry_calls_who_waits(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """R-23: After its pause, the retry starts without waiting for company, and calls the waiters."""
    rig = Rig(plan=[NvramFault("full")])
    await nursery.start(rig.encryptor.run)
    first = ask(rig)
    await wait_all_tasks_blocked()
    again = Waiting(rig, patience=10)
    await trio.sleep(1)
    assert (first.calls, len(again.calls)) == ([0.0], 1)
    assert again.calls[0] == pytest.approx(FIRST_RETRY)
    assert rig.confirm(b"label") == FLUSHED


async def test_nothing_dirty_starts_no_flight(parked: ParkedWorker, autojump_clock: MockClock) -> None:
    """R-20: If nothing is dirty, a waiter starts no flight and is called at its timeout."""
    rig = Rig(worker=parked)
    calls: list[float] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.encryptor.run)
        rig.encryptor.wait_landing(lambda: calls.append(trio.current_time()), 3.0)
        await trio.sleep(10)
        assert (parked.jobs, calls) == ([], [3.0])
        # No guest confirms this change.
        rig.write(b"label")
        await trio.sleep(DEFAULT_DELAY * 0.9)
        assert parked.jobs == []
        await trio.sleep(DEFAULT_DELAY * 0.2)
        assert len(parked.jobs) == 1
        nursery.cancel_scope.cancel()


async def test_flying_a_waiter_hurries_nothing_of_others(
    parked: ParkedWorker, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """R-20: A waiter whose change is in the flight does not hurry a later change of another guest."""
    rig = Rig(2, worker=parked)
    await nursery.start(rig.encryptor.run)
    ask(rig)
    rig.write(b"other", n=1)
    again = Waiting(rig)
    parked.let_go()
    assert len(again.calls) == 1
    assert len(parked.jobs) == 1
    await starts_in(parked, DEFAULT_DELAY)


# Each waiter is called exactly once


async def test_a_failure_is_a_landing(parked: ParkedWorker) -> None:
    """R-23: A failed flight also calls its waiters. Their changes are pending and not lost."""
    rig = Rig(worker=parked, plan=[NvramFault("io")])
    waiting = ask(rig)
    parked.let_go()
    assert (len(waiting.calls), rig.confirm(b"label"), rig.kinds) == (1, PENDING, ["io"])
    assert await flushed(rig, parked)
    assert (len(waiting.calls), rig.confirm(b"label")) == (1, FLUSHED)


@pytest.mark.parametrize("after", ["the landing", "the patience", "a drop"])
async def test_a_waiter_is_called_once_at_most(
    after: str, parked: ParkedWorker, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """R-20: A waiter is called at most once, by a landing or by its timeout. A drop does not call it."""
    rig = Rig(worker=parked)
    await nursery.start(rig.encryptor.run)
    waiting = ask(rig)
    if after == "the landing":
        parked.let_go()
    elif after == "the patience":
        await trio.sleep(PATIENCE * 1.1)
    else:
        waiting.drop()
    before = list(waiting.calls)
    assert len(before) == (after != "a drop")
    for _ in range(2):
        waiting.drop()
        parked.let_go()
        await trio.sleep(1)
        ask(rig, b"%d" % len(parked.jobs)).drop()
    assert waiting.calls == before


async def test_a_waiter_may_drop_another_one(parked: ParkedWorker) -> None:
    """R-04: During a landing a waiter may drop another one, as an IPL does. That one is not called."""
    rig = Rig(worker=parked)
    first, second, third = ask(rig), ask(rig, b"second"), ask(rig, b"third")
    first.then = second.drop
    parked.let_go()
    assert [len(each.calls) for each in (first, second, third)] == [1, 0, 1]


async def test_an_ipl_drops_waiters_and_no_change(parked: ParkedWorker) -> None:
    """R-04, R-20: An IPL drops the waiters of its guest, and its persistent objects still become durable."""
    rig = Rig(worker=parked)
    waiting = ask(rig)
    rig.guests[0].ipl()
    rig.changed()
    waiting.drop()
    parked.let_go()
    assert await flushed(rig, parked)
    assert waiting.calls == []
    assert rig.power_cut().objects() == {b"label": b"data"}


async def test_a_waiter_that_raises_keeps_no_other_from_being_called(parked: ParkedWorker) -> None:
    """R-23: If a waiter raises, the others are called, and its exception is reported as an error."""
    rig = Rig(worker=parked)
    waiting = [ask(rig, b"%d" % n) for n in range(3)]
    waiting[1].then = lambda: 1 // 0
    parked.let_go()
    assert [len(each.calls) for each in waiting] == [1, 1, 1]
    assert rig.confirm(b"0") == FLUSHED
    (report,) = rig.told
    assert report is not None
    assert (report.rule, type(report.__cause__)) == (storage.FLUSH_FINISHED, ZeroDivisionError)
    assert (rig.encryptor.health.ok, rig.encryptor.health.failures) == (True, 0)


# A flight waits for further waiters


class Client:
    """A guest that writes and confirms one object after the other, in the callbacks of its waits."""

    def __init__(self, rig: Rig, name: int, rounds: int) -> None:
        self._rig = rig
        self._name = name
        self.left = rounds
        self.write()

    def write(self) -> None:
        self._rig.write(self._label)
        self.ask()

    def ask(self) -> None:
        """Call CONFIRM. If the object is not flushed, wait for a landing and repeat."""
        if self._rig.confirm(self._label) == FLUSHED:
            self.left -= 1
            if self.left:
                self.write()
        else:
            self._rig.encryptor.wait_landing(self.ask, trio.current_time() + PATIENCE)

    @property
    def _label(self) -> bytes:
        return b"%d of %d" % (self.left, self._name)


@pytest.mark.parametrize("clients", [1, 2, 16])
async def test_clients_that_were_served_together_share_one_commit(
    clients: int, parked: ParkedWorker, autojump_clock: MockClock
) -> None:
    """R-20: Clients that one landing has served share the next commit.

    All of them call before it starts, so it does not wait: no time passes, and no task runs.
    """
    rig = Rig(worker=parked)
    all_of_them = [Client(rig, n, rounds=5 if n else 6) for n in range(clients)]
    assert len(parked.jobs) == 1
    for _ in range(6):
        parked.let_go()
    assert [client.left for client in all_of_them] == [0] * clients
    assert (rig.journal.commits, rig.encryptor.pending) == (6, False)
    assert trio.current_time() == 0.0


async def test_gathering_ends_after_two_milliseconds(
    parked: ParkedWorker, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """R-20: A flight waits at most GATHERING for clients that do not return. Later flights expect fewer."""
    rig = Rig(worker=parked)
    await nursery.start(rig.encryptor.run)
    for n in range(4):
        ask(rig, b"company %d" % n)
    # This landing serves four waiters.
    parked.let_go()
    jobs, begun = len(parked.jobs), trio.current_time()
    few = [Waiting(rig, b"company %d" % n) for n in (1, 2)]
    assert len(parked.jobs) == jobs
    await starts_in(parked, GATHERING)
    parked.let_go()
    assert [len(each.calls) for each in few] == [1, 1]
    await trio.sleep(DEFAULT_DELAY)
    alone = ask(rig, b"alone")
    await trio.sleep(GATHERING * 0.9)
    # The last landing served two waiters, so this flight waits for a second one.
    assert len(parked.jobs) == jobs + 1
    await trio.sleep(GATHERING * 0.2)
    parked.let_go()
    assert (len(alone.calls), rig.confirm(b"alone")) == (1, FLUSHED)
    ask(rig, b"alone again")
    assert len(parked.jobs) == jobs + 3
    assert trio.current_time() < begun + 2 * DEFAULT_DELAY


async def test_a_poll_does_not_start_before_the_company(
    parked: ParkedWorker, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """R-20: A guest that polls CONFIRM starts a commit early.

    Clients that were just answered first get the time to send their next calls.
    """
    rig = Rig(worker=parked)
    await nursery.start(rig.encryptor.run)
    for n in range(3):
        ask(rig, b"company %d" % n)
    parked.let_go()
    jobs = len(parked.jobs)
    rig.write(b"polled")
    assert rig.confirm(b"polled") == PENDING
    assert len(parked.jobs) == jobs
    await starts_in(parked, GATHERING)
    parked.let_go()
    assert rig.confirm(b"polled") == FLUSHED


async def test_company_comes_back_from_the_landing(
    parked: ParkedWorker, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """R-20: A flight that was requested long before still gives just-served clients time to return."""
    rig = Rig(worker=parked)
    await nursery.start(rig.encryptor.run)
    ask(rig)
    ask(rig, b"second")
    await trio.sleep(DEFAULT_DELAY * 0.5)
    parked.let_go()
    assert len(parked.jobs) == 1
    await starts_in(parked, GATHERING)


async def test_a_landing_that_served_nobody_starts_nothing(
    parked: ParkedWorker, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """R-20: If no client waited for the finished commit, the next commit does not start early.

    A change that was made during the commit waits for the usual delay.
    """
    rig = Rig(worker=parked)
    await nursery.start(rig.encryptor.run)
    rig.write(b"first")
    await trio.sleep(DEFAULT_DELAY * 1.1)
    rig.write(b"second")
    parked.let_go()
    assert len(parked.jobs) == 1
    await starts_in(parked, DEFAULT_DELAY)


async def test_the_delay_bounds_the_gathering(
    parked: ParkedWorker, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """R-20: A flight waits for company no longer than a change waits for other changes."""
    rig = Rig(worker=parked)
    await nursery.start(rig.encryptor.run)
    ask(rig)
    ask(rig, b"late")
    await trio.sleep(DEFAULT_DELAY)
    # "late" has waited DEFAULT_DELAY, so its flight starts at once.
    parked.let_go()
    await wait_all_tasks_blocked()
    assert len(parked.jobs) == 2
