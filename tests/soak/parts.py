"""The parts of the soak, with their sizes at full scale and the figures that they return."""

from __future__ import annotations

import math
import os
import shutil
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from random import Random
from typing import NamedTuple

from swpks.testing.simulation import simulate
from swpks.testing.simulation.world import Nvrams
from tests.migration_processes.disks import FAULTS
from tests.nvram import etcd_attack
from tests.nvram.etcd_members import Members
from tests.soak import boot_loader_page as page_about_boot_loaders
from tests.soak import judges, nth
from tests.soak import kernel_page as page_about_kernels
from tests.soak.boot_chain import boot_all
from tests.soak.crash_states import crashes, judge
from tests.soak.custody import figures
from tests.soak.fuzz import fuzz
from tests.soak.kills import Attack
from tests.soak.migration_kills import attack, sweep_disks
from tests.soak.races import race
from tests.soak.recording import build
from tests.soak.scenario import Scenario

Figures = dict[str, int]
AT_ONCE = os.cpu_count() or 1
KILLS, STATES, ROUNDS, SEEDS = 800, 30_000, 15_000, 10_000
ETCD_ROUNDS = 60
STATES_OF_A_RECORDING = 1000
LIVES = 8
MIGRATIONS = 240
RUNS = {"codec": 1_500_000, "image": 3_500_000, "recovery": 400_000, "updates": 500_000}


class Place(NamedTuple):
    """The settings of a run: a folder for files, a seed, and a scale, where 1 means the full figures."""

    folder: Path
    seed: str
    scale: float

    def amount(self, full: int) -> int:
        """Return the share of a full figure at this scale, but at least 1."""
        return max(1, math.ceil(full * self.scale))


def kills(place: Place) -> Figures:
    """Kill real servers with -9 while writers work, several systems at once."""
    shares = _shares(place.amount(KILLS), min(AT_ONCE, math.ceil(place.amount(KILLS) / 50)))
    attacks = [Attack(place.folder / f"system {n}", Random(f"{place.seed} {n}")) for n in range(len(shares))]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for done in [pool.submit(a.run, share) for a, share in zip(attacks, shares, strict=True)]:
            done.result()
    facts = sum(each.facts for attack in attacks for each in attack.chronicles.values())
    counts = sum((attack.counts for attack in attacks), Counter[str]())
    assert counts["stores that lost news"] or place.scale < 0.1, "no kill came between a change and its flush"
    return {**counts, "facts confirmed": facts}


def power_cuts(place: Place) -> Figures:
    """Check crash states of recorded disks."""
    shares = _shares(place.amount(STATES), math.ceil(place.amount(STATES) / STATES_OF_A_RECORDING))
    lives = LIVES if place.scale >= 0.1 else 4
    library = build(place.folder)
    record = partial(_record, place, library, lives)
    if len(shares) == 1:
        return record((0, shares[0]))
    with ProcessPoolExecutor(AT_ONCE) as pool:
        found = Counter[str]()
        for figures in pool.map(record, enumerate(shares)):
            found.update(figures)
    return dict(found)


def _record(place: Place, library: Path, lives: int, numbered: tuple[int, int]) -> Figures:
    """Make one recording and check its crash states. If a state breaks a promise, its folder stays."""
    number, states = numbered
    folder = place.folder / f"recording {number}"
    folder.mkdir()
    scenario = Scenario(folder, library, Random(f"{place.seed} {number}"))
    scenario.play(lives)
    counts = Counter({"recordings": 1, "lives": lives})
    for crash in crashes(scenario, states, Random(f"{place.seed} {number} crashes")):
        there = folder / "crash"
        shutil.rmtree(there, ignore_errors=True)
        there.mkdir()
        try:
            counts[f"states: {judge(crash, scenario, there)}"] += 1
        except AssertionError as error:
            raise AssertionError(f"event {crash.event} of {folder}: {error}") from None
    shutil.rmtree(folder)
    return dict(counts)


def linearizability(place: Place) -> Figures:
    """Let h-calls race on several connections to one partition."""
    return race(place.folder, Random(place.seed), place.amount(ROUNDS))


def nth_faults(place: Place) -> Figures:
    """Try every n-th fault and cancellation in starts and flushes."""
    return dict(nth.run(place.folder, place.scale))


