"""Every rule of the contract is broken once, through a public interface, and the refusal names that rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from hcall_abi.rules.catalogue import RULES
from tests.rules import (
    arrivals,
    asmi,
    backup,
    channel,
    client,
    components,
    control,
    custody,
    door,
    hcalls,
    hmc,
    hmc_process,
    kernel,
    lines,
    link,
    mobility,
    moves,
    partitions,
    process,
    recovery,
    scarce,
    sealed,
    snapshots,
    state,
    tls,
    updates,
)
from tests.rules.breaking import Breaks

CHAPTERS = (
    *(channel, client, hcalls, updates, partitions, control),
    *(sealed, backup, snapshots, components, recovery, state, process, tls, scarce, asmi, kernel, lines),
    *(link, hmc, hmc_process, door, arrivals, custody, mobility, moves),
)
BREAKS: Breaks = {rule: broken for chapter in CHAPTERS for rule, broken in chapter.BREAKS.items()}
PROCESSES = ("stop.flushed",)
"""Rules that only a separate process can break."""


@pytest.mark.parametrize(
    "rule", [pytest.param(each, marks=pytest.mark.process) if each in PROCESSES else each for each in BREAKS]
)
def test_a_broken_rule_is_named(rule: str, tmp_path: Path) -> None:
    """The refusal has the row of the table itself, so id, sentence and page are the same everywhere."""
    assert BREAKS[rule](tmp_path) is RULES[rule]


def test_all_rules_are_broken_here() -> None:
    """Each rule has exactly one break, and each break belongs to a rule."""
    assert BREAKS.keys() == RULES.keys()
    assert sum(len(chapter.BREAKS) for chapter in CHAPTERS) == len(RULES)
