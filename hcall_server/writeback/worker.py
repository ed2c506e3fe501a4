"""Where NVRAM commits run: in one thread of their own, or inline in simulations.

A commit blocks for as long as the disk takes, so it may not run on the loop.  One dedicated
thread takes half the time of a thread pool to start a job, and keeps commits in order.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Protocol, Self

import outcome
import trio

from hcall_abi.scarcity import scarcity_of

Job = Callable[[], None]


class Worker(Protocol):
    """Runs blocking jobs for a trio task, one at a time."""

    async def run(self, job: Job) -> None:
        """Run `job` and return when it is done; raises the exception that `job` raises.

        If the caller is cancelled, the job still runs.  The caller cannot learn whether it took effect.
        """

    def close(self) -> None:
        """Take no more jobs."""


class InlineWorker:
    """Runs jobs at once on the loop: for tests and for simulations on a virtual clock."""

    async def run(self, job: Job) -> None:
        """Run `job`."""
        await trio.lowlevel.checkpoint()
        job()

    def close(self) -> None:
        """There is nothing to stop."""


class _Errand:
    """A job for the thread, with the task that waits for its outcome."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._task: trio.lowlevel.Task | None = trio.lowlevel.current_task()
        self._token = trio.lowlevel.current_trio_token()

    def run(self) -> None:
        """Do the job, in the thread, and send its outcome to the loop."""
        result = outcome.capture(self._job)
        try:
            self._token.run_sync_soon(self._deliver, result)
        except trio.RunFinishedError:
            return  # the loop has ended, so no task waits for the outcome

    def abandon(self, raise_cancel: object) -> trio.lowlevel.Abort:
        """Cancel the wait: `_deliver` then drops the outcome."""
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _deliver(self, result: outcome.Outcome[None]) -> None:
        if self._task is not None:
            trio.lowlevel.reschedule(self._task, result)


class ThreadWorker:
    """Runs jobs in one daemon thread, started by `started`, or with the first job."""

    def __init__(self) -> None:
        self._errands: queue.SimpleQueue[_Errand | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def started(self) -> Self:
        """Start the thread, and return this worker; ScarcityError if the system gives no thread.

        A server calls this before it serves: then no later shortage of threads can stop its flushes.
        """
        self._start()
        return self

    def _start(self) -> None:
        if self._thread is not None:
            return
        thread = threading.Thread(target=self._work, name="swpks-nvram", daemon=True)
        try:
            thread.start()
        except (RuntimeError, MemoryError) as error:
            raise scarcity_of(error, "the thread of NVRAM commits") or error from None
        self._thread = thread  # not earlier: a job for a thread that did not start would wait for ever

    async def run(self, job: Job) -> None:
        """Run `job` in the thread; ScarcityError if the system gives no thread."""
        self._start()
        errand = _Errand(job)
        self._errands.put(errand)
        await trio.lowlevel.wait_task_rescheduled(errand.abandon)

    def close(self) -> None:
        """End the thread after the jobs in its queue."""
        self._errands.put(None)

    def _work(self) -> None:
        while (errand := self._errands.get()) is not None:
            errand.run()