def fuzzing(place: Place) -> Figures:
    """Run atheris on each target."""
    seed = int.from_bytes(place.seed.encode(), "big") % (1 << 31) or 1
    figures: Figures = {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        todo = {
            name: pool.submit(fuzz, name, place.amount(runs), seed, place.folder / name)
            for name, runs in RUNS.items()
        }
        for name, done in todo.items():
            figures[f"{name}: runs"], figures[f"{name}: places reached"] = done.result()
    return figures


def custody(place: Place) -> Figures:
    """Search every interleaving of migrations."""
    return figures(place.scale)


def simulation(place: Place) -> Figures:
    """Run two systems, a console and guests in virtual time, with faults by a seed."""
    return _simulated(place, "memory")


def simulation_etcd(place: Place) -> Figures:
    """Run the same with NVRAM in a simulated etcd, whose requests are late, lost and repeated."""
    return _simulated(place, "etcd")


def _simulated(place: Place, nvram: Nvrams) -> Figures:
    first = int.from_bytes(place.seed.encode(), "big") % 1_000_000
    seeds = range(first, first + place.amount(SEEDS))
    figures = Counter[str]()
    with ProcessPoolExecutor(AT_ONCE) as pool:
        for outcome in pool.map(partial(simulate, traced=False, nvram=nvram), seeds, chunksize=25):
            again = f"swpks simulate --seed {outcome.seed} --nvram {nvram} --trace"
            assert not outcome.failure, f"seed {outcome.seed}: {outcome.failure}\nagain: {again}"
            figures.update(outcome.figures)
    return {"seeds": len(seeds), **figures}


def migration_kills(place: Place) -> Figures:
    """Run kills and NVRAM trouble in migrations of real processes; several fleets at once."""
    shares = _shares(place.amount(MIGRATIONS), min(AT_ONCE, math.ceil(place.amount(MIGRATIONS) / 20)))
    counts = Counter[str]()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        fleets = [
            pool.submit(attack, place.folder / f"fleet {n}", Random(f"{place.seed} {n}"), share)
            for n, share in enumerate(shares)
        ]
        for each in fleets:
            counts.update(each.result())
    return dict(counts)


def migration_disks(place: Place) -> Figures:
    """Try every n-th fault of a disk in migrations of real processes; several fleets at once."""
    stride = max(1, round(1 / place.scale))
    counts = Counter[str]()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        sweeps = [
            pool.submit(
                sweep_disks, place.folder / fault.name, Random(f"{place.seed} {fault.name}"), fault, stride
            )
            for fault in FAULTS
        ]
        for each in sweeps:
            counts.update(each.result())
    return dict(counts)


def etcd(place: Place) -> Figures:
    """Let members of etcd and owners of NVRAM have accidents, in rounds with new systems."""
    members = Members(place.folder / "etcd", 3)
    rounds = place.amount(ETCD_ROUNDS)
    figures = Counter[str]()
    try:
        members.ready()
        for number in range(rounds):
            chance = Random(f"{place.seed} {number}")
            figures.update(etcd_attack.attack(members, chance, f"round/{number}"))
    finally:
        members.close()
    return {"rounds": rounds, **figures}


def conformance(place: Place) -> Figures:
    """Judge every level by every case, and every wrong server by all chapters. The seed has no effect."""
    return judges.all_levels() | judges.all_chapters(place.scale)


def kernel_page(place: Place) -> Figures:
    """Run docs/kernel.md as a whole: a kernel is built and booted. The scale has no effect."""
    return page_about_kernels.walk()


def boot_chain(place: Place) -> Figures:
    """Boot Debian's GRUB in each state of its keys, and let Linux enrol keys.  It has one size."""
    return boot_all(place.folder)


def boot_loader_page(place: Place) -> Figures:
    """Run docs/boot-loader.md as a whole: disks boot or are refused.  It has one size, whatever the scale."""
    return page_about_boot_loaders.walk()


PARTS: dict[str, Callable[[Place], Figures]] = {
    "kills": kills,
    "power-cuts": power_cuts,
    "linearizability": linearizability,
    "nth-faults": nth_faults,
    "fuzzing": fuzzing,
    "simulation": simulation,
    "simulation-etcd": simulation_etcd,
    "custody": custody,
    "migration-kills": migration_kills,
    "migration-disks": migration_disks,
    "kernel-page": kernel_page,
    "boot-loader-page": boot_loader_page,
    "conformance": conformance,
    "boot-chain": boot_chain,
    "etcd": etcd,
}


def _shares(whole: int, parts: int) -> list[int]:
    """Divide a number into parts that are as equal as possible; return the parts."""
    parts = min(parts, whole)
    return [whole // parts + (n < whole % parts) for n in range(parts)]
