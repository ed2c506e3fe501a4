"""The judge of histories of NVRAM: it accepts good ones, and refuses ones that are wrong in each way."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.nvram.etcd_history import BrokenPromise, OwnerAct, SeamPromise, judge

Spoken = tuple[str, str] | tuple[str, str, str]


def told(*lines: str) -> list[OwnerAct]:
    """Return the acts of a history, one for each line: the owner, the act, and its records.

    An act takes the time between two lines.  `?` marks an act without an answer.  `+2` lets an act be
    answered two lines later; the lines between belong to other owners.
    """
    return [_act(at, line) for at, line in enumerate(lines)]


def _act(at: int, line: str) -> OwnerAct:
    owner, word, *rest = line.split()
    lasting = int(rest.pop()) if rest and rest[-1].startswith("+") else 0
    records = {name: value.encode() or None for name, _, value in (each.partition("=") for each in rest)}
    kind = word.rstrip("?")
    assert kind in ("claim", "commit", "load")
    return OwnerAct(owner, kind, at, at + lasting + 0.5, records, done=not word.endswith("?"))  # type: ignore[arg-type]


GOOD = {
    "one owner": ["a claim", "a load", "a commit x=1", "a load x=1", "a commit x= y=2", "a load y=2"],
    "a take-over": ["a claim", "a commit x=1", "b claim", "b load x=1", "b commit x=2", "b load x=2"],
    "a failed commit took effect": ["a claim", "a commit x=1", "a commit? x=2", "a load x=2"],
    "a failed commit did not": ["a claim", "a commit x=1", "a commit? x=2", "a load x=1"],
    "several failed, one took effect": [
        "a claim", "a commit? x=1", "a commit? x=2 y=2", "a commit? x=3", "a load x=2 y=2",
    ],
    "a failed commit, and a newer one of another record": [
        "a claim", "a commit? x=1", "a commit y=2", "a load x=1 y=2",
    ],
    "the last commit before a take-over took effect late": [
        "a claim", "a commit? x=1", "b claim", "b load x=1",
    ],
    "acknowledged after the take-over, but called before": [
        "a claim", "a commit x=1 +2", "b claim", "b load x=1", "b commit x=2",
    ],
    "two claims at a time": ["a claim +1", "b claim +1", "a commit x=1", "b load x=1"],
    "a claim without an answer": ["a claim", "a commit x=1", "b claim?", "a commit x=2", "a load x=2"],
    "refused after the take-over": ["a claim", "b claim", "a commit? x=1", "b load", "a commit? x=2"],
}  # fmt: skip


@pytest.mark.parametrize("lines", GOOD.values(), ids=GOOD)
def test_a_good_history_is_accepted(lines: list[str]) -> None:
    """No false alarm: all orders that the promises allow."""
    assert judge(told(*lines)) == len(lines)


WRONG = {
    "a commit is not there": (SeamPromise.NOTHING_LOST, ["a claim", "a commit x=1", "a load"]),
    "a removal is not there": (
        SeamPromise.NOTHING_LOST, ["a claim", "a commit x=1", "a commit x=", "a load x=1"],
    ),
    "the last commit is lost": (
        SeamPromise.NOTHING_LOST, ["a claim", "a commit x=1", "a commit x=2", "a load x=1"],
    ),
    "lost in a take-over": (
        SeamPromise.NOTHING_LOST, ["a claim", "a commit x=1", "a commit y=2", "b claim", "b load x=1"],
    ),
    "a failed commit came late": (
        SeamPromise.NO_RETURN, ["a claim", "a commit? x=old", "a commit x=new", "a load x=old"],
    ),
    "a failed commit came after a load of the newer one": (
        SeamPromise.NO_RETURN,
        ["a claim", "a commit? x=old", "a commit x=new", "a load x=new", "a load x=old"],
    ),
    "an acknowledged one was repeated late": (
        SeamPromise.NO_RETURN,
        ["a claim", "a commit x=old", "a commit x=new", "a load x=new", "a load x=old"],
    ),
    "a failed commit of the former owner came late": (
        SeamPromise.NO_RETURN,
        ["a claim", "a commit? x=old", "b claim", "b load", "b commit x=new", "b load x=old"],
    ),
    "a failed removal came late": (
        SeamPromise.NO_RETURN,
        ["a claim", "a commit x=1", "a commit? x=", "a commit x=2", "a load x=2", "a load"],
    ),
    "both owners commit": (
        SeamPromise.ONE_OWNER, ["a claim", "a commit x=1", "b claim", "b commit x=2", "a commit x=3"],
    ),
    "the former owner commits before the first load of the new one": (
        SeamPromise.ONE_OWNER, ["a claim", "b claim", "a commit x=1", "b load x=1"],
    ),
    "the former owner loads": (
        SeamPromise.ONE_OWNER, ["a claim", "a commit x=1", "b claim", "b commit x=2", "a load x=1"],
    ),
    "a value that no commit put": (SeamPromise.REAL, ["a claim", "a commit x=1", "a load x=7"]),
    "a record that no commit put": (SeamPromise.REAL, ["a claim", "a commit x=1", "a load x=1 y=1"]),
    "a value before its commit": (SeamPromise.REAL, ["a claim", "a load x=1", "a commit x=1"]),
    "half of a commit": (
        SeamPromise.REAL, ["a claim", "a commit x=1 y=1", "a commit x=2 y=2", "a load x=2 y=1"],
    ),
    "half of a failed commit": (
        SeamPromise.REAL, ["a claim", "a commit x=1 y=1", "a commit? x=2 y=2", "a load x=2 y=1"],
    ),
    "a failed commit is there, and then not": (
        SeamPromise.ORDER, ["a claim", "a commit? x=1", "a load x=1", "a load"],
    ),
    "a failed commit is not there, and then is": (
        SeamPromise.ORDER, ["a claim", "a commit? x=1", "a load", "a load x=1"],
    ),
    "a failed commit took effect after the next owner's load": (
        SeamPromise.ORDER, ["a claim", "a commit? x=1", "b claim", "b load", "b load x=1"],
    ),
    "failed commits in another order": (
        SeamPromise.ORDER,
        ["a claim", "a commit? x=1", "a load x=1", "a commit? x=2", "a load x=2", "a load x=1"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("promise, lines", WRONG.values(), ids=WRONG)
def test_a_wrong_history_is_refused(promise: SeamPromise, lines: list[str]) -> None:
    """No free pass: each promise, and the name of the broken one."""
    with pytest.raises(BrokenPromise) as caught:
        judge(told(*lines))
    assert caught.value.promise is promise


@pytest.mark.parametrize(
    "lines, message", [(["a commit x=1"], "without a claim"), (["a claim +1", "a load"], "overlap")]
)
def test_a_history_that_is_none_is_an_error(lines: list[str], message: str) -> None:
    """A mistake of the recording is no broken promise."""
    with pytest.raises(ValueError, match=message):
        judge(told(*lines))


def played(chance: Random) -> list[OwnerAct]:
    """Return a history of a store that keeps all promises.  A claim overlaps the last act before it."""
    acts, records, owner, now = [], dict[str, bytes](), "", 0.0
    for n in range(60):
        now += 1
        if not owner or chance.random() < 0.1:
            owner = f"owner {n}"
            acts.append(OwnerAct(owner, "claim", now - 0.9, now + 0.4))
        elif chance.random() < 0.3:
            acts.append(OwnerAct(owner, "load", now - 0.4, now + 0.4, dict(records)))
        else:
            changes = dict.fromkeys(chance.sample("xyz", chance.randint(1, 3)), b"%d" % n)
            done = chance.random() < 0.8
            if done or chance.random() < 0.5:
                records |= changes
            acts.append(OwnerAct(owner, "commit", now - 0.4, now + 0.4, changes, done))
    return [*acts, OwnerAct(owner, "load", now + 1, now + 2, dict(records))]


@settings(max_examples=50)
@given(seed=st.integers(0, 1 << 32))
def test_a_store_that_keeps_its_promises_is_accepted(seed: int) -> None:
    assert judge(played(Random(seed))) > 60


@settings(max_examples=50)
@given(seed=st.integers(0, 1 << 32))
def test_one_lost_commit_is_found(seed: int) -> None:
    """The last load of such a history lacks the last acknowledged commit, or has a value of no commit."""
    acts, chance = played(Random(seed)), Random(seed)
    last = next((act for act in reversed(acts) if act.kind == "commit" and act.done), None)
    if last is None:
        return
    after = acts[-1]._replace(called=acts[-1].answered + 1, answered=acts[-1].answered + 2)
    name = chance.choice(sorted(last.records))
    records = dict(after.records) | {name: b"lost"}
    with pytest.raises(BrokenPromise):
        judge([*acts, after._replace(records=records)])
    del records[name]
    with pytest.raises(BrokenPromise):
        judge([*acts, after._replace(records=records)])
