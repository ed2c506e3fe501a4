"""Jobs: durable plans and steps, any number of followers, kills at every step, absent systems."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import msgspec
import pytest
import trio
import trio.testing

from hcall_abi.control_views import SystemView
from hcall_abi.errors import OperatorError, StorageError
from hcall_abi.requests import show_system
from hcall_abi.rules import console as system_rules
from hcall_abi.rules import hmc as rules
from hcall_server.console.jobs import Job, JobKind, JobRun, Jobs
from hcall_server.console.store import ConsoleStore
from hcall_server.console.systems import KnownSystem, NoLog
from tests.console.facts import system
from tests.console.rig import Site, running

STEPS = 3


class Plan(msgspec.Struct):
    word: str


class Rig:
    """A store with one system, and jobs of a kind that asks the system at each step."""

    def __init__(self) -> None:
        self.store = ConsoleStore()
        self.row = self.store.add_system("lab", "5" * 32, "9105-22A*1", "/lab")
        self.away = 0
        self.performed: list[str] = []
        self.kill_after = -1
        self.error: Exception | None = None

    async def call(self, request: object) -> SystemView:
        await trio.lowlevel.checkpoint()
        if self.away:
            self.away -= 1
            raise OperatorError(system_rules.CONSOLE_SERVED, "no server answers")
        return system()

    async def perform(self, run: JobRun) -> None:
        run.expect(STEPS)
        for step in map(str, range(STEPS)):
            if step in run.steps:
                continue
            await run.call(show_system())
            self.performed.append(f"{run.plan.word} {step}")
            if len(self.performed) == self.kill_after:
                await trio.sleep_forever()
            if self.error:
                raise self.error
            run.finish(step, f"step {step}")

    def jobs(self) -> Jobs:
        """Return the jobs of a console that has just started on the store."""
        self.known = KnownSystem(self.row, self, self.store, lambda: 0.0)  # type: ignore[arg-type]
        kinds = {"work": JobKind(Plan, self.perform)}
        return Jobs(self.store, kinds, {self.row.key: self.known}.get, NoLog())

    def start(self, jobs: Jobs, word: str = "old") -> Job:
        return jobs.start("work", self.known, Plan(word))


@pytest.fixture
def rig() -> Iterator[Rig]:
    """A rig; its store is closed after the test."""
    made = Rig()
    with closing(made.store):
        yield made


async def ignored(_: Job) -> None:
    await trio.lowlevel.checkpoint()


async def test_a_job_is_answered_at_once_and_followed_by_any_number(rig: Rig, autojump_clock) -> None:
    """A job is answered at once; each follower sees its end, also a late one."""
    seen = list[tuple[int, int, str]]()
    jobs = rig.jobs()

    async def note(job: Job) -> None:
        await trio.lowlevel.checkpoint()
        seen.append((job.done, job.total, job.state))

    async with trio.open_nursery() as nursery:
        job = rig.start(jobs)
        assert (job.number, job.kind, job.system, job.state, job.done) == (1, "work", "lab", "running", 0)
        nursery.start_soon(jobs.follow, job, ignored)
        await nursery.start(jobs.run)
        ended = await jobs.follow(job, note)
        assert ended is job
        await jobs.follow(job, note)
        nursery.cancel_scope.cancel()
    assert seen[-2:] == [(STEPS, STEPS, "done")] * 2
    assert job.lines == ["step 0", "step 1", "step 2"]
    assert [each[0] for each in seen] == sorted(each[0] for each in seen)


async def test_a_job_that_ends_before_its_first_turn_takes_no_step(rig: Rig, autojump_clock) -> None:
    """If its system is removed before its task first runs, a job takes no step."""
    jobs = rig.jobs()
    async with trio.open_nursery() as nursery:
        await nursery.start(jobs.run)
        job = rig.start(jobs)
        jobs.end_of(rig.known)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert (job.state, rig.performed) == ("failed", [])


@pytest.mark.parametrize("step", range(1, STEPS + 1))
async def test_a_killed_job_goes_on_with_its_plan(step: int, rig: Rig, autojump_clock) -> None:
    """A kill may come between a step and its note. The console then repeats this step and no other one."""
    rig.kill_after = step
    jobs = rig.jobs()
    with trio.move_on_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(jobs.run)
            rig.start(jobs)
    jobs = rig.jobs()
    (job,) = jobs.all
    assert (job.state, job.done) == ("running", step - 1)
    async with trio.open_nursery() as nursery:
        await nursery.start(jobs.run)
        await jobs.follow(job, ignored)
        nursery.cancel_scope.cancel()
    assert job.state == "done"
    assert job.lines == [f"step {number}" for number in range(STEPS)]
    wanted = [f"old {number}" for number in range(STEPS)]
    assert sorted(rig.performed) == sorted([*wanted, f"old {step - 1}"])
    assert [each.state for each in rig.jobs().all] == ["done"]


async def test_a_job_waits_for_a_system_that_is_away(rig: Rig, autojump_clock) -> None:
    """A job reports that it waits for its system, and goes on when the system is back."""
    waits = set[str]()
    rig.away = 12

    async def note(job: Job) -> None:
        await trio.lowlevel.checkpoint()
        waits.add(job.waiting)

    jobs = rig.jobs()
    async with trio.open_nursery() as nursery:
        await nursery.start(jobs.run)
        job = await jobs.follow(rig.start(jobs), note)
        nursery.cancel_scope.cancel()
    assert job.state == "done"
    assert waits == {"", "lab: no server answers"}
    assert 20 < trio.current_time() < 60


async def run_to_end(rig: Rig) -> Job:
    jobs = rig.jobs()
    async with trio.open_nursery() as nursery:
        await nursery.start(jobs.run)
        job = await jobs.follow(rig.start(jobs), ignored)
        nursery.cancel_scope.cancel()
    return job


async def test_a_refusal_and_a_bug_end_their_own_job(rig: Rig, autojump_clock) -> None:
    """A refusal or a bug is the last line of its job; the next job of the system may begin."""
    rig.error = OperatorError(system_rules.NAME_EXISTS, "there is no partition x")
    job = await run_to_end(rig)
    assert (job.state, job.lines) == ("failed", ["there is no partition x"])
    assert job.rule_id == rig.jobs().all[0].rule_id == "name.exists"
    rig.error = ValueError("secret")
    job = await run_to_end(rig)
    assert job.state == "failed"
    assert "ValueError" in job.lines[0]
    assert "secret" not in str(job)
    rig.error = None
    assert (await run_to_end(rig)).state == "done"


async def test_a_full_disk_of_the_console_delays_a_job(rig: Rig, autojump_clock) -> None:
    """While the console's disk is full, no step is lost, and each noted step is durable."""
    jobs, save, left = rig.jobs(), rig.store.save_job, [5]

    def full(*arguments: object) -> None:
        left[0] -= 1
        if left[0] > 0:
            raise StorageError(rules.HMC_STORE_WRITTEN, "the disk is full")
        save(*arguments)  # type: ignore[arg-type]

    rig.store.save_job = full  # type: ignore[assignment,method-assign]
    async with trio.open_nursery() as nursery:
        await nursery.start(jobs.run)
        job = await jobs.follow(rig.start(jobs), ignored)
        nursery.cancel_scope.cancel()
    assert (job.state, job.lines) == ("done", ["step 0", "step 1", "step 2"])
    assert rig.performed.count("old 0") == 5


