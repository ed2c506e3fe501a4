"""The wipe of NVRAM on etcd: one step for all records, then the end of their history."""

from __future__ import annotations

import pytest

from hcall_abi.rules import storage as rules
from hcall_server.nvram import NvramError
from hcall_server.nvram.etcd.nvram import COMPACTIONS
from hcall_server.nvram.etcd.wire import COMPACTION
from swpks.testing.etcd.network import FATES, Fate
from tests.nvram.test_etcd_model import Lab

RECORDS = {f"partition/{n}": b"sealed %d" % n for n in range(300)}
"""More than one transaction could remove by their names."""


@pytest.fixture
def lab() -> Lab:
    return Lab()


def filled(lab: Lab) -> None:
    """Store the records, and put a key of another system beside them."""
    nvram = lab.opened()
    names = list(RECORDS)
    for first in range(0, len(names), 100):
        nvram.commit({name: RECORDS[name] for name in names[first : first + 100]})
    lab.model._store[b"p2/record/x"] = lab.model._store[b"p/commit"]
    nvram.close()
    lab.networks.clear()


def held(lab: Lab) -> set[str]:
    """Return the names of all records that etcd has in any revision."""
    keys = {key for store in lab.model._history.values() for key in store}
    return {key.decode().removeprefix("p/record/") for key in keys if key.startswith(b"p/record/")}


def test_all_records_go_with_their_history(lab: Lab) -> None:
    """R-61: no revision has a record any more; keys of other systems stay, and commits go on."""
    filled(lab)
    nvram = lab.opened()
    nvram.clear()
    assert (nvram.load(), held(lab)) == ({}, set())
    assert b"p2/record/x" in lab.model.values()
    nvram.commit({"x": b"1"})
    assert nvram.load() == {"x": b"1"}


@pytest.mark.parametrize("step", range(1, 5))
@pytest.mark.parametrize("fate", ["refused", "unanswered"])
def test_a_kill_leaves_all_or_nothing(lab: Lab, step: int, fate: Fate) -> None:
    """R-61: the process dies at each request, before or after etcd carries it out; a second one goes on."""
    filled(lab)
    nvram = lab.opened()
    fates: list[Fate] = ["answered"] * (step - 1)
    later: list[Fate] = ["refused"] * 99
    lab.fate(*fates, fate, *later)
    died = False
    try:
        nvram.clear()
    except NvramError:
        died = True
    assert died == (step <= 3), "the wipe, a fence and the compaction"
    present = {key for key in lab.model.values() if key.startswith(b"p/record/")}
    assert len(present) in (0, len(RECORDS))
    assert len(present) == (len(RECORDS) if (step, fate) == (1, "refused") else 0)
    lab.model.expire_lease(nvram.lease.id)
    lab.networks.clear()
    again = lab.opened(b"b")
    again.clear()
    assert (again.load(), held(lab)) == ({}, set())


@pytest.mark.parametrize("fate", [each for each in FATES if each != "late"])
def test_one_fate_of_a_request_is_no_failure_in_the_end(lab: Lab, fate: Fate) -> None:
    """The same call again finishes a wipe whose request was lost, repeated or refused."""
    filled(lab)
    nvram = lab.opened()
    for step in range(3):
        fates: list[Fate] = ["answered"] * step
        lab.fate(*fates, fate)
        failed = None
        try:
            nvram.clear()
        except NvramError as error:
            failed = error.rule
            nvram.clear()
        assert failed in (None, rules.NVRAM_REACHED)
        assert (nvram.load(), held(lab)) == ({}, set())


def test_a_late_commit_does_not_bring_a_record_back(lab: Lab) -> None:
    """R-61: a commit that was given up arrives after the wipe."""
    nvram = lab.opened()
    lab.fate("late")
    lab.networks[0]._lateness = lambda: 1000
    with pytest.raises(NvramError):
        nvram.commit({"x": b"sealed"})
    nvram.clear()
    lab.networks[0].deliver_all()
    assert (nvram.load(), held(lab)) == ({}, set())


def test_a_history_that_may_be_there_is_an_error(lab: Lab) -> None:
    """R-61: if no compaction succeeds, the caller does not take the records for gone."""
    filled(lab)
    nvram = lab.opened()
    lab.networks[0].fates = lambda path: "refused" if path == COMPACTION else "answered"
    with pytest.raises(NvramError) as caught:
        nvram.clear()
    assert caught.value.rule is rules.NVRAM_REACHED
    assert lab.networks[0].met["refused"] == COMPACTIONS
    assert held(lab) == set(RECORDS), "in the history"
    lab.fate()
    nvram.clear()
    assert held(lab) == set()


def test_a_slow_compaction_is_waited_for(lab: Lab) -> None:
    """A compaction without an answer goes on in etcd; a later one is asked for, and its answer counts."""
    filled(lab)
    nvram = lab.opened()
    left: list[Fate] = ["unanswered", "unanswered"]
    lab.networks[0].fates = lambda path: left.pop() if path == COMPACTION and left else "answered"
    nvram.clear()
    assert (left, held(lab)) == ([], set())


def test_only_the_owner_wipes(lab: Lab) -> None:
    """R-61: after another server has taken over, nothing is removed."""
    filled(lab)
    nvram = lab.opened()
    lab.model.expire_lease(nvram.lease.id)
    lab.networks.clear()
    other = lab.opened(b"b")
    with pytest.raises(NvramError) as caught:
        nvram.clear()
    assert caught.value.rule is rules.NVRAM_OWNER
    assert other.load() == RECORDS


def test_another_program_at_the_commit_key_is_reported(lab: Lab) -> None:
    """R-61: a wipe that was not carried out is no success."""
    filled(lab)
    nvram = lab.opened()
    entry = lab.model._store[b"p/commit"]
    lab.model._advance({**lab.model._store, b"p/commit": type(entry)(b"x", 1, lab.model.revision + 1, 0)})
    with pytest.raises(NvramError, match=r"p/commit .* another program has put the key"):
        nvram.clear()
    assert held(lab) == set(RECORDS)
