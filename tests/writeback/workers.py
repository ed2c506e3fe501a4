"""Workers whose commits end when a test decides."""

from __future__ import annotations

import outcome
import trio

from hcall_server.writeback.worker import Job, Landed, Worker


class TaskWorker:
    """A worker that runs each job in its own task, by `run`. A test overrides `run`."""

    def start(self, job: Job, landed: Landed) -> None:
        """Begin `run` in a task. Its exception is the outcome."""
        trio.lowlevel.spawn_system_task(self._fly, job, landed)

    async def run(self, job: Job) -> None:
        """Run the job."""
        await trio.lowlevel.checkpoint()
        job()

    async def _fly(self, job: Job, landed: Landed) -> None:
        try:
            await self.run(job)
        except trio.Cancelled:  # cancelled at the end of the loop
            raise
        except BaseException as error:
            landed(outcome.Error(error))
        else:
            landed(outcome.Value(None))

    def close(self) -> None:
        """Do nothing: no work is left to stop."""


class ParkedWorker:
    """A worker that holds each job until the test releases it."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self._parked: list[tuple[Job, Landed]] = []

    def start(self, job: Job, landed: Landed) -> None:
        """Hold a job."""
        self.jobs.append(job)
        self._parked.append((job, landed))

    def let_go(self) -> None:
        """Run all held jobs, in order."""
        parked, self._parked = self._parked, []
        for job, landed in parked:
            landed(outcome.capture(job))

    def fail(self, error: BaseException) -> None:
        """End all held jobs with an error, without running them."""
        parked, self._parked = self._parked, []
        for _, landed in parked:
            landed(outcome.Error(error))

    def close(self) -> None:
        """Do nothing: no work is left to stop."""


async def done(worker: Worker, job: Job) -> None:
    """Run a job and wait until its outcome is reported; raise its exception."""
    landing, outcomes = trio.Event(), []

    def landed(result: outcome.Outcome[None]) -> None:
        outcomes.append(result)
        landing.set()

    worker.start(job, landed)
    # The outcome does not come from `start` itself.
    assert outcomes == []
    await landing.wait()
    outcomes[0].unwrap()
