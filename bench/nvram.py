"""Commits and confirmed writes over each back end of NVRAM: SQLite, etcd with one node, etcd with three."""

# How the back ends are compared
#
# A row needs the same commit, or the same confirmed write, over each back end in the same rounds.  So all
# back ends are open at once, and a round measures each in turn.  The ratio is to SQLite in the same round.
#
# All data are on the disk of the checkout.  The three nodes share that disk and the cores with the client.
# So the network is free, and the syncs of three nodes wait for each other.  Real nodes have it the other way
# round.  The settings of etcd are its defaults.
#
# No process runs under SCHED_FIFO here.  The client must not take the core from a member that it waits for.
#
# p99 is that of all rounds together: a round of large commits has too few of them.

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import NamedTuple

from bench.etcd import EtcdMembers, OwnedNvram, installed
from bench.measure import Bench, Effort
from bench.results import Row
from hcall_server.nvram.seam import Nvram
from hcall_server.nvram.sqlite import SqliteNvram

COMMITS = "commits over each back end of NVRAM, beside SQLite"
SQLITE = "SQLite"
BACK_ENDS = {SQLITE: 0, "etcd, 1 node": 1, "etcd, 3 nodes": 3}
"""Each back end with its number of members."""
MISSING = "etcd is not installed: tools/debian-packages bench"


class CommitSize(NamedTuple):
    """A commit of `records` records of `kib` KiB each."""

    records: int
    kib: int

    def __str__(self) -> str:
        return f"{self.kib} KiB" if self.records == 1 else f"{self.records} x {self.kib} KiB"

    @property
    def key(self) -> str:
        """The size in the key of a row."""
        return f"{self.records}x{self.kib}"


SIZES = (CommitSize(1, 4), CommitSize(1, 64), CommitSize(16, 64), CommitSize(64, 4))


class Timings:
    """The seconds of each operation, and the operations a second of each round."""

    def __init__(self) -> None:
        self.took: list[float] = []
        self.rates: list[float] = []

    def add(self, took: list[float], seconds: float) -> None:
        """Add a round that took so many seconds."""
        self.took += took
        self.rates.append(len(took) / seconds)

    def microseconds(self, share: float) -> float:
        """Return a percentile of all rounds together."""
        ordered = sorted(self.took)
        return 1e6 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@contextmanager
def back_ends(bench: Bench) -> Iterator[dict[str, Nvram]]:
    """Open all back ends in a new folder; without etcd, only SQLite."""
    folder = bench.folder / "nvram"
    folder.mkdir()
    with ExitStack() as stack:
        found: dict[str, Nvram] = {}
        for name, members in BACK_ENDS.items():
            if not members:
                found[name] = SqliteNvram(folder / "nvram.sqlite")
                stack.callback(found[name].close)
            elif installed():
                bench.progress(f"start of {name}")
                cluster = EtcdMembers(folder / f"etcd-{members}", members)
                stack.callback(cluster.close)
                owned = OwnedNvram(cluster.endpoints, "bench")
                stack.callback(owned.close)
                found[name] = owned.nvram
        yield found


def nvram_rows(bench: Bench) -> list[Row]:
    """Return the rows of commits and of confirmed writes over each back end."""
    # trio and the encryptor are not loaded for the other parts.
    from bench.write_behind import confirmed_rows

    with back_ends(bench) as there:
        return [*commit_rows(bench, there), *confirmed_rows(bench, there)]


def commit_rows(bench: Bench, there: dict[str, Nvram]) -> list[Row]:
    """Return a row for each size and back end."""
    found = {(size, name): Timings() for size in SIZES for name in there}
    payloads = {size: _payloads(size) for size in SIZES}
    for _ in bench.rounds("commits"):
        for (size, name), timings in found.items():
            took = _committed(there[name], payloads[size], bench.effort)
            timings.add(took, sum(took))
    rows = []
    for size in SIZES:
        sized = {name: found[size, name] for name in there}
        rows += rows_of(f"nvram-commit-{size.key}", COMMITS, f"commit of {size}", sized)
    return rows


def _payloads(size: CommitSize) -> Callable[[], dict[str, bytes | None]]:
    # Random bytes, as sealed records are, and other ones in each commit.
    names = [f"{size.key}/{n:036}" for n in range(size.records)]
    blobs = [os.urandom(size.kib << 10) for _ in range(size.records + 7)]
    turn = count()
    return lambda: dict(zip(names, blobs[(start := next(turn) % 8) : start + size.records], strict=True))


def _committed(nvram: Nvram, payload: Callable[[], dict[str, bytes | None]], effort: Effort) -> list[float]:
    """Commit for the seconds of a round; return the seconds of each commit."""
    took: list[float] = []
    until = time.perf_counter() + effort.seconds
    while len(took) < effort.commits or time.perf_counter() < until:
        changes = payload()
        began = time.perf_counter()
        nvram.commit(changes)
        took.append(time.perf_counter() - began)
    return took


def rows_of(key: str, group: str, title: str, found: dict[str, Timings]) -> list[Row]:
    """Return the rows of one operation: one for each back end, a missing one with its reason."""
    rows = []
    for name, members in BACK_ENDS.items():
        row = Row(f"{key}-{members}", group, f"{title}, {name}", None, "/s", note=MISSING)
        rows.append(row)
        if name in found:
            _fill(row, found[name], found[SQLITE])
    return rows


def _fill(row: Row, timings: Timings, sqlite: Timings) -> None:
    row.note, row.value = "", statistics.median(timings.rates)
    row.p50, row.p99 = timings.microseconds(0.5), timings.microseconds(0.99)
    row.rounds = {"rates": [{"rate": rate} for rate in timings.rates]}
    if timings is not sqlite:
        row.ceiling, row.ceiling_name = statistics.median(sqlite.rates), SQLITE
        row.ratio = statistics.median(a / b for a, b in zip(timings.rates, sqlite.rates, strict=True))
