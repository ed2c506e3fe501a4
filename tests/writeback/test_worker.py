"""The real thread that commits: order, errors, cancellation, and a disk that hangs."""

import threading
from functools import partial
from typing import Never

import outcome
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from hcall_abi.errors import ScarcityError
from hcall_abi.faults import NvramFault
from hcall_server.writeback.health import STALL
from hcall_server.writeback.worker import InlineWorker, ThreadWorker
from tests.writeback.rig import FLUSHED, PENDING, Rig
from tests.writeback.workers import done


async def test_jobs_run_in_one_other_thread_in_order() -> None:
    """R-22: Jobs run in one thread in their order. The event loop does not wait for the disk."""
    worker = ThreadWorker()
    seen: list[tuple[int, int]] = []
    landed: list[outcome.Outcome[None]] = []

    def see(n: int) -> None:
        seen.append((n, threading.get_ident()))

    for n in range(50):
        worker.start(partial(see, n), landed.append)
    await done(worker, lambda: None)
    worker.close()
    assert {thread for _, thread in seen} != {threading.get_ident()}
    assert len({thread for _, thread in seen}) == 1
    assert [n for n, _ in seen] == list(range(50))
    assert landed == [outcome.Value(None)] * 50


@pytest.mark.parametrize("make", [ThreadWorker, InlineWorker])
async def test_what_a_job_raises_is_its_outcome(
    make: type[ThreadWorker] | type[InlineWorker],
) -> None:
    """R-23: The exception of a job is its outcome, and the worker runs the next job."""
    worker, ran = make(), []
    with pytest.raises(ZeroDivisionError):
        await done(worker, lambda: 1 / 0)  # type: ignore[arg-type]
    await done(worker, lambda: ran.append(1))
    worker.close()
    assert ran == [1]


async def test_a_job_that_hangs_keeps_its_place() -> None:
    """R-22: A later job runs after a job that hangs, and both report their outcomes."""
    worker, order = ThreadWorker(), []
    landed: list[outcome.Outcome[None]] = []
    entered, release = threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        release.wait()
        order.append("first")

    worker.start(hang, landed.append)
    await trio.to_thread.run_sync(entered.wait)
    worker.start(lambda: order.append("second"), landed.append)
    assert (order, landed) == ([], [])
    release.set()
    await done(worker, lambda: order.append("third"))
    worker.close()
    assert (order, len(landed)) == (["first", "second", "third"], 2)


def test_the_loop_may_end_before_its_job() -> None:
    """R-23: The event loop can end while a job hangs. The outcome of that job is dropped."""
    worker = ThreadWorker()
    landed: list[outcome.Outcome[None]] = []
    entered, release, ended = threading.Event(), threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        release.wait()
        ended.set()

    async def give_up() -> None:
        worker.start(hang, landed.append)
        await trio.to_thread.run_sync(entered.wait)

    trio.run(give_up)
    assert not ended.is_set()
    release.set()
    assert ended.wait(10)
    # The worker's thread can still do jobs.
    trio.run(done, worker, lambda: None)
    assert landed == []
    worker.close()
    assert worker._thread is not None
    worker._thread.join(10)
    assert not worker._thread.is_alive()


def test_closing_a_worker_that_never_ran_is_fine() -> None:
    """A worker that never ran a job has no thread, and can be closed."""
    ThreadWorker().close()
    InlineWorker().close()


async def test_a_disk_that_hangs_stops_nobody_but_the_flush(mock_clock: MockClock) -> None:
    """R-23: While a commit hangs, the guest goes on, and health shows "stalled". Later all is durable."""
    worker = ThreadWorker()
    rig = Rig(worker=worker, plan=[NvramFault("stall", times=None)])
    rig.write(b"label")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.encryptor.flush)
        await trio.to_thread.run_sync(rig.nvram.stalled.wait)
        await wait_all_tasks_blocked()
        mock_clock.jump(STALL + 1)
        assert rig.encryptor.health.state == "stalled"
        assert rig.confirm(b"label") == PENDING
        rig.write(b"another")
        assert rig.guests[0].read(3, b"another").status == 0
        rig.nvram.set_faults()
    assert rig.confirm(b"label") == FLUSHED
    assert rig.confirm(b"another") == PENDING
    assert await rig.encryptor.flush()
    worker.close()
    assert rig.power_cut().objects() == {b"label": b"data", b"another": b"data"}


async def test_the_thread_does_not_keep_the_process_alive() -> None:
    """R-23: A commit that hangs does not keep the process from ending. A stack dump has the thread's name."""
    before = set(threading.enumerate())
    worker = ThreadWorker()
    await done(worker, lambda: None)
    (made,) = set(threading.enumerate()) - before
    assert (made.daemon, made.name) == (True, "swpks-nvram")
    worker.close()


async def test_a_flush_of_a_cancelled_caller_commits_nothing() -> None:
    """R-22: If the caller of a flush is cancelled before the commit, nothing is committed."""
    rig = Rig(worker=InlineWorker())
    rig.write(b"label")
    with trio.CancelScope() as scope:
        scope.cancel()
        await rig.encryptor.flush()
    await wait_all_tasks_blocked()
    assert (scope.cancelled_caught, rig.journal.journal, rig.encryptor.pending) == (True, [], True)


async def test_a_thread_that_is_refused_is_an_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    """R-23: If the thread can't be started, `start` reports that as outcome. The next job tries again."""

    def refuse(self: threading.Thread) -> Never:
        raise RuntimeError("can't start new thread")

    worker = ThreadWorker()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(ScarcityError):
            await done(worker, lambda: None)
    await done(worker, lambda: None)
    worker.close()
