"""Judges a history of owners that commit to one NVRAM and load it: `judge`.  Pure: no clock, no etcd."""

# The judgement of a history
#
# Several servers own the same records one after the other.  Each commits and loads in one thread.  Members of
# etcd and servers have accidents meanwhile.  The history says of each act when it was called and answered,
# and what it put or found.  `judge` must guarantee two things:
#
#   1. No false alarm.  A history is accepted if some order of its acts keeps all promises of the seam.
#   2. No free pass.  It is refused if no order does.
#
# The promises, as a model whose state is the present owner and the records:
#
#     claim     The owner changes.  The records do not.
#     commit    Only the present owner puts records, all of a commit at once.
#     load      Only the present owner finds records: all of them, and nothing else.
#
# An act takes effect between its call and its answer.  The acts of one owner take effect in their order.  The
# search over the orders is that of `swpks.testing.simulation.linear`, with one lane for each owner.
#
# A commit that failed has no outcome: it took effect or it did not.  Its request may arrive after its answer.
# But the lane keeps the order.  So it never takes effect after the next act of this owner that succeeds, and
# never after the claim of another one.  That is the promise of the seam about failed commits.  Each failed
# commit doubles the states, until a load or a commit of all records makes them one again.
#
# The end of a failed act bounds its place among the acts of other owners.  That refuses no good history: an
# effect after that end must still precede the next claim, and so can be counted at that end.
#
# If the search finds no order, `_broken` names the promise.  It only explains, and decides nothing.  Each
# value is put by one commit only, so a value that was found names its commit.
#
# Dropped: a search of one fold after the other, in the order of etcd's revisions.  It would be faster.  But
# it would believe the code under test about the order.

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Literal, NamedTuple

from swpks.testing.simulation.linear import NotLinearizable, outcomes

Records = Mapping[str, bytes | None]
StateOfOwner = tuple[str, frozenset[tuple[str, bytes | None]]]
"""The present owner and the records."""


class OwnerAct(NamedTuple):
    """One act of an owner.  `called` and `answered` are moments of one clock.

    `records` are the changes of a commit or the result of a load.  If not `done`, the outcome is unknown.
    """

    owner: str
    kind: Literal["claim", "commit", "load"]
    called: float
    answered: float
    records: Records = {}
    done: bool = True

    def __str__(self) -> str:
        shown = {name: value and value[:24] for name, value in self.records.items()}
        word = self.kind if self.done else f"{self.kind} without an answer"
        return f"{self.called:.4f} to {self.answered:.4f}: {self.owner}: {word} {shown}"


class SeamPromise(Enum):
    """The promises of the seam; the values say how each was broken."""

    ONE_OWNER = "an owner was acknowledged after another one had taken over"
    REAL = "a load found records that were never there together"
    NO_RETURN = "older records came back after newer ones"
    NOTHING_LOST = "an acknowledged commit is lost"
    ORDER = "no order of the acts explains the loads"


class BrokenPromise(AssertionError):
    """A history that broke a promise."""

    def __init__(self, promise: SeamPromise, text: str) -> None:
        super().__init__(f"{promise.value}: {text}")
        self.promise = promise


def judge(history: Iterable[OwnerAct]) -> int:
    """Return the number of acts in a history that kept all promises; BrokenPromise otherwise.

    The history begins without records.  ValueError if an owner acts without a claim, or two acts of one owner
    overlap.
    """
    acts = sorted(history, key=lambda act: act.called)
    nothing: StateOfOwner = ("", frozenset())
    lanes = _lanes(acts)
    try:
        outcomes(lanes, [nothing], _step)
    except NotLinearizable as error:
        promise, act = _broken(acts)
        raise BrokenPromise(promise, f"{act or ''}\n{_excerpt(str(error))}") from None
    return len(acts)


def _excerpt(text: str) -> str:
    """Return the lines around the first act that the longest order lacks, marked with `>`."""
    lines = text.splitlines()
    first = next((n for n, line in enumerate(lines) if line.startswith(">")), 0)
    return "\n".join(lines[max(0, first - 15) : first + 15])


