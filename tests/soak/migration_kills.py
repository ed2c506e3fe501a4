"""kill -9, NVRAM faults and failing disks in many migrations of real processes under load.

The scenarios are those of `tests/migration_processes`: live, inactive and remote restarts, in random order,
over both kinds of mobility channel. All scenarios use one fleet, so it collects epochs and copies of older
attempts.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

from tests.migration_processes.disks import DiskFault, sweep
from tests.migration_processes.fleet import Fleet
from tests.migration_processes.scenarios import SCENARIOS
from tests.soak.recording import build

MOBILITY = ("unix", "tcp:127.0.0.1:0")


def attack(folder: Path, chance: Random, scenarios: int) -> Counter[str]:
    """Run a number of scenarios. If one fails, raise AssertionError with its name."""
    folder.mkdir()
    counts = Counter[str]()
    names: list[str] = []
    fleet = Fleet(
        folder, ["--mobility", chance.choice(MOBILITY), "--flush-delay", str(chance.choice((0, 5)))]
    )
    try:
        fleet.start()
        while counts["scenarios"] < scenarios:
            names = names or chance.sample(list(SCENARIOS), len(SCENARIOS))
            name, owner = names.pop(), fleet.source
            try:
                SCENARIOS[name](fleet)
            except Exception as error:
                raise AssertionError(f"scenario {counts['scenarios'] + 1}, {name}: {error}") from error
            counts["scenarios"] += 1
            counts["moves"] += fleet.source is not owner
        counts["writes confirmed"] = fleet.ledger.confirmed
        counts["ends that clients were told"] = len(fleet.ledger.ends)
        demand_no_traceback(fleet)
    finally:
        fleet.end()
    return counts


def demand_no_traceback(fleet: Fleet) -> None:
    """Assert that no process has logged an unexpected error."""
    for process in (*fleet.systems, fleet.console):
        assert "Traceback" not in process.log, process


def sweep_disks(folder: Path, chance: Random, fault: DiskFault, stride: int) -> Counter[str]:
    """In attempts of one kind, let each storage operation of a process fail, or each `stride`-th."""
    folder.mkdir()
    fleet = Fleet(folder, ["--mobility", chance.choice(MOBILITY)], library=build(folder))
    counts = Counter[str]()
    try:
        fleet.start()
        struck = sweep(fleet, fault, chance.randint(1, stride), stride)
        counts[f"{fault.kind}: faults of the {fault.role}'s disk"] = struck
        counts["writes confirmed"] = fleet.ledger.confirmed
        demand_no_traceback(fleet)
    finally:
        fleet.end()
    return counts
