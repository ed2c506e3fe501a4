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
import time
from collections.abc import Callable
from itertools import count
from typing import NamedTuple

from bench.back_ends import Timings, back_ends, rows_of
from bench.measure import Bench, Effort
from bench.results import Row
from hcall_server.nvram.seam import Nvram

COMMITS = "commits over each back end of NVRAM, beside SQLite"


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