def _lanes(acts: Sequence[OwnerAct]) -> list[list[OwnerAct]]:
    lanes: dict[str, list[OwnerAct]] = {}
    for act in acts:
        lane = lanes.setdefault(act.owner, [])
        if not lane and act.kind != "claim":
            raise ValueError(f"an act without a claim: {act}")
        if lane and lane[-1].answered > act.called:
            raise ValueError(f"two acts of one owner overlap: {lane[-1]}; {act}")
        lane.append(act)
    return list(lanes.values())


def _step(state: StateOfOwner, act: OwnerAct) -> Iterator[StateOfOwner]:
    """Yield the states after an act; none if the act can't be done in this state."""
    owner, records = state
    if not act.done:
        yield state
    if act.kind == "claim":
        yield act.owner, records
    elif owner == act.owner:
        if act.kind == "commit":
            yield owner, _after(records, act.records)
        elif records == frozenset(act.records.items()):
            yield state


def _after(
    records: frozenset[tuple[str, bytes | None]], changes: Records
) -> frozenset[tuple[str, bytes | None]]:
    merged = {**dict(records), **changes}
    return frozenset((name, value) for name, value in merged.items() if value is not None)


def _broken(acts: Sequence[OwnerAct]) -> tuple[SeamPromise, OwnerAct | None]:
    """Return the promise that a refused history broke, and the act that shows it."""
    late = next((act for act in acts if _is_too_late(act, acts)), None)
    if late is not None:
        return SeamPromise.ONE_OWNER, late
    for load in (act for act in acts if act.kind == "load" and act.done):
        broken = _wrong_load(load, acts)
        if broken is not None:
            return broken, load
    return SeamPromise.ORDER, None


def _is_too_late(act: OwnerAct, acts: Sequence[OwnerAct]) -> bool:
    """Whether another owner had claimed between this act and the claim of its owner."""
    if not act.done or act.kind == "claim":
        return False
    own = next(each for each in acts if each.owner == act.owner)
    return any(
        each.kind == "claim" and each.done and own.answered < each.called and each.answered < act.called
        for each in acts
    )


def _wrong_load(load: OwnerAct, acts: Sequence[OwnerAct]) -> SeamPromise | None:
    commits = [act for act in acts if act.kind == "commit" and act.called < load.answered]
    writers = {item: act for act in commits for item in act.records.items() if item[1] is not None}
    if not set(load.records.items()) <= writers.keys():
        return SeamPromise.REAL
    for newest in (act for act in reversed(commits) if act.done and act.answered < load.called):
        for name in newest.records:
            if not _may_show(load, name, newest, commits):
                older = writers.get((name, load.records.get(name)))
                return _staleness(load, name, newest, older, acts)
    visible = [writers[item] for item in load.records.items()]
    torn = any(not _may_show(load, name, act, commits) for act in visible for name in act.records)
    return SeamPromise.REAL if torn else None


def _may_show(load: OwnerAct, name: str, act: OwnerAct, commits: Sequence[OwnerAct]) -> bool:
    """Whether a load shows this commit's value of a record, or that of a later one."""
    found = load.records.get(name)
    return any(
        each.called >= act.called and name in each.records and each.records[name] == found for each in commits
    )


def _staleness(
    load: OwnerAct, name: str, newest: OwnerAct, older: OwnerAct | None, acts: Sequence[OwnerAct]
) -> SeamPromise:
    """Return the promise that a load broke, which shows a record as it was before an acknowledged commit."""
    seen = any(
        act.kind == "load" and act.answered < load.called and act.records.get(name) == newest.records[name]
        for act in acts
        if act.done and act.called > newest.answered
    )
    if seen or (older is not None and not older.done):
        return SeamPromise.NO_RETURN
    shown = any(load.records.get(each) == value for each, value in newest.records.items())
    return SeamPromise.REAL if shown else SeamPromise.NOTHING_LOST