async def test_a_system_has_one_running_job(rig: Rig, autojump_clock) -> None:
    jobs = rig.jobs()
    rig.start(jobs)
    with pytest.raises(OperatorError) as caught:
        rig.start(jobs)
    assert caught.value.rule is rules.HMC_JOB_ALONE
    with pytest.raises(OperatorError) as caught:
        jobs.find(7)
    assert caught.value.rule is rules.HMC_JOB_KNOWN
    await trio.lowlevel.checkpoint()


async def test_the_job_of_a_removed_system_ends(rig: Rig, autojump_clock) -> None:
    rig.away = 1000
    jobs = rig.jobs()
    async with trio.open_nursery() as nursery:
        await nursery.start(jobs.run)
        job = rig.start(jobs)
        await trio.sleep(1)
        jobs.end_of(rig.known)
        await jobs.follow(job, ignored)
        nursery.cancel_scope.cancel()
    assert (job.state, job.lines) == ("failed", ["lab was removed from the console"])


async def test_a_slow_follower_does_not_miss_the_end(autojump_clock) -> None:
    """A follower that is slow to handle the start of a job still gets the end of the job."""
    async with running(Site()) as rig:
        states: list[str] = []

        async def slow(job: Job) -> None:
            states.append(job.state)
            await rig.until(lambda: job.state != "running")

        await rig.console.jobs.follow(rig.console.back_up(rig.system), slow)
        assert states == ["running", "done"]
