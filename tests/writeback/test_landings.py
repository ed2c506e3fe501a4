"""CONFIRMs that wait for a landing: when a flight starts, who shares it, that each is called exactly once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from hcall_abi.faults import NvramFault
from hcall_abi.rules import storage
from hcall_server.keystore.contents import Contents
from hcall_server.service.assembly import assemble
from hcall_server.service.settings import PartitionSettings, Settings
from hcall_server.writeback.encryptor import DEFAULT_DELAY
from hcall_server.writeback.health import FIRST_RETRY
from hcall_server.writeback.schedule import GATHERING, TABLE, FlightEvent, FlightState, Schedule
from hcall_server.writeback.worker import InlineWorker, ThreadWorker
from swpks.testing.seams import simulated_seams
from tests.writeback.rig import FLUSHED, PENDING, Rig
from tests.writeback.workers import ParkedWorker

PATIENCE = 0.04


class Waiting:
    """A CONFIRM that was answered "not yet", and waits as the data channel lets it: `calls` has the times."""

    def __init__(self, rig: Rig, label: bytes = b"label", *, n: int = 0, patience: float = PATIENCE) -> None:
        self.calls: list[float] = []
        self.then: Callable[[], object] = lambda: None
        assert rig.confirm(label, n=n) == PENDING
        self.drop = rig.encryptor.wait_landing(self._go_on, trio.current_time() + patience)

    def _go_on(self) -> None:
        self.calls.append(trio.current_time())
        self.then()


def ask(rig: Rig, label: bytes = b"label", *, n: int = 0) -> Waiting:
    """Write an object and wait for its flush."""
    rig.write(label, n=n)
    return Waiting(rig, label, n=n)


@pytest.fixture
def parked() -> ParkedWorker:
    return ParkedWorker()


# The table


def test_the_table_has_a_way_out_of_every_state() -> None:
    """R-23: there is no state in which changes are stuck, and one flight at a time: FLYING does not start."""
    assert {state for state, _ in TABLE} == set(FlightState)
    assert {event for _, event in TABLE} == set(FlightEvent)
    assert {state for state, event in TABLE if event is FlightEvent.START} == {
        FlightState.IDLE,
        FlightState.RESTING,
    }


@pytest.mark.parametrize("state", [FlightState.FLYING, FlightState.LANDED])
def test_a_flight_that_is_under_way_keeps_others_from_starting(state: FlightState) -> None:
    """R-22: not even a caller that makes a mistake gets two flights."""
    schedule = Schedule(DEFAULT_DELAY)
    schedule.start(0.0)
    if state is FlightState.LANDED:
        schedule.land()
    with pytest.raises(KeyError):
        schedule.start(0.0)


async def test_idle_a_waiter_starts_the_flight_in_its_own_turn(parked: ParkedWorker) -> None:
    """R-20: the worker has the commit when the call returns; nothing is flushed before it has landed."""
    rig = Rig(worker=parked)
    waiting = ask(rig)
    assert (len(parked.jobs), waiting.calls) == (1, [])
    assert rig.confirm(b"label") == PENDING
    parked.let_go()
    assert (rig.confirm(b"label"), len(waiting.calls), rig.encryptor.pending) == (FLUSHED, 1, False)


async def test_flying_a_waiter_waits_for_that_landing(parked: ParkedWorker) -> None:
    """R-21: a change that came too late is called too, finds itself pending, and asks again."""
    rig = Rig(worker=parked)
    first, late = ask(rig), ask(rig, b"late")
    assert len(parked.jobs) == 1
    parked.let_go()
    assert (len(first.calls), len(late.calls)) == (1, 1)
    assert (rig.confirm(b"label"), rig.confirm(b"late")) == (FLUSHED, PENDING)
    assert rig.power_cut().objects() == {b"label": b"data"}


async def test_landed_who_comes_back_at_once_is_in_the_next_flight(parked: ParkedWorker) -> None:
    """R-20: a waiter that asks again while others are being called is called by the next landing only."""
    rig = Rig(worker=parked)
    first, late = ask(rig), ask(rig, b"late")
    again: list[Waiting] = []
    first.then = lambda: again.append(ask(rig, b"next"))
    late.then = lambda: again.append(Waiting(rig, b"late"))
    parked.let_go()
    assert (len(again), [each.calls for each in again]) == (2, [[], []])
    assert len(parked.jobs) == 2  # both are there again, so the flight has started
    parked.let_go()
    assert [len(each.calls) for each in (first, late, *again)] == [1, 1, 1, 1]
    assert (rig.confirm(b"late"), rig.confirm(b"next")) == (FLUSHED, FLUSHED)
    assert rig.journal.commits == 2


async def test_resting_a_waiter_starts_no_flight(parked: ParkedWorker) -> None:
    """R-23: while NVRAM refuses, a guest that asks adds no attempts."""
    rig = Rig(worker=parked, plan=[NvramFault("full")])
    first = ask(rig)
    parked.let_go()
    again = Waiting(rig)
    assert (len(first.calls), again.calls, len(parked.jobs)) == (1, [], 1)
    assert rig.encryptor.health.state == "retrying"


async def test_resting_the_retry_calls_who_waits(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """R-23: the retry comes after its pause and does not wait for company."""
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
    """R-20: a waiter without a change of its own is called by its patience."""
    rig = Rig(worker=parked)
    calls: list[float] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.encryptor.run)
        rig.encryptor.wait_landing(lambda: calls.append(trio.current_time()), 3.0)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert (parked.jobs, calls) == ([], [3.0])


# Each waiter exactly once


async def test_a_failure_is_a_landing(parked: ParkedWorker) -> None:
    """R-23: the waiter is called, finds its change pending, and the change is not lost."""
    rig = Rig(worker=parked, plan=[NvramFault("io")])
    waiting = ask(rig)
    parked.let_go()
    assert (len(waiting.calls), rig.confirm(b"label"), rig.kinds) == (1, PENDING, ["io"])
    assert await flushed(rig, parked)
    assert (len(waiting.calls), rig.confirm(b"label")) == (1, FLUSHED)


async def flushed(rig: Rig, parked: ParkedWorker) -> bool:
    """Flush, with a parked worker."""
    went: list[bool] = []

    async def flush() -> None:
        went.append(await rig.encryptor.flush())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(flush)
        await wait_all_tasks_blocked()
        parked.let_go()
    return went[0]


@pytest.mark.parametrize("after", ["the landing", "the patience", "a drop"])
async def test_a_waiter_is_called_once_at_most(
    after: str, parked: ParkedWorker, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """R-20: neither a later landing, nor its patience, nor its drop calls it a second time."""
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
    """R-04: an IPL in the middle of a landing ends the sessions of others that wait."""
    rig = Rig(worker=parked)
    first, second, third = ask(rig), ask(rig, b"second"), ask(rig, b"third")
    first.then = second.drop
    parked.let_go()
    assert [len(each.calls) for each in (first, second, third)] == [1, 0, 1]


async def test_an_ipl_drops_waiters_and_no_change(parked: ParkedWorker) -> None:
    """R-04, R-20: nothing is answered of the old IPL; its persistent objects become durable all the same."""
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
    """R-23: its bug is told with the exception, the flight counts, and NVRAM is well."""
    rig = Rig(worker=parked)
    waiting = [ask(rig, b"%d" % n) for n in range(3)]
    waiting[1].then = lambda: 1 // 0
    parked.let_go()
    assert [len(each.calls) for each in waiting] == [1, 1, 1]
    assert rig.confirm(b"0") == FLUSHED
    (told,) = rig.told
    assert told is not None
    assert (told.rule, type(told.__cause__)) == (storage.FLUSH_FINISHED, ZeroDivisionError)
    assert (rig.encryptor.health.ok, rig.encryptor.health.failures) == (True, 0)


# Company


class Client:
    """Writes one object after the other, each confirmed, in the callbacks of its waits."""

    def __init__(self, rig: Rig, name: int, rounds: int) -> None:
        self._rig = rig
        self._name = name
        self.left = rounds
        self.write()

    def write(self) -> None:
        self._rig.write(self._label)
        self.ask()

    def ask(self) -> None:
        """CONFIRM: flushed, or wait and ask again."""
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
    """R-20: the first client starts at once and alone.  From then on each round is one commit.

    No task runs and no time passes: the company is complete each time.
    """
    rig = Rig(worker=parked)
    all_of_them = [Client(rig, n, rounds=5 if n else 6) for n in range(clients)]
    assert len(parked.jobs) == 1
    for _ in range(6):
        parked.let_go()
    assert [client.left for client in all_of_them] == [0] * clients
    assert (rig.journal.commits, rig.encryptor.pending) == (6, False)
    assert trio.current_time() == 0.0


async def test_gathering_ends_after_a_millisecond(
    parked: ParkedWorker, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """R-20: company that does not come back is not waited for; then it is not expected any more."""
    rig = Rig(worker=parked)
    await nursery.start(rig.encryptor.run)
    for n in range(4):
        ask(rig, b"company %d" % n)
    parked.let_go()  # all four were served
    jobs, begun = len(parked.jobs), trio.current_time()
    few = [Waiting(rig, b"company %d" % n) for n in (1, 2)]
    await trio.sleep(GATHERING * 0.9)
    assert len(parked.jobs) == jobs
    await trio.sleep(GATHERING * 0.2)
    assert len(parked.jobs) == jobs + 1
    parked.let_go()
    assert [len(each.calls) for each in few] == [1, 1]
    await trio.sleep(DEFAULT_DELAY)
    alone = ask(rig, b"alone")
    assert len(parked.jobs) == jobs + 1  # two were served, so one more is expected
    await trio.sleep(GATHERING * 1.1)
    parked.let_go()
    assert (len(alone.calls), rig.confirm(b"alone")) == (1, FLUSHED)
    ask(rig, b"alone again")
    assert len(parked.jobs) == jobs + 3
    assert trio.current_time() < begun + 2 * DEFAULT_DELAY


async def test_a_poll_does_not_start_before_the_company(
    parked: ParkedWorker, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """R-20: a guest that polls hurries, but those that were just served get their millisecond."""
    rig = Rig(worker=parked)
    await nursery.start(rig.encryptor.run)
    for n in range(3):
        ask(rig, b"company %d" % n)
    parked.let_go()
    jobs = len(parked.jobs)
    rig.write(b"polled")
    assert rig.confirm(b"polled") == PENDING
    await trio.sleep(GATHERING * 0.9)
    assert len(parked.jobs) == jobs
    await trio.sleep(GATHERING * 0.2)
    assert len(parked.jobs) == jobs + 1
    parked.let_go()
    assert rig.confirm(b"polled") == FLUSHED


async def test_the_delay_bounds_the_gathering(
    parked: ParkedWorker, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """R-20: company is never waited for longer than a change waits anyway."""
    rig = Rig(worker=parked)
    await nursery.start(rig.encryptor.run)
    ask(rig)
    ask(rig, b"late")
    await trio.sleep(DEFAULT_DELAY)
    parked.let_go()  # "late" has waited as long as a change may
    await wait_all_tasks_blocked()
    assert len(parked.jobs) == 2


# Patience


async def test_a_stalled_nvram_is_answered_by_patience(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """R-23: the thread hangs in NVRAM, and the guest is told "not yet" in time; the commit still counts."""
    worker = ThreadWorker()
    rig = Rig(worker=worker, plan=[NvramFault("stall", times=None)])
    await nursery.start(rig.encryptor.run)
    waiting = ask(rig)
    late = ask(rig, b"late")
    await trio.sleep(1)
    assert (waiting.calls, late.calls) == ([PATIENCE], [PATIENCE])
    assert rig.confirm(b"label") == PENDING
    rig.nvram.set_faults()
    assert await rig.encryptor.flush()
    assert (rig.confirm(b"label"), rig.confirm(b"late")) == (FLUSHED, FLUSHED)
    assert (len(waiting.calls), len(late.calls)) == (1, 1)
    worker.close()


async def test_a_refusing_nvram_is_answered_by_patience(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """R-23: the retry comes later than the patience of those that wait for it; each has its own."""
    rig = Rig(worker=InlineWorker())
    rig.nvram.set_faults(NvramFault("full", times=None))
    await nursery.start(rig.encryptor.run)
    ask(rig)
    await trio.sleep(1)
    begun = trio.current_time()
    waits = [Waiting(rig, patience=patience) for patience in (0.03, 0.01, 0.02, 0.01)]
    waits[3].drop()
    await trio.sleep(0.035)
    assert [call - begun for each in waits for call in each.calls] == pytest.approx([0.03, 0.01, 0.02])


async def test_patience_is_of_the_clock_seam(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """R-23: the clock of the machine began elsewhere; its seconds count."""
    worker = ParkedWorker()
    seams = simulated_seams(worker=worker, clock=lambda: 1e6 + trio.current_time())
    machine = assemble(seams, Settings(partition=(PartitionSettings.of("a", 8),), confirm_wait_ms=40))
    await nursery.start(machine.encryptor.run)
    calls: list[float] = []
    machine.encryptor.changed(machine.system.find("a"))
    machine.encryptor.wait_landing(
        lambda: calls.append(trio.current_time()), machine.clock() + machine.confirm_wait
    )
    await trio.sleep(10)
    assert calls == pytest.approx([0.04])


async def test_without_its_task_only_landings_come(parked: ParkedWorker, autojump_clock: MockClock) -> None:
    """R-20: a machine that nobody runs has no patience; its flights land."""
    rig = Rig(worker=parked)
    waiting = ask(rig)
    await trio.sleep(10)
    assert waiting.calls == []
    parked.let_go()
    assert (waiting.calls, rig.confirm(b"label")) == ([10.0], FLUSHED)


# Bugs and ends


async def test_a_bug_in_the_landing_leaves_everything_dirty(
    monkeypatch: pytest.MonkeyPatch, parked: ParkedWorker, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """R-23: the commit took effect, and taking it over failed: told, retried, and the waiters are called."""
    rig = Rig(2, worker=parked)
    await nursery.start(rig.encryptor.run)
    rig.write(b"other", n=1)
    waiting = ask(rig)

    def fail(self: Contents, generation: int) -> None:
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr(Contents, "mark_flushed", fail)
        parked.let_go()
    (told,) = rig.told
    assert told is not None
    assert (told.rule, str(told.__cause__)) == (storage.FLUSH_FINISHED, "a bug")
    assert (len(waiting.calls), rig.confirm(b"label"), rig.encryptor.health.pending) == (1, PENDING, 2)
    again = Waiting(rig, patience=1)
    await trio.sleep(FIRST_RETRY * 1.1)
    parked.let_go()
    assert (len(again.calls), rig.confirm(b"label"), rig.confirm(b"other", n=1)) == (1, FLUSHED, FLUSHED)
    assert rig.told[1:] == [None]


async def test_a_log_that_fails_ends_nothing(parked: ParkedWorker) -> None:
    """R-23: health tells what the log could not."""
    rig = Rig(worker=parked, plan=[NvramFault("io")])

    def fail(error: object) -> None:
        raise ZeroDivisionError

    rig.encryptor.on_trouble = fail
    waiting = ask(rig)
    parked.let_go()
    assert (len(waiting.calls), rig.encryptor.health.last_error) == (1, "NVRAM: io (a planned fault)")
    assert await flushed(rig, parked)


async def test_what_ends_the_process_is_raised_by_the_task(parked: ParkedWorker) -> None:
    """R-23: a flight that no `flush` waits for; the waiter is called, and the change stays dirty."""
    rig = Rig(worker=parked)
    waiting: list[Waiting] = []
    with pytest.RaisesGroup(KeyboardInterrupt):
        async with trio.open_nursery() as nursery:
            await nursery.start(rig.encryptor.run)
            waiting.append(ask(rig))
            await wait_all_tasks_blocked()
            parked.fail(KeyboardInterrupt())
    assert (len(waiting[0].calls), rig.encryptor.pending, rig.encryptor.health.failures) == (1, True, 0)
    assert await flushed(rig, parked)


async def test_a_flight_outlives_the_machine_that_was_cancelled(parked: ParkedWorker) -> None:
    """R-21: its landing counts, and calls who waits; afterwards `run` can go on."""
    rig = Rig(worker=parked)
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.machine.run)
        waiting = ask(rig)
        rig.write(b"late")
        nursery.cancel_scope.cancel()
    assert (waiting.calls, rig.encryptor.pending) == ([], True)
    parked.let_go()
    assert (len(waiting.calls), rig.confirm(b"label"), rig.confirm(b"late")) == (1, FLUSHED, PENDING)
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.machine.run)
        await wait_all_tasks_blocked()
        parked.let_go()
        nursery.cancel_scope.cancel()
    assert rig.confirm(b"late") == FLUSHED


async def test_a_flush_is_served_by_a_flight_that_a_waiter_started(
    parked: ParkedWorker, nursery: trio.Nursery
) -> None:
    """R-20: busy guests cannot hold up a stop: a flight that started after its call has all that it wants."""
    rig = Rig(worker=parked)
    ask(rig)
    rig.write(b"dirty at the call")
    went: list[bool] = []

    async def flush() -> None:
        went.append(await rig.encryptor.flush())

    nursery.start_soon(flush)
    await wait_all_tasks_blocked()
    again = ask(rig, b"too late")
    again.then = lambda: ask(rig, b"later still")
    parked.let_go()
    await wait_all_tasks_blocked()
    parked.let_go()
    await wait_all_tasks_blocked()
    assert (went, rig.confirm(b"dirty at the call")) == ([True], FLUSHED)
