"""`python -m bench`: measure, print the table, write table, JSON and plot to bench/out."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from bench.cases import CALLS, CONFIRMS, Case
from bench.measure import Bench, Effort
from bench.plot import draw
from bench.processes import ROOT, Server
from bench.report import markdown, table
from bench.results import Row, about, as_json, fixture_rows, many_rows, memory_rows, row, start_rows

MANY = 64
FULL, QUICK = Effort(), Effort(rounds=1, seconds=0.1, starts=1)
EXTRAS = ("start", "fixture", "memory", "many")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    known = ", ".join([case.key for case in (*CALLS, *CONFIRMS)] + list(EXTRAS))
    made = argparse.ArgumentParser(prog="python -m bench", description=__doc__, epilog=f"Cases: {known}.")
    made.add_argument("--quick", action="store_true", help="a smoke run of seconds; its figures mean nothing")
    made.add_argument("--only", nargs="+", metavar="CASE", default=[], help="measure these alone")
    made.add_argument("--rounds", type=int, help=f"rounds of each case (default: {FULL.rounds})")
    made.add_argument("--seconds", type=float, help=f"seconds of load a run (default: {FULL.seconds})")
    made.add_argument("--out", type=Path, default=Path("bench/out"), help="where results go")
    return made


def measure(folder: Path, out: Path, effort: Effort, only: set[str]) -> list[Row]:
    """Measure what is wanted and return the rows."""
    bench = Bench(folder, out, effort, _tell)
    calls, confirms = _wanted(CALLS, only), _wanted(CONFIRMS, only)
    rows: list[Row] = []
    state = folder / "one"
    with Server(state) as server:
        server.prepare()
        ready = server.resident()
        for cases, run in ((calls, bench.calls), (confirms, bench.confirms)):
            found = run(cases, server) if cases else {}
            rows += [row(case, found[case.key]) for case in cases]
        loaded = server.resident()
    if not only or "start" in only:
        rows += start_rows(bench.starts(state))
    if not only or "fixture" in only:
        rows += fixture_rows(bench.fixtures())
    if not only or "memory" in only:
        rows += memory_rows(ready, loaded)
    if not only or "many" in only:
        rows += many_rows(MANY, bench.many_partitions(MANY))
    return rows


def _wanted(cases: tuple[Case, ...], only: set[str]) -> list[Case]:
    return [case for case in cases if not only or case.key in only]


def _tell(text: str) -> None:
    """Say what is going on, to a person only."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def write(out: Path, rows: list[Row], effort: Effort) -> None:
    """Write JSON, Markdown and plot."""
    goals = {case.key: case.goal.least for case in (*CALLS, *CONFIRMS) if case.goal and case.goal.least}
    (out / "results.json").write_text(json.dumps(as_json(rows, effort), indent=1) + "\n")
    (out / "results.md").write_text(markdown(rows, about(effort)))
    draw(rows, goals, out / "results.png")


def main() -> int:
    """Run the benchmark; the exit status says whether it ran, not whether goals were met."""
    options = parser().parse_args()
    chosen = QUICK if options.quick else FULL
    effort = chosen._replace(
        rounds=options.rounds or chosen.rounds, seconds=options.seconds or chosen.seconds
    )
    only = set(options.only)
    if unknown := only - {case.key for case in (*CALLS, *CONFIRMS)} - set(EXTRAS):
        parser().error(f"no such case: {', '.join(sorted(unknown))}")
    os.chdir(ROOT)  # short paths: the name of a Unix socket has room for about 100 bytes
    options.out.mkdir(parents=True, exist_ok=True)
    # On the disk of the checkout: durable commits to a file system in memory would mean nothing.
    with tempfile.TemporaryDirectory(prefix="run-", dir=options.out) as folder:
        rows = measure(Path(folder), options.out, effort, only)
    _tell("")
    write(options.out, rows, effort)
    print(table(rows))
    print(f"\nWritten to {options.out}: results.json, results.md, results.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
