"""The back ends of NVRAM that the benchmark compares: opened together, timed, and their rows."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench.etcd import EtcdMembers, OwnedNvram, installed
from bench.measure import Bench
from bench.results import Row
from hcall_server.nvram.seam import Nvram
from hcall_server.nvram.sqlite import SqliteNvram

SQLITE = "SQLite"
BACK_ENDS = {SQLITE: 0, "etcd, 1 node": 1, "etcd, 3 nodes": 3}
"""Each back end with its number of members."""
MISSING = "etcd is not installed: tools/debian-packages bench"


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
