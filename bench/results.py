"""Results from measurements: a row for each figure, with its ceiling and its goal."""

from __future__ import annotations

import os
import platform
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import trio

from bench import goals
from bench.cases import Case
from bench.figures import cpu_ratio, median, paired_ratio, work_ratio
from bench.goals import Goal
from bench.measure import Effort, Rounds, Start


@dataclass
class Row:
    """One figure.

    `value` is in `unit`. If it is missing, it is None, and `note` has the reason. `p50`, `p99` and `cpu`
    are in microseconds. `cpu` is the server's CPU time for one operation.

    `ratio` is the value divided by `ceiling`, and `work` is a ratio of CPU times alone.  `plain` is the ratio
    to the echo server with the stream of swpks.  `cpu_ratio` is the server's CPU time for an operation,
    divided by the ceiling's CPU time.  `mark` is the place of the goal's line in the plot.
    """

    key: str
    group: str
    title: str
    value: float | None
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
    cpu_ratio: float | None = None
    goal: str = ""
    mark: float | None = None
    met: bool | None = None
    note: str = ""
    rounds: dict[str, list[dict[str, float]]] = field(default_factory=dict)


CALLS, CONFIRMED, PROCESS = "h-calls beside an echo", "confirmed writes beside bare commits", "process"


def judged(row: Row, goal: Goal | None) -> Row:
    """Add a goal to a row, and whether the figure meets it; return the row."""
    if goal is not None:
        row.goal, row.mark = str(goal), goal.mark
        # A figure that could not be measured has missed its goal: a silent gap would look like a success.
        row.met = row.value is not None and goal.met(row.value, row.ratio, row.cpu_ratio)
    return row


def compared(
    key: str, group: str, title: str, where: str, rounds: Rounds, ceiling_name: str, ceiling: str
) -> Row:
    """Return the row of our rate, with its ratio to the rate of another target in the same rounds."""
    ours, other = median(rounds["swpks"]), median(rounds[ceiling])
    return Row(
        key,
        group,
        title,
        ours.rate,
        "/s",
        where,
        p50=ours.p50,
        p99=ours.p99,
        cpu=ours.server_cpu,
        ceiling=other.rate,
        ceiling_name=ceiling_name,
        ratio=paired_ratio(rounds["swpks"], rounds[ceiling]),
        # All rounds are in the JSON, so that a reader can compute another statistic.
        rounds={target: [one._asdict() for one in each] for target, each in rounds.items()},
    )


def case_row(case: Case, rounds: Rounds) -> Row:
    """Return the row of a case that was compared with the echo or with bare commits."""
    if case.confirms:
        made = compared(case.key, CONFIRMED, case.title, case.where, rounds, "bare commits", "bare")
        made.cpu_ratio = cpu_ratio(rounds["swpks"], rounds["bare"])
    else:
        made = compared(case.key, CALLS, case.title, case.where, rounds, "echo", "echo")
        made.work = work_ratio(rounds["swpks"], rounds["echo"])
        made.plain = paired_ratio(rounds["swpks"], rounds["plain"])
    return judged(made, case.goal)


def figure(key: str, group: str, title: str, value: float, unit: str, goal: Goal | None = None) -> Row:
    """Return the row of a figure without a ceiling."""
    return judged(Row(key, group, title, value, unit), goal)


def start_rows(starts: list[Start]) -> list[Row]:
    """Return the rows with the time from start to ready, and with the server's CPU time until then."""
    seconds, cpu, importer = map(statistics.median, zip(*starts, strict=True))
    ready = Row(
        "start", PROCESS, "start to ready", seconds, "s", ceiling=importer, ceiling_name="import trio"
    )
    # Each start is compared with the import just before it: both have the same caches and the same load.
    ready.ratio = statistics.median(each.seconds / each.importer for each in starts)
    ready.rounds = {"starts": [each._asdict() for each in starts]}
    return [
        judged(ready, goals.START),
        figure("start-cpu", PROCESS, "start to ready, its CPU time", cpu, "s"),
    ]


def fixture_rows(seconds: list[float]) -> list[Row]:
    """Return the row with the time until an in-process partition of the test fixture has a session."""
    value = statistics.median(seconds)
    return [figure("fixture", PROCESS, "test fixture, start to session", value, "s", goals.FIXTURE)]


def memory_rows(ready: float, loaded: float) -> list[Row]:
    """Return the rows with the memory of a server with one partition, in MB."""
    return [
        figure("memory", PROCESS, "memory, 1 partition of 64 KiB, filled", ready, "MB", goals.MEMORY),
        figure("memory-loaded", PROCESS, "memory, the same after all of the load", loaded, "MB"),
    ]


def many_rows(count: int, found: dict[str, float]) -> list[Row]:
    """Return the rows with memory and start of a server with many filled partitions."""
    what = f"{count} x 64 KiB filled"
    return [
        figure("memory-many", PROCESS, f"memory, {what}", found["filled"], "MB"),
        figure(
            "memory-many-restarted", PROCESS, f"memory, {what}, after a restart", found["restarted"], "MB"
        ),
        figure("start-many", PROCESS, f"start to ready, {what}", found["seconds"], "s"),
    ]


def about(effort: Effort, real_time: str) -> dict[str, Any]:
    """Return machine, versions and method of the run; `real_time`: whether it ran under SCHED_FIFO."""
    model = next(
        (line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), ""
    )
    return {
        "python": f"{platform.python_version()}, {platform.python_compiler()}, {platform.python_build()[1]}",
        "trio": trio.__version__,
        "kernel": platform.release().partition("-")[0],
        "processor": model.partition(":")[2].strip(),
        "cores": len(os.sched_getaffinity(0)),
        # The load average is a part of the result, because the load of a busy machine explains odd figures.
        "load_average": round(os.getloadavg()[0], 2),
        "fifo": real_time,
        **effort._asdict(),
    }


def as_json(rows: list[Row], about: dict[str, Any]) -> dict[str, Any]:
    """Return a run as one document: `about` it, and its rows."""
    return {"about": about, "rows": [asdict(one) for one in rows]}
