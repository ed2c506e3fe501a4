"""The simulated world over a simulated etcd: late, lost and repeated requests, lost leases, take-overs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from typing import Any
from unittest.mock import patch

import pytest

from hcall_abi.rules import storage as rules
from hcall_server.nvram import NvramError, parse_partition
from hcall_server.nvram.etcd.chain import Chain
from hcall_server.nvram.etcd.nvram import EtcdNvram
from hcall_server.writeback import parts
from hcall_server.writeback.commits import Commit
from swpks.testing.simulation import simulate
from swpks.testing.simulation.commit_judge import CommitJudge
from swpks.testing.simulation.etcd_plan import etcd_plan
from swpks.testing.simulation.etcd_world import SimulatedEtcd
from swpks.testing.simulation.plan import SYSTEMS, plan
from swpks.testing.simulation.world import World

SEEDS = 20
Bug = Callable[[], AbstractContextManager[Any]]


@pytest.mark.usefixtures("not_measured")
def test_no_seed_breaks_a_promise() -> None:
    """R-21, R-22, R-50 to R-55: over etcd too.  `make soak` tests more seeds.

    A system that has lost its lease commits nothing until a new owner is there.  The histories of the guests
    show that the new owner has every confirmed write.
    """
    figures = Counter[str]()
    for seed in range(SEEDS):
        outcome = simulate(seed, nvram="etcd")
        assert not outcome.failure, f"swpks simulate --seed {seed} --nvram etcd --trace: {outcome.failure}"
        figures.update(outcome.figures)
        _demand_silence(outcome.trace)
    assert figures["moves"] > SEEDS / 3
    assert figures["without an answer"] > 5 * SEEDS
    assert min(figures["leases lost"], figures["take-overs"]) > SEEDS / 4


def _demand_silence(trace: Iterable[str]) -> None:
    owns: dict[str, bool] = {}
    for line in trace:
        _, _, who, text = line.split(None, 3)
        if "has lost its lease" in text or "owns NVRAM" in text:
            owns[who] = "owns" in text
        assert owns.get(who, True) or not text.startswith("commit "), line


def test_a_seed_has_one_history() -> None:
    """The faults of etcd come from the seed.  The story is that over memory."""
    one, again = simulate(2, nvram="etcd"), simulate(2, nvram="etcd")
    assert one == again
    assert one.trace != simulate(2).trace
    assert etcd_plan(2, SYSTEMS) == etcd_plan(2, SYSTEMS) != etcd_plan(3, SYSTEMS)
    assert plan(2) == plan(2)


def test_a_machine_is_told_that_its_nvram_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """R-22: while it still runs.  `Site.lost` is the place for the machine's own reaction."""
    told: list[NvramError] = []
    on_etcd = World._on_etcd

    def listening(self: World, seed: int) -> SimulatedEtcd:
        for site in self.sites.values():
            site.lost = lambda machine, error: told.append(error)
        return on_etcd(self, seed)

    monkeypatch.setattr(World, "_on_etcd", listening)
    for seed in range(SEEDS):
        simulate(seed, nvram="etcd", traced=False)
        if told:
            break
    assert {error.rule for error in told} == {rules.NVRAM_OWNER}


def unchained() -> AbstractContextManager[Any]:
    """A commit does not compare its predecessor."""
    link = Chain.link

    def without(self: Chain, changes: Mapping[str, bytes | None]) -> bytes:
        body = json.loads(link(self, changes))
        del body["compare"][1]
        return json.dumps(body).encode()

    return patch.object(Chain, "link", without)


def unknown_is_success() -> AbstractContextManager[Any]:
    """A commit without an answer is reported as done."""
    commit = EtcdNvram.commit

    def hopeful(self: EtcdNvram, changes: Mapping[str, bytes | None]) -> None:
        try:
            commit(self, changes)
        except NvramError as error:
            if error.rule is not rules.NVRAM_REACHED:
                raise

    return patch.object(EtcdNvram, "commit", hopeful)


def the_system_goes_first() -> AbstractContextManager[Any]:
    """The records of the system are in the first part of a flight."""

    def split(changes: parts.Records, limits: Any, *_: object) -> list[parts.Records]:
        names, room = sorted(changes, key=lambda n: parse_partition(n) is not None), limits.records - 1
        return [{name: changes[name] for name in names[n : n + room]} for n in range(0, len(names), room)]

    return patch.object(parts, "split", split)


def the_truth_is_not_read() -> AbstractContextManager[Any]:
    """After a failed flight, the list of records is the one from before it."""
    return patch.object(Commit, "_truth", lambda self: self._base)


def keeps_no_owner() -> AbstractContextManager[Any]:
    """A commit does not compare the owner, nor its predecessor."""
    link = Chain.link

    def free(self: Chain, changes: Mapping[str, bytes | None]) -> bytes:
        body = json.loads(link(self, changes))
        return json.dumps({**body, "compare": []}).encode()

    return patch.object(Chain, "link", free)


BUGS: dict[str, tuple[Bug, Sequence[int], str]] = {
    "no predecessor": (unchained, (6, 13, 52), "older than the last confirmed|records.committed|two owners"),
    "an unknown outcome is success": (unknown_is_success, (2, 6), "older than|records.committed|not stored"),
    "the system goes first": (the_system_goes_first, (15, 46, 135), "custody-record|has stored"),
    "the truth is not read": (the_truth_is_not_read, (302, 355), "records.committed"),
}
"""Each mistake, seeds in which it breaks a promise without the judge of commits, and the text of its failure.

If a change of the product has changed the histories of these seeds, others are searched.
"""
SHARP: dict[str, tuple[Bug, Sequence[int], str]] = {
    "no predecessor": (unchained, (0, 6), "takes effect after"),
    "an unknown outcome is success": (unknown_is_success, (0, 2), "has returned, and is not in etcd"),
    "no owner": (keeps_no_owner, (10,), "owns the records|takes effect after"),
}
"""The same with the judge, which finds a mistake at the commit."""


@pytest.fixture
def small_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits of one or two records: nearly each flight has several parts."""
    monkeypatch.setattr("swpks.testing.simulation.etcd_plan.LIMITS", (2, 2, 3, 120))


@pytest.mark.usefixtures("not_measured", "small_commits")
@pytest.mark.parametrize("name", BUGS)
def test_a_mistake_breaks_a_promise(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-21, R-22: without the judge, a start refuses its records, or a view is ahead of them."""
    for check in ("returned", "loaded", "took_effect"):
        monkeypatch.setattr(CommitJudge, check, lambda *_: None)
    _demand_found(*BUGS[name])


@pytest.mark.usefixtures("not_measured", "small_commits")
@pytest.mark.parametrize("name", SHARP)
def test_a_mistake_is_found_at_its_commit(name: str) -> None:
    """R-21, R-22: the judge compares each commit with the records in etcd."""
    _demand_found(*SHARP[name])


def _demand_found(bug: Bug, seeds: Sequence[int], failure: str) -> None:
    with bug():
        for seed in chain(seeds, range(300)):
            found = simulate(seed, nvram="etcd", traced=False).failure
            if found:
                assert any(part in found for part in failure.split("|")), found
                return
    raise AssertionError("not found")
