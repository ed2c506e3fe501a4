"""Random orders of the encryptor's events, against a model that knows when each waiter must be called."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import outcome
import trio
from hypothesis import event, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from hcall_server.nvram import NvramError
from hcall_server.writeback.encryptor import DEFAULT_DELAY
from hcall_server.writeback.health import LAST_RETRY
from hcall_server.writeback.schedule import GATHERING
from hcall_server.writeback.worker import Job, Landed
from tests.writeback.rig import FLUSHED, Rig

PARTITIONS = 2
LONGEST = 0.1
"""Seconds of the longest patience."""


class Step(NamedTuple):
    """One event of a script. `what` says which of the other fields count."""

    what: str
    where: int
    amount: float
    fate: str


STEPS = st.builds(
    Step,
    st.sampled_from(
        ["change"] * 3 + ["wait"] * 5 + ["come back"] * 2 + ["land"] * 3 + ["time"] * 2 + ["drop", "flush"]
    ),
    st.integers(0, PARTITIONS - 1),
    st.sampled_from([0.0001, GATHERING, 0.01, DEFAULT_DELAY, 1.0]),
    st.sampled_from(["done", "done", "done", "refused", "done but refused", "bug"]),
)


class Waiter:
    """The model of a waiting CONFIRM: its timeout and the number of its calls."""

    def __init__(self, until: float, go_on: Callable[[], None]) -> None:
        self.until = until
        self.called = 0
        self.due = False
        """Whether it must have been called by now."""
        self.dropped = False
        self.drop: Callable[[], None]
        self._go_on = go_on

    def go_on(self) -> None:
        self.called += 1
        self._go_on()


class OneFlight:
    """A worker for one job at a time. It ends the job as the script says."""

    def __init__(self) -> None:
        self.flight: tuple[Job, Landed] | None = None
        self.started = 0

    def start(self, job: Job, landed: Landed) -> None:
        assert self.flight is None, "a second flight started"
        self.flight = job, landed
        self.started += 1

    def close(self) -> None:
        """Do nothing: no work is left to stop."""


class Play:
    """A system, its waiters and changes, and the checks after each step."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.worker = OneFlight()
        self.rig = Rig(PARTITIONS, worker=self.worker)
        self.nursery = nursery
        self.waiters: list[Waiter] = []
        self.labels: list[tuple[int, bytes]] = []
        self.flushed: set[tuple[int, bytes]] = set()
        self.flying: set[tuple[int, bytes]] = set()
        self.flown = 0

    async def step(self, step: Step) -> None:
        """Run one step of the script, then check."""
        getattr(self, "do_" + step.what.replace(" ", "_"))(step)
        await wait_all_tasks_blocked()
        self.judge()

    def do_change(self, step: Step) -> None:
        label = b"%d" % len(self.labels)
        self.rig.write(label, n=step.where)
        self.labels.append((step.where, label))

    def do_wait(self, step: Step) -> None:
        """Let a guest write, confirm and wait."""
        self.do_change(step)
        self.rig.confirm(self.labels[-1][1], n=step.where)
        self.wait(step, lambda: None)

    def do_come_back(self, step: Step) -> None:
        """Let a guest write, confirm and wait, and wait again when it is called."""
        self.do_change(step)
        self.rig.confirm(self.labels[-1][1], n=step.where)
        self.wait(step, lambda: self.do_wait(step))

    def wait(self, step: Step, go_on: Callable[[], None]) -> None:
        waiter = Waiter(trio.current_time() + min(step.amount, LONGEST), go_on)
        waiter.drop = self.rig.encryptor.wait_landing(waiter.go_on, waiter.until)
        assert waiter.called == 0, "the waiter was called within wait_landing"
        self.waiters.append(waiter)

    def do_drop(self, step: Step) -> None:
        if self.waiters:
            waiter = self.waiters[len(self.labels) % len(self.waiters)]
            waiter.drop()
            waiter.dropped = True

    def do_land(self, step: Step) -> None:
        """End the flight as the script says. Then exactly the waiters of this moment must be called."""
        if self.worker.flight is None:
            return
        (job, landed), self.worker.flight = self.worker.flight, None
        waiting = list(self.waiters)
        if step.fate in ("done", "done but refused"):
            job()
        if step.fate == "done":
            self.flushed |= self.flying
        event(f"a flight that is {step.fate}, with {min(len(self.alive()), 3)} that wait")
        errors = {"bug": ZeroDivisionError()}
        error = errors.get(step.fate, NvramError("io", "a scripted fault"))
        for waiter in waiting:
            waiter.due = True
        landed(outcome.Value(None) if step.fate == "done" else outcome.Error(error))

    def do_time(self, step: Step) -> None:
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, MockClock)
        clock.jump(step.amount)

    def do_flush(self, step: Step) -> None:
        self.nursery.start_soon(self.rig.encryptor.flush)

    def alive(self) -> list[Waiter]:
        return [each for each in self.waiters if not (each.dropped or each.called)]

    def judge(self) -> None:
        """Check that each waiter is called once, at the right time. Flushed objects must have landed."""
        if self.worker.started != self.flown:
            self.flown = self.worker.started
            # Each flight contains all dirty labels.
            self.flying = set(self.labels)
        now = trio.current_time()
        for waiter in self.waiters:
            due = waiter.due or waiter.until <= now
            assert waiter.called <= 1
            assert waiter.called or waiter.dropped or not due, "a due waiter was not called"
            assert due or not waiter.called, "a waiter was called too early"
        self.waiters = self.alive()
        for n, label in self.labels:
            if self.rig.guests[n].confirm(3, label)[:2] == FLUSHED:
                assert (n, label) in self.flushed, "an object is flushed before its landing"

    async def finish(self) -> None:
        """Let NVRAM work until all is durable, and check that no waiter is left."""
        for _ in range(4):
            await self.step(Step("land", 0, 0, "done"))
            await self.step(Step("time", 0, LAST_RETRY + DEFAULT_DELAY, ""))
        await self.step(Step("land", 0, 0, "done"))
        assert self.waiters == []
        assert (self.rig.encryptor.pending, self.rig.encryptor.health.state) == (False, "idle")
        for n in range(PARTITIONS):
            assert self.rig.power_cut().objects(n) == self.rig.objects(n)


async def play(script: list[Step]) -> None:
    """Run a script."""
    async with trio.open_nursery() as nursery:
        playing = Play(nursery)
        await nursery.start(playing.rig.encryptor.run)
        for step in script:
            await playing.step(step)
        await playing.finish()
        nursery.cancel_scope.cancel()


@settings(max_examples=100)
@given(script=st.lists(STEPS, min_size=4, max_size=40))
def test_any_order_of_changes_waits_drops_landings_failures_and_time(script: list[Step]) -> None:
    """R-20, R-21, R-22, R-23: In any order of events there is one flight at a time.

    Each waiter is called once, no change is lost, and an object is flushed only after its landing.
    """
    trio.run(play, script, clock=MockClock())
