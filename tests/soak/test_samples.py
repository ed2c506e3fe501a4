"""A small sample of each part of `make soak`, so that each part can always be run (docs/evidence.md)."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.soak.fuzz_targets import TARGETS
from tests.soak.mutator import mutated
from tests.soak.parts import Place, custody, kills, nth_faults, power_cuts

pytestmark = pytest.mark.usefixtures("not_measured")
RUNS = {"codec": 1000, "image": 2000, "recovery": 400, "updates": 150}


@pytest.mark.process
def test_a_sample_of_kills(soak_folder: Path, soak_seed: str) -> None:
    """R-01, R-04, R-14, R-20, R-21, R-22: After each kill -9, four partitions have only allowed states."""
    figures = kills(Place(soak_folder, soak_seed, 0.0025))
    assert figures["kills"] >= 2
    assert figures["stores judged"] >= 4


@pytest.mark.process
def test_a_sample_of_crash_states(soak_folder: Path, soak_seed: str) -> None:
    """R-20 to R-22: A start works on each state that a power cut may leave on a recorded disk."""
    figures = power_cuts(Place(soak_folder, soak_seed, 0.01))
    assert figures["states: lost news"] > 50


@pytest.mark.process
def test_a_sample_of_faults_and_cancellations(soak_folder: Path) -> None:
    """R-21 to R-23: After each fault the next start works, and no confirmed change is lost."""
    figures = nth_faults(Place(soak_folder, "", 0.04))
    assert min(figures.values()) >= 1
    assert figures["flush, os EIO"] > 5, "SQLite's own calls are among them"


@pytest.mark.parametrize("name", TARGETS)
def test_a_sample_of_hostile_bytes(name: str, soak_seed: str) -> None:
    """R-02, R-22, R-70: Each fuzz target accepts its seeds and mutations of them."""
    target, chance = TARGETS[name], Random(f"{soak_seed} {name}")
    seeds = target.seeds()
    for data in (*seeds, *(mutated(seeds, chance) for _ in range(RUNS[name]))):
        try:
            target.run(data)
        except Exception:
            print(f"the input: {data.hex()}")
            raise


def test_a_sample_of_custody(soak_folder: Path) -> None:
    """R-51: The search passes for two attempts in one direction.

    tests/platform/test_custody_search.py has more.
    """
    assert custody(Place(soak_folder, "", 0.1))["fixed: plans"] == 1
