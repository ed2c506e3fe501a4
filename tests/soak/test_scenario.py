"""The beginning of a scenario on a recorded disk, and the end of its first life."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest

from hcall_client.blocking import BlockingChannel
from hcall_client.errors import ConnectionLost
from swpks.testing import ServerProcess
from tests.soak.crash_states import tree_of
from tests.soak.disk import Disk
from tests.soak.recording import Accident
from tests.soak.scenario import FIRST_CHANGES, MOST_ROUNDS, Scenario

LIBRARY = Path("/nothing is started")


def test_an_old_state_is_on_the_disk_before_the_first_life(tmp_path: Path) -> None:
    """The files of an old state are durable before the first life, so no power cut removes them.

    The contents of the old partitions are known.
    """
    scenario = Scenario(tmp_path, LIBRARY, Random(1), old=True)
    disk = Disk(Random(1))
    for first in scenario.first:
        disk.hold(*first)
    assert disk.seen() == disk.crash() == tree_of(scenario.root)
    assert {name: len(whole.objects) for name, (whole, _) in scenario.kept.items()} == {
        "alpha": 3,
        "beta": 1,
        "gamma": 0,
    }


def test_a_new_state_begins_with_nothing(tmp_path: Path) -> None:
    """Without an old state, a scenario begins with an empty disk."""
    scenario = Scenario(tmp_path, LIBRARY, Random(1), old=False)
    assert (scenario.kept, scenario.first, list(scenario.root.iterdir())) == ({}, [], [])


def test_a_life_in_which_nothing_changes_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no call of the writers changes anything, the soak fails after a number of rounds."""
    rounds: list[str] = []

    def idle(scenario: Scenario, channels: dict[str, BlockingChannel], stack: ExitStack) -> None:
        rounds.append("round")

    monkeypatch.setattr(Scenario, "_provide", lambda scenario: None)
    monkeypatch.setattr(Scenario, "_open", lambda scenario, stack, name: None)
    monkeypatch.setattr(Scenario, "_round", idle)
    scenario = Scenario(tmp_path, LIBRARY, Random(1), old=False)
    with pytest.raises(AssertionError, match="0 states after 200 rounds: no call changes anything"):
        scenario._work(FIRST_CHANGES)
    assert len(rounds) == MOST_ROUNDS
    scenario._work(0)


def test_a_batch_that_the_last_kill_cut_off_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill may leave a part of a batch durable. So a start may find each state of the batch."""

    def cut_off(scenario: Scenario, changes: int) -> None:
        scenario.chronicles["a"].write(3, b"label", policy=0)
        raise ConnectionLost("the server has killed itself")

    monkeypatch.setattr(ServerProcess, "start", lambda server: server)
    monkeypatch.setattr(Scenario, "_work", cut_off)
    scenario = Scenario(tmp_path, LIBRARY, Random(1), old=False)
    scenario._live(Accident(kill=1))
    newest = scenario.chronicles["a"].everything[-1]
    assert list(newest.objects) == [(3, b"label")]
