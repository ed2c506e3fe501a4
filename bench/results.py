"""From rounds to results: one row a figure, beside its ceiling, its goal and the peers."""

from __future__ import annotations

import os
import platform
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import trio

from bench.cases import FIXTURE_GOAL, MEMORY_GOAL, MEMORY_PEERS, START_GOAL, START_PEERS, Case, Goal
from bench.measure import Effort, Rounds, median, paired_ratio, work_ratio


@dataclass
class Row:
    """One figure.

    `value` is in `unit`; p50, p99 and CPU of the server are in microseconds, the last one an
    operation.  `ratio` is to `ceiling`; `work` is the same from the CPU alone; `plain` is the ratio to
    the echo over swpks' own stream.
    """

    key: str
    title: str
    value: float
    unit: str
    where: str = ""
    p50: float | None = None
    p99: float | None = None
    cpu: float | None = None
    ceiling: float | None = None
    ceiling_name: str = ""
    ratio: float | None = None
    work: float | None = None
    plain: float | None = None
    goal: str = ""
    met: bool | None = None
    peers: str = ""
    rounds: dict[str, list[dict[str, float]]] = field(default_factory=dict)


def row(case: Case, rounds: Rounds) -> Row:
    """Return the row of a case that was held against a ceiling."""
    name = "bare" if case.confirms else "echo"
    ours, ceiling = median(rounds["swpks"]), median(rounds[name])
    ratio = paired_ratio(rounds["swpks"], rounds[name])
    return Row(
        key=case.key,
        title=case.title,
        value=ours.rate,
        unit="/s",
        where=case.where,
        p50=ours.p50,
        p99=ours.p99,
        cpu=ours.server_cpu,
        ceiling=ceiling.rate,
        ceiling_name="bare commits" if case.confirms else "echo",
        ratio=ratio,
        work=None if case.confirms else work_ratio(rounds["swpks"], rounds["echo"]),
        plain=None if case.confirms else paired_ratio(rounds["swpks"], rounds["plain"]),
        goal=str(case.goal or ""),
        met=case.goal.met(ours.rate, ratio) if case.goal else None,
        peers=case.peers,
        rounds={target: [one._asdict() for one in each] for target, each in rounds.items()},
    )


def _figure(key: str, title: str, value: float, unit: str, goal: Goal | None = None, peers: str = "") -> Row:
    met = goal.met(value, None) if goal else None
    return Row(key, title, value, unit, goal=str(goal or ""), met=met, peers=peers)


def start_rows(starts: list[tuple[float, float]]) -> list[Row]:
    """Return the rows of the time from start to ready, and of the CPU time in it."""
    seconds, cpu = map(statistics.median, zip(*starts, strict=True))
    return [
        _figure("start", "start to ready", seconds, "s", START_GOAL, START_PEERS),
        _figure("start-cpu", "start to ready, its CPU time", cpu, "s"),
    ]


def fixture_rows(seconds: list[float]) -> list[Row]:
    """Return the row of the time in which an in-process partition of the test fixture has a session."""
    return [
        _figure("fixture", "test fixture, start to session", statistics.median(seconds), "s", FIXTURE_GOAL)
    ]


def memory_rows(ready: float, loaded: float) -> list[Row]:
    """Return the rows of the memory with one partition, in MB."""
    return [
        _figure("memory", "memory, 1 partition of 64 KiB, filled", ready, "MB", MEMORY_GOAL, MEMORY_PEERS),
        _figure("memory-loaded", "memory, the same after all of the load", loaded, "MB"),
    ]


def many_rows(count: int, found: dict[str, float]) -> list[Row]:
    """Return the rows of many filled partitions."""
    what = f"{count} x 64 KiB filled"
    return [
        _figure("memory-many", f"memory, {what}", found["filled"], "MB"),
        _figure("memory-many-restarted", f"memory, {what}, after a restart", found["restarted"], "MB"),
        _figure("start-many", f"start to ready, {what}", found["seconds"], "s"),
    ]


def about(effort: Effort) -> dict[str, Any]:
    """Return what the run was made on and how."""
    model = next(
        (line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), ""
    )
    return {
        "python": f"{platform.python_version()}, {platform.python_compiler()}, {platform.python_build()[1]}",
        "trio": trio.__version__,
        "kernel": platform.release().partition("-")[0],
        "processor": model.partition(":")[2].strip(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": round(os.getloadavg()[0], 2),
        **effort._asdict(),
    }


def as_json(rows: list[Row], effort: Effort) -> dict[str, Any]:
    """Return all there is to know about a run."""
    return {"about": about(effort), "rows": [asdict(one) for one in rows]}
