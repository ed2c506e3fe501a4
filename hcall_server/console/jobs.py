"""Jobs: long work of the management console (spec/console.md#jobs)."""

# The command that starts a job gets its number at once, and then follows the job.  A job must guarantee:
#
#   1. The plan is durable before the first step, and each step is durable once it is done.
#   2. After a kill the job goes on with the same plan, from its last durable step.
#   3. A system that goes away delays its job.  Any other refusal of the system ends the job.
#   4. A job never disturbs another job: an error belongs to the job in which it happened.
#   5. A system has at most one running job.
#
# Plan before steps.  `start` checks, stores the plan and begins, without an await in between.  So two orders
# can't both find the system idle.  The operator has seen the plan, for example the losses of a profile
# restore.  So a job never makes its plan anew after a kill: the new plan could differ from the announced one.
#
# Why each step may be repeated.  A step changes a system.  The job then stores in the console that the step
# is done.  No transaction has both.  In the other order, a kill between the two would lose the step.  In this
# order, a kill or a lost answer repeats the step.  Each kind of job makes this harmless in its own way:
#
#   backup            takes another copy.
#   recover           restores with `older=False`: the system refuses a copy that is behind its store.
#   restore-profiles  requests the view of the system first.  A restore to an older copy is intended here,
#                     so the system can't refuse a repetition.  The job stores the count of restores before
#                     the restore.  A changed count then shows that the restore was done.
#   migrate, restart  carry the number of their attempt.  A system ignores the words of an old one.
#
# Steps have names, not positions.  If the system loses a store again, the recovery restores it again, and the
# new result replaces the old one.  Memory changes only after the store has changed (`JobRun._save`).  So a
# follower never sees a step that a crash could undo.
#
# One job for each system.  Two recoveries, or a recovery and a profile restore, would undo each other's
# steps: each of them sets trusted system keys, and sets the earlier key back at its end.  If a system loses
# its stores while a job runs, its recovery begins after this job (`Jobs.after`).  A migration or a remote
# restart ends early instead.  A move that brings a partition by its copy begins again after the recovery
# (`Migrations.go_on`).
#
# Three ways out of a step that fails:
#
#   the system is away      or its disk takes no write: `persist` makes the request again, first after 0.1 s,
#                           at last every 5 s.  A connection of the system ends the pause.
#   the system refuses      the job ends, with the reason as its last line.  An operator has to remove the
#                           cause.
#   the store is full       the job is performed again from its last durable step, as after a kill.
#
# A `backup` makes its requests without `persist`.  It promises a copy of the present state, and after a wait
# the state would be another one.
#
# Tried and dropped:
#
#   - At first a full disk at a system ended the job.  In an inactive migration the source has released the
#     partition early.  One refused write at the target then ended the job in the middle.  Now errors of the
#     system's storage delay the job.
#   - At first a migration stored each row of the state table at once.  If the systems and the console share
#     a disk, these commits delay the commits of the freeze.  Now the job collects rows for a moment before
#     it stores them (`migration.GATHER_SECONDS`).

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec
import trio

from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.requests import ConsoleRequest
from hcall_abi.rules import backup, console, migration, service
from hcall_abi.rules import hmc as rules
from hcall_abi.rules.rule import Rule
from hcall_server.console.patience import waits
from hcall_server.console.store import ConsoleStore, JobProgress, JobRow
from hcall_server.console.systems import EventLog, KnownSystem

JobState = Literal["running", "done", "failed"]
T = TypeVar("T")

_AWAY = (
    console.CONSOLE_SERVED,
    console.CONSOLE_ANSWER,
    console.SYSTEM_IDENTITY,
    console.CONSOLE_STORED,
    console.PARTITION_STORED,
    console.POWER_COUNTED,
    backup.BACKUP_STORED,
    migration.CUSTODY_STORED,
    service.SCARCE_SPACE,
)
"""Rules of errors after which a request is made again: the system is away, or its disk takes no write."""


def may_repeat(error: SwpksError) -> bool:
    """Return whether a request may be repeated after an error: the same request may succeed later."""
    return error.rule in _AWAY


@dataclass
class Job:
    """Long work, which survives a restart of the console.

    `done` and `total` count steps.  `lines` are for the operator: findings, and at the end the result.
    `waiting` is the reason why a running job waits, "" if it does not wait.

    If a job has failed, its last line is the error message, and `rule_id` is the rule of the error.
    `advised` says that this line contains the remedy.
    """

    number: int
    kind: str
    system: str
    state: JobState = "running"
    done: int = 0
    total: int = 0
    lines: list[str] = field(default_factory=list)
    waiting: str = ""
    rule_id: str = ""
    advised: bool = False


class JobKind(NamedTuple):
    """A kind of job: the type of its plan, and the function that performs it from the last durable step."""

    plan: Any
    perform: Callable[[JobRun], Awaitable[None]]


