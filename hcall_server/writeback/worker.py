"""The worker of NVRAM commits: a separate thread, or the event loop in simulations.

A commit blocks for as long as the disk takes, so it may not run on the loop.
"""

# The worker has a thread of its own, not one of Trio's pool.  A hop takes 20 to 50 us less, and commits
# stay in their order.
#
# The thread is a daemon, because a commit may hang for ever on a broken disk.  The process must still be
# able to end.

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import NamedTuple, Protocol, Self

import outcome
import trio

from hcall_abi.scarcity import scarcity_of

Job = Callable[[], None]
Landed = Callable[[outcome.Outcome[None]], None]
"""Takes the outcome of a job, on the event loop."""


class Worker(Protocol):
    """Runs blocking jobs, one at a time, in the order of their starts."""

    def start(self, job: Job, landed: Landed) -> None:
        """Run `job` soon, and call `landed` once with its outcome, in a later pass of this event loop.

        Never raises: an error that keeps the job from running is its outcome.  If the loop ends before the
        job, the outcome is dropped; whether the job took effect is then unknown.
        """

    def close(self) -> None:
        """Accept no more jobs."""


class InlineWorker:
    """Runs jobs on the loop: for tests and for simulations on a virtual clock."""

    def start(self, job: Job, landed: Landed) -> None:
        """Run `job` in the next pass of the loop."""
        # The job does not run in this call: with a real worker, the caller goes on before the job has run.
        trio.lowlevel.current_trio_token().run_sync_soon(lambda: landed(outcome.capture(job)))

    def close(self) -> None:
        """Do nothing: there is no thread to end."""


class _Errand(NamedTuple):
    """A job for the thread, the function that takes its outcome, and the loop that calls this function."""

    job: Job
    landed: Landed
    token: trio.lowlevel.TrioToken

    def run(self) -> None:
        """Do the job, in the thread, and send its outcome to the loop."""
        self.send(outcome.capture(self.job))

    def send(self, result: outcome.Outcome[None]) -> None:
        """Send an outcome to the loop, from any thread."""
        try:
            self.token.run_sync_soon(self.landed, result)
        except trio.RunFinishedError:
            return  # the loop has ended, so no task is left to take the outcome


class ThreadWorker:
    """Runs jobs in one daemon thread, started by `started`, or with the first job.

    `name` is that of the thread, `jobs` are its jobs in words.
    """

    def __init__(self, name: str = "swpks-nvram", jobs: str = "NVRAM commits") -> None:
        self._name = name
        self._jobs = jobs
        self._errands: queue.SimpleQueue[_Errand | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def started(self) -> Self:
        """Start the thread, and return this worker; ScarcityError if the system gives no thread.

        A server calls this before it serves.  Then a later shortage of threads cannot stop its flushes.
        """
        if self._thread is None:
            thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            try:
                thread.start()
            except (RuntimeError, MemoryError) as error:
                raise scarcity_of(error, f"the thread of {self._jobs}") or error from None
            # set after the start: a job for a thread that did not start would wait for ever
            self._thread = thread
        return self

    def start(self, job: Job, landed: Landed) -> None:
        """Run `job` in the thread; its outcome is a ScarcityError if the system gives no thread."""
        errand = _Errand(job, landed, trio.lowlevel.current_trio_token())
        try:
            self.started()
        except Exception as error:
            errand.send(outcome.Error(error))
        else:
            self._errands.put(errand)

    def close(self) -> None:
        """End the thread when the jobs that it has are done; does not wait for that."""
        self._errands.put(None)

    def ended(self, seconds: float) -> bool:
        """End the thread; wait for its last job, at most `seconds`; return whether the thread has ended."""
        self.close()
        if self._thread:
            self._thread.join(seconds)
        return self._thread is None or not self._thread.is_alive()

    def _work(self) -> None:
        while (errand := self._errands.get()) is not None:
            errand.run()
