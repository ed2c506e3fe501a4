"""CONFIRMs that wait while NVRAM stalls or refuses, or until an error or the end of the process."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from hcall_abi.faults import NvramFault
from hcall_abi.rules import storage
from hcall_server.keystore.contents import Contents
from hcall_server.service.assembly import assemble
from hcall_server.service.settings import PartitionSettings, Settings
from hcall_server.writeback.health import FIRST_RETRY
from hcall_server.writeback.worker import InlineWorker, ThreadWorker
from swpks.testing.seams import simulated_seams
from tests.writeback.rig import FLUSHED, PENDING, Rig
from tests.writeback.waiting import PATIENCE, Waiting, ask, flushed
from tests.writeback.workers import ParkedWorker

# Patience


async def test_a_stalled_nvram_is_answered_by_patience(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """R-23: While NVRAM stalls, a waiting guest gets "not yet" at its timeout.

    The commit still counts later.
    """
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
    """R-23: While NVRAM refuses, each waiting guest gets "not yet" at its timeout, before the retry."""
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
    """R-23: Timeouts are measured by the machine's clock, which may begin at any number."""
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
    """R-20: Without the task `run`, no timeout ends a wait, but landings do."""
    rig = Rig(worker=parked)
    waiting = ask(rig)
    await trio.sleep(10)
    assert waiting.calls == []
    parked.let_go()
    assert (waiting.calls, rig.confirm(b"label")) == ([10.0], FLUSHED)


# Errors and ends


async def test_a_bug_in_the_landing_leaves_everything_dirty(
    monkeypatch: pytest.MonkeyPatch, parked: ParkedWorker, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """R-23: If a landing fails because of a bug, the error is reported and the waiters are called.

    All changes stay dirty and are written again.
    """
    rig = Rig(2, worker=parked)
    await nursery.start(rig.encryptor.run)
    rig.write(b"other", n=1)
    waiting = ask(rig)

    def fail(self: Contents, generation: int) -> None:
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr(Contents, "mark_flushed", fail)
        parked.let_go()
    (report,) = rig.told
    assert report is not None
    assert (report.rule, str(report.__cause__)) == (storage.FLUSH_FINISHED, "a bug")
    assert (len(waiting.calls), rig.confirm(b"label"), rig.encryptor.health.pending) == (1, PENDING, 2)
    again = Waiting(rig, patience=1)
    await trio.sleep(FIRST_RETRY * 1.1)
    parked.let_go()
    assert (len(again.calls), rig.confirm(b"label"), rig.confirm(b"other", n=1)) == (1, FLUSHED, FLUSHED)
    assert rig.told[1:] == [None]


async def test_a_log_that_fails_ends_nothing(parked: ParkedWorker) -> None:
    """R-23: If the report of an error fails, health still has the error, and the encryptor goes on."""
    rig = Rig(worker=parked, plan=[NvramFault("io")])

    def fail(error: object) -> None:
        raise ZeroDivisionError

    rig.encryptor.on_trouble = fail
    waiting = ask(rig)
    parked.let_go()
    assert (len(waiting.calls), rig.encryptor.health.last_error) == (1, "NVRAM: io (a planned fault)")
    assert await flushed(rig, parked)


async def test_what_ends_the_process_is_raised_by_the_task(parked: ParkedWorker) -> None:
    """R-23: KeyboardInterrupt in a commit is raised by the task `run`. The change stays dirty."""
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
    """R-21: A commit that ends after the cancel of the machine counts, and calls its waiters.

    Afterwards `run` can start again.
    """
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
    """R-20: `flush` ends with the first flight that starts after its call, so busy guests delay no stop."""
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


async def test_an_end_of_the_process_reaches_who_flushes(parked: ParkedWorker, nursery: trio.Nursery) -> None:
    """R-23: KeyboardInterrupt in a commit is raised by the task that waits in `flush`. NVRAM has no fault."""
    rig = Rig(worker=parked)
    rig.write(b"label")
    ends: list[BaseException] = []

    async def flush() -> None:
        try:
            await rig.encryptor.flush()
        except KeyboardInterrupt as end:
            ends.append(end)

    nursery.start_soon(flush)
    await wait_all_tasks_blocked()
    parked.fail(KeyboardInterrupt())
    await wait_all_tasks_blocked()
    assert len(ends) == 1
    assert rig.encryptor.pending


async def test_the_age_of_a_change_counts_from_its_time(mock_clock: MockClock, parked: ParkedWorker) -> None:
    """R-23: The age of a pending change begins at the change, whatever the clock shows then."""
    mock_clock.jump(1000)
    rig = Rig(worker=parked)
    rig.write(b"label")
    mock_clock.jump(3)
    assert rig.encryptor.health.oldest_pending == 3