class JobRun:
    """A running job: its plan, and the steps that are durably done."""

    def __init__(self, job: Job, system: KnownSystem, plan: Any, progress: JobProgress, jobs: Jobs) -> None:
        self.job = job
        self.system = system
        self.plan = plan
        self.steps = progress.steps
        """The results of the steps that are done, by the name of the step."""
        self._jobs = jobs

    def __repr__(self) -> str:
        return f"JobRun({self.job.number}, {self.job.kind})"

    def expect(self, total: int) -> None:
        """Set the number of steps."""
        self.job.total = max(total, self.job.done)
        self._jobs.wake_followers(self.job)

    def note(self, step: str, result: str = "") -> None:
        """Store a decision, durably; it does not count as a step."""
        self._save({**self.steps, step: result}, self.job.lines, self.job.done)

    def finish(self, step: str, *lines: str, result: str = "") -> None:
        """Store that a step is done, durably, and add lines for the operator."""
        self._save({**self.steps, step: result}, [*self.job.lines, *lines], self.job.done + 1)

    def _save(self, steps: dict[str, str], lines: list[str], done: int) -> None:
        # A repeated step counts once more, for example when a system loses a store again.  So `done` can
        # exceed `total`.  A follower must not see 4 of 3, so the total grows with it.
        total = max(self.job.total, done)
        # If this call raises, the lines below do not run.  Memory is unchanged, and the job goes on from the
        # last durable step.
        self._jobs.save(self.job, "running", JobProgress(done, total, lines, steps))
        self.steps, self.job.lines, self.job.done, self.job.total = steps, lines, done, total
        self._jobs.wake_followers(self.job)

    def say(self, *lines: str) -> None:
        """Store lines for the operator, durably."""
        self._save(self.steps, [*self.job.lines, *lines], self.job.done)

    async def call(self, request: ConsoleRequest[T], system: KnownSystem | None = None) -> T:
        """Make a request of the job's system, or of `system`; return the answer.

        While the system is away, or its disk takes no write, the request is repeated.
        """
        asked = system or self.system
        return await self.persist(lambda: asked.call(request), system=asked)

    async def persist(
        self, attempt: Callable[[], Awaitable[T]], *also: Rule, system: KnownSystem | None = None
    ) -> T:
        """Call `attempt`, and repeat the call while the system is away, or can't write to its disk.

        Errors of the rules `also` lead to a repetition too.  The system may have performed a failed call, if
        only its answer was lost.
        """
        asked = system or self.system
        for seconds in waits():
            try:
                answer = await attempt()
            except SwpksError as error:
                # Any other error ends the job, even of an unknown rule.  Such an error may be a refusal, and
                # the job would repeat it for ever.
                if not may_repeat(error) and error.rule not in also:
                    raise
                self.wait(f"{asked.name}: {error.message}")
                # The stream of the system ends this pause when it connects.  A plain sleep would last longer.
                await asked.pause(seconds)
            else:
                self.wait("")
                return answer
        # For the type checker: `waits` is endless.
        raise RuntimeError("the waits have no end")

    def wait(self, reason: str) -> None:
        """Show why the job waits, "" if it does not."""
        if self.job.waiting != reason:
            self.job.waiting = reason
            self._jobs.wake_followers(self.job)


