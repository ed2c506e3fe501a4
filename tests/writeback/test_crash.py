"""Crash consistency: random calls, flushes, failures and power cuts, checked against all earlier states."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import outcome
import trio
from hypothesis import event, given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from hcall_server.nvram import NvramError
from hcall_server.writeback.worker import Job, Landed
from tests.writeback.rig import FLUSHED, GONE, PENDING, Rig

TRANSIENT, IMMUTABLE = 0x0200_0000, 0x0400_0000
PARTITIONS = 2
Key = tuple[int, bytes]
State = dict[Key, tuple[int, bytes]]


class Step(NamedTuple):
    """One event of a script. `what` says which of the other fields count."""

    what: str
    where: int
    key: Key
    policy: int
    data: bytes
    fate: str


KEYS = [(owner, label) for owner in (1, 3) for label in (b"a", b"b", b"c")]
STEPS = st.builds(
    Step,
    st.sampled_from(
        ["write"] * 5 + ["remove"] * 3 + ["confirm"] * 3 + ["begin"] * 3 + ["end"] * 3 + ["ipl", "cut", "cut"]
    ),
    st.integers(0, PARTITIONS - 1),
    st.sampled_from(KEYS),
    st.sampled_from([0, 0, 0, TRANSIENT, IMMUTABLE]),
    st.sampled_from([b"one", b"two", b"x" * 1000]),
    st.sampled_from(["done", "done", "failed", "failed", "done but failed"]),
)


class ScriptedWorker:
    """A worker for one commit at a time. It ends the commit as the script says."""

    def __init__(self) -> None:
        self.job: Job | None = None
        self._landed: Landed | None = None

    def start(self, job: Job, landed: Landed) -> None:
        self.job, self._landed = job, landed

    def end(self, fate: str) -> None:
        job, landed = self.job, self._landed
        assert job is not None
        assert landed is not None
        self.job = None
        if fate != "failed":
            job()
        if fate == "done":
            landed(outcome.Value(None))
        else:
            landed(outcome.Error(NvramError("io", "a scripted fault")))

    def close(self) -> None:
        """Do nothing: no work is left to stop."""


class Judge:
    """All durable states that one partition has had, and the number of the last confirmed one."""

    def __init__(self) -> None:
        self.memory: State = {}
        self.states: list[State] = [{}]
        self.ipl_counts = {0, 1}
        self.changed: dict[Key, int] = {}
        self.confirmed = 0

    def note_change(self, key: Key, policy: int) -> None:
        if not policy & TRANSIENT:
            self.states.append({k: held for k, held in self.memory.items() if not held[0] & TRANSIENT})
            self.changed[key] = len(self.states) - 1

    def note_confirmed(self, key: Key) -> None:
        self.confirmed = max(self.confirmed, self.changed.get(key, 0))

    def after_cut(self, found: State, ipl_count: int) -> None:
        """Check that the found state is an earlier one, not older than the confirmed one.

        Begin a new history.
        """
        allowed = self.states[self.confirmed :]
        assert found in allowed, f"{found} is no earlier state, or precedes state {self.confirmed}"
        assert ipl_count in self.ipl_counts
        self.memory, self.states, self.changed, self.confirmed = dict(found), [found], {}, 0


class Life:
    """A system from one power-on to the next power cut."""

    def __init__(self, records: dict[str, bytes], judges: list[Judge], nursery: trio.Nursery) -> None:
        self.worker = ScriptedWorker()
        self.rig = Rig(0, records=records, worker=self.worker)
        self.judges = judges
        self.nursery = nursery

    async def step(self, step: Step) -> None:
        await getattr(self, "do_" + step.what)(step, self.judges[step.where])
        await wait_all_tasks_blocked()

    async def do_write(self, step: Step, judge: Judge) -> None:
        owner, label = step.key
        status = self.rig.guests[step.where].write(owner, label, step.data, policy=step.policy).status
        assert status == (-16 if step.key in judge.memory else 0)
        if status == 0:
            judge.memory[step.key] = step.policy, step.data
            judge.note_change(step.key, step.policy)
        self.rig.notify(step.where)

    async def do_remove(self, step: Step, judge: Judge) -> None:
        owner, label = step.key
        status = self.rig.guests[step.where].remove(owner, label).status
        policy, _ = judge.memory.get(step.key, (0, b""))
        assert status == (-7 if step.key not in judge.memory else -10 if policy & IMMUTABLE else 0)
        if status == 0:
            del judge.memory[step.key]
            judge.note_change(step.key, policy)
        self.rig.notify(step.where)

    async def do_confirm(self, step: Step, judge: Judge) -> None:
        for key in KEYS:
            got = self.rig.guests[step.where].confirm(*key)[:2]
            assert got in {PENDING, FLUSHED if key in judge.memory else GONE}
            if got != PENDING:
                judge.note_confirmed(key)
        if not self.rig.store(step.where).contents.dirty:
            judge.confirmed = len(judge.states) - 1
        self.rig.notify(step.where)

    async def do_ipl(self, step: Step, judge: Judge) -> None:
        self.rig.guests[step.where].ipl()
        judge.memory = {key: held for key, held in judge.memory.items() if not held[0] & TRANSIENT}
        judge.ipl_counts.add(self.rig.partition(step.where).ipl_count)
        self.rig.changed(step.where)

    async def do_begin(self, step: Step, judge: Judge) -> None:
        if self.worker.job is None:
            self.nursery.start_soon(self.rig.encryptor.flush)

    async def do_end(self, step: Step, judge: Judge) -> None:
        if self.worker.job is not None:
            self.worker.end(step.fate)

    def cut(self, step: Step) -> dict[str, bytes]:
        """Cut the power. A commit in progress takes effect or not."""
        if self.worker.job is not None and step.fate != "failed":
            event("cut with a commit on its way, which took effect")
            self.worker.job()
        return self.rig.journal.records


def judge_all(records: dict[str, bytes], judges: list[Judge]) -> None:
    """Check the state that a start would find."""
    found = Rig(0, records=records)
    assert found.refused == []
    for n, judge in enumerate(judges):
        objects = found.store(n).contents.snapshot().objects
        state = {(held.consumer, held.label): (held.policy, held.data) for held in objects}
        if state != judge.states[-1]:
            event("something that was not confirmed is lost")
        judge.after_cut(state, found.partition(n).ipl_count - 1)


async def live(records: dict[str, bytes], judges: list[Judge], steps: Iterator[Step]) -> dict[str, bytes]:
    """Run from one power-on to the next cut; return the records in NVRAM."""
    async with trio.open_nursery() as nursery:
        life = Life(records, judges, nursery)
        for judge, partition in zip(judges, life.rig.system.partitions.values(), strict=True):
            judge.ipl_counts.add(partition.ipl_count)
        last = Step("cut", 0, (3, b"a"), 0, b"", "failed")
        for step in steps:
            if step.what == "cut":
                last = step
                break
            await life.step(step)
        records = life.cut(last)
        nursery.cancel_scope.cancel()
    return records


async def play(script: list[Step]) -> None:
    """Run a script; after each power cut, start a new system and check the state it finds."""
    first = Rig(PARTITIONS)
    first.changed()
    assert await first.encryptor.flush()
    records, judges, steps = first.journal.records, [Judge() for _ in range(PARTITIONS)], iter(script)
    for _ in range(1 + sum(step.what == "cut" for step in script)):
        records = await live(records, judges, steps)
        judge_all(records, judges)


@settings(max_examples=150)
@given(script=st.lists(STEPS, min_size=4, max_size=50))
def test_what_is_found_after_a_crash_was_once_there(script: list[Step]) -> None:
    """R-21, R-22, R-23, R-14: After a crash, a start finds a state that existed, with no part of another.

    The state is not older than the last confirmed one, and has no TRANSIENT object. The cut may come
    between calls, during a commit, or after a failure. Commit and failure may have taken effect or not.
    """
    trio.run(play, script)


def test_the_judge_would_notice() -> None:
    """The judge rejects the loss of a confirmed state, a mixture of states, and an unknown IPL count."""
    judge = Judge()
    for label in (b"a", b"b"):
        judge.memory[3, label] = 0, b"data"
        judge.note_change((3, label), 0)
    judge.note_confirmed((3, b"a"))
    a, b = {(3, b"a"): (0, b"data")}, {(3, b"b"): (0, b"data")}
    for found, count in (({}, 1), (b, 1), (a, 9)):
        try:
            judge.after_cut(found, count)
        except AssertionError:
            continue
        raise AssertionError(f"{found} was accepted")
    judge.after_cut(a, 1)
