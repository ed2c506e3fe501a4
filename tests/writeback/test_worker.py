"""The thread that commits, for real: order, errors, cancellation, and a disk that hangs."""

import threading

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from hcall_abi.faults import NvramFault
from hcall_server.writeback.encryptor import STALL
from hcall_server.writeback.worker import InlineWorker, ThreadWorker
from tests.writeback.rig import FLUSHED, PENDING, Rig


async def test_jobs_run_in_one_other_thread_in_order() -> None:
    """R-22: commits keep their order, and the loop is not the one that waits for the disk."""
    worker, seen = ThreadWorker(), []
    async with trio.open_nursery() as nursery:
        for n in range(50):
            nursery.start_soon(worker.run, lambda n=n: seen.append((n, threading.get_ident())))
    worker.close()
    assert {thread for _, thread in seen} != {threading.get_ident()}
    assert len({thread for _, thread in seen}) == 1
    assert len(seen) == 50


@pytest.mark.parametrize("make", [ThreadWorker, InlineWorker])
async def test_what_a_job_raises_is_raised_to_its_caller(
    make: type[ThreadWorker] | type[InlineWorker],
) -> None:
    """R-23: a failed commit reaches the encryptor, and the worker goes on."""
    worker, done = make(), []
    with pytest.raises(ZeroDivisionError):
        await worker.run(lambda: 1 / 0)  # type: ignore[arg-type]
    await worker.run(lambda: done.append(1))
    worker.close()
    assert done == [1]


async def test_a_cancelled_caller_leaves_its_job_to_itself() -> None:
    """R-22: the job ends in its own time, before any later one."""
    worker, order = ThreadWorker(), []
    entered, release = threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        release.wait()
        order.append("first")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run, hang)
        await trio.to_thread.run_sync(entered.wait)
        nursery.cancel_scope.cancel()
    assert order == []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run, lambda: order.append("second"))
        release.set()
    worker.close()
    assert order == ["first", "second"]


def test_the_loop_may_end_before_its_job() -> None:
    """R-23: a commit that hangs does not keep the process from ending."""
    worker = ThreadWorker()
    entered, release, done = threading.Event(), threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        release.wait()
        done.set()

    async def give_up() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.run, hang)
            await trio.to_thread.run_sync(entered.wait)
            nursery.cancel_scope.cancel()

    trio.run(give_up)
    assert not done.is_set()
    release.set()
    assert done.wait(10)
    worker.close()
    assert worker._thread is not None
    worker._thread.join(10)
    assert not worker._thread.is_alive()


def test_closing_a_worker_that_never_ran_is_fine() -> None:
    """No job, no thread."""
    ThreadWorker().close()
    InlineWorker().close()


async def test_a_disk_that_hangs_stops_nobody_but_the_flush(mock_clock: MockClock) -> None:
    """R-23: the guest goes on, health says stalled, and the commit confirms in the end."""
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
    """R-23: a commit may hang for ever, and the server must still end; a dump shows the thread by name."""
    before = set(threading.enumerate())
    worker = ThreadWorker()
    await worker.run(lambda: None)
    (made,) = set(threading.enumerate()) - before
    assert (made.daemon, made.name) == (True, "swpks-nvram")
    worker.close()


async def test_a_job_of_a_cancelled_caller_does_not_run_inline() -> None:
    """R-22: also in a simulation a caller can be cancelled before its commit."""
    done: list[int] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        await InlineWorker().run(lambda: done.append(1))
    assert (scope.cancelled_caught, done) == (True, [])