class Jobs:
    """All jobs of the console, running and finished ones."""

    def __init__(
        self,
        store: ConsoleStore,
        kinds: Mapping[str, JobKind],
        system_of: Callable[[int], KnownSystem | None],
        log: EventLog,
    ) -> None:
        self._store = store
        self._kinds = kinds
        self._system_of = system_of
        self._log = log
        self.after: Callable[[Job, KnownSystem], None] = lambda job, system: None
        """Called when a job has ended; must not raise."""
        self._nursery: trio.Nursery | None = None
        self._jobs: dict[int, Job] = {}
        self._running: dict[int, JobRun] = {}
        """The running job of each system, by the key of the system."""
        self._scopes: dict[int, trio.CancelScope] = {}  # by the number of the job
        self._beats: dict[int, trio.Event] = {}
        for row in store.jobs():
            self._take(row)

    def __repr__(self) -> str:
        return f"Jobs({len(self._jobs)}, {len(self._running)} running)"

    @property
    def all(self) -> list[Job]:
        """All jobs, the oldest first."""
        return list(self._jobs.values())

    def find(self, number: int) -> Job:
        """Return a job by its number; OperatorError for an unknown one."""
        if number not in self._jobs:
            raise OperatorError(rules.HMC_JOB_KNOWN, f"there is no job {number}")
        return self._jobs[number]

    def running(self, system: KnownSystem) -> Job | None:
        """Return the running job of a system, or None."""
        run = self._running.get(system.key)
        return run.job if run else None

    def start(self, kind: str, system: KnownSystem, plan: object) -> Job:
        """Store a job and begin it; OperatorError if the system has a running job."""
        # There is no await from here to _begin.  Otherwise two orders could both find the system idle.
        present = self.running(system)
        if present:
            message = f"job {present.number} ({present.kind}) of {system.name} runs: wait for its end"
            raise OperatorError(rules.HMC_JOB_ALONE, message, advised=True)
        number = self._store.start_job(kind, system.key, msgspec.msgpack.encode(plan))
        job = Job(number, kind, system.name)
        self._begin(JobRun(job, system, plan, JobProgress(), self))
        return job

    async def follow(self, job: Job, report: Callable[[Job], Awaitable[None]]) -> Job:
        """Call `report` now and after each change, until the job has ended; return the job.

        A slow follower may miss changes, but never the last change.
        """
        while True:
            # The event is made before the report.  So a change during the report sets it, and the next turn
            # reports that change.
            beat = self._beats.setdefault(job.number, trio.Event())
            ended = job.state != "running"  # read before the report, because the job may end during it
            await report(job)
            if ended:
                return job
            await beat.wait()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Perform all running jobs, and later ones as they start, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for run in self._running.values():
                nursery.start_soon(self._perform, run)
            task_status.started()
            await trio.sleep_forever()

    def plans(self, kind: str) -> list[JobRun]:
        """Return the running jobs of a kind, with their plans."""
        return [run for run in self._running.values() if run.job.kind == kind]

    def end_of(self, system: KnownSystem, reason: str = "") -> None:
        """End the running job of a system as failed; the default reason is that the system was removed."""
        run = self._running.get(system.key)
        if run:
            # The scope is cancelled, and the end is stored below without an await.  So the job takes no
            # further step.
            if scope := self._scopes.get(run.job.number):
                scope.cancel()
            reason = reason or f"{system.name} was removed from the console"
            # The error is `advised`, because nothing has to be done.
            self._end(run, "failed", reason, error=OperatorError(rules.LINE_JOB, reason, advised=True))

    def save(self, job: Job, state: JobState, progress: JobProgress) -> None:
        """Store the state and the progress of a job."""
        self._store.save_job(job.number, state, progress)

    def wake_followers(self, job: Job) -> None:
        """Wake the followers of a job, so that they report its change."""
        self._beats.pop(job.number, trio.Event()).set()

    def _take(self, row: JobRow) -> None:
        """Read a job from the store; a job without its system has failed."""
        system, progress = self._system_of(row.system), row.progress
        # A stored "running" is not enough to go on.  The job also needs its system, and the function of its
        # kind.
        state: JobState = "done" if row.state == "done" else "failed"
        name = system.name if system else ""
        job = Job(row.number, row.kind, name, state, progress.done, progress.total, progress.lines)
        job.rule_id, job.advised = progress.rule_id, progress.advised
        self._jobs[row.number] = job
        if row.state == "running" and system and row.kind in self._kinds:
            job.state = "running"
            plan = self._store.decoded(self._kinds[row.kind].plan, row.plan)
            self._running[system.key] = JobRun(job, system, plan, progress, self)

    def _begin(self, run: JobRun) -> None:
        self._jobs[run.job.number] = run.job
        self._running[run.system.key] = run
        self._log.info("job.started", job=run.job.number, kind=run.job.kind, system=run.system.name)
        if self._nursery:
            self._nursery.start_soon(self._perform, run)

    async def _perform(self, run: JobRun) -> None:
        """Perform a job to its end; repeat it from its last durable step while the store can't be written."""
        if run.job.state != "running":
            # `end_of` has ended the job before this task ran.  There was no scope yet that it could cancel.
            return
        with self._scopes.setdefault(run.job.number, trio.CancelScope()):
            for seconds in waits():
                try:
                    await self._perform_once(run)
                    return
                except SwpksError as error:
                    run.job.waiting = error.message
                    self.wake_followers(run.job)
                    self._log.warning("job.delayed", job=run.job.number, error=error.message)
                    await trio.sleep(seconds)

    async def _perform_once(self, run: JobRun) -> None:
        """Perform a job; raise only the errors of the console's own store."""
        try:
            await self._kinds[run.job.kind].perform(run)
        except SwpksError as error:
            # The store takes no write, so the end of the job could not be stored either.  `_perform` repeats
            # the job.
            if error.rule is rules.HMC_STORE_WRITTEN:
                raise
            self._end(run, "failed", error.message, error=error)
        except Exception as error:  # a bug in one job must not end the console
            self._log.warning("job.crashed", job=run.job.number, exc_info=error)
            self._end(run, "failed", f"the console failed in this job ({type(error).__name__}); see its log")
        else:
            self._end(run, "done")

    def _end(self, run: JobRun, state: JobState, *lines: str, error: SwpksError | None = None) -> None:
        job = run.job
        all_lines = [*job.lines, *lines]
        rule_id, advised = (error.rule.id, error.advised) if error else ("", False)
        # The end is durable before followers see it.  A command that has printed the end must find it after a
        # restart too.
        self.save(job, state, JobProgress(job.done, job.total, all_lines, run.steps, rule_id, advised))
        job.lines, job.state, job.waiting = all_lines, state, ""
        job.rule_id, job.advised = rule_id, advised
        # The job leaves this table before `after` below, which may begin the next job of the system.
        self._running.pop(run.system.key, None)
        self._scopes.pop(job.number, None)
        self._log.info("job.ended", job=job.number, kind=job.kind, system=run.system.name, state=state)
        self.wake_followers(job)
        self.after(job, run.system)
