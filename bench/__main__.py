"""`python -m bench`: measure, print the tables, write tables, JSON and plots to bench/out."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.cases import CALLS, CONFIRMS, Case
from bench.demo import demo_rows
from bench.freeze import freeze_rows
from bench.growth import connection_rows, partition_rows
from bench.measure import Bench, Effort
from bench.neighbour import neighbour_rows
from bench.nvram import nvram_rows
from bench.peers import peer_rows
from bench.plot import draw
from bench.processes import ROOT
from bench.realtime import RealTime
from bench.report import markdown, table
from bench.results import (
    Row,
    about,
    as_json,
    case_row,
    fixture_rows,
    many_rows,
    memory_rows,
    start_rows,
)
from bench.servers import WAITING, Server
from bench.stores import object_rows
from bench.takeover import take_over_rows

FULL = Effort()
QUICK = Effort(1, 0.05, 1, 2, (1, 3), (1, 20), (1, 20), (1,), 0.1, 2, 2, 1, 2)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    epilog = f"Cases: {', '.join(known())}."
    made = argparse.ArgumentParser(prog="python -m bench", description=__doc__, epilog=epilog)
    made.add_argument(
        "--quick", action="store_true", help="a short test of the benchmark; its figures are not valid"
    )
    made.add_argument("--only", nargs="+", metavar="CASE", default=[], help="measure only these cases")
    made.add_argument("--rounds", type=int, help=f"rounds of each case (default: {FULL.rounds})")
    made.add_argument("--seconds", type=float, help=f"seconds of load a run (default: {FULL.seconds})")
    made.add_argument("--out", type=Path, default=Path("bench/out"), help="folder for the results")
    made.add_argument("--no-fifo", action="store_true", help="measure without SCHED_FIFO")
    return made


def known() -> list[str]:
    """Return the names that --only accepts."""
    return [*(case.key for case in (*CALLS, *CONFIRMS)), "memory", "peers", *PARTS]


def _starts(bench: Bench) -> list[Row]:
    state = bench.folder / "start"
    with Server(state) as server:  # the first start makes keys and files, so it is not measured
        server.prepare()
    return start_rows(bench.starts(state))


PARTS: dict[str, Callable[[Bench], list[Row]]] = {
    "start": _starts,
    "fixture": lambda bench: fixture_rows(bench.fixtures()),
    "many": lambda bench: many_rows(bench.effort.many, bench.many_partitions()),
    "partitions": partition_rows,
    "connections": connection_rows,
    "objects": object_rows,
    "neighbour": neighbour_rows,
    "freeze": freeze_rows,
    "nvram": nvram_rows,
    "take-over": take_over_rows,
    "demo": demo_rows,
}
"""The parts that need servers of their own."""


def measure(bench: Bench, only: set[str]) -> list[Row]:
    """Measure the cases and parts that --only names, or all of them, and return the rows."""
    rows = _on_two_servers(bench, only)
    for name, part in PARTS.items():
        if not only or name in only:
            bench.progress(name)
            rows += part(bench)
    return rows


def _on_two_servers(bench: Bench, only: set[str]) -> list[Row]:
    """Measure the cases on a server with default options, and on a server whose CONFIRM waits."""
    calls, confirms = _wanted(CALLS, only), _wanted(CONFIRMS, only)
    peers, memory = not only or "peers" in only, not only or "memory" in only
    rows: list[Row] = []
    with ExitStack() as stack:
        servers: dict[bool, Server] = {}
        if calls or peers or memory or any(not case.waits for case in confirms):
            servers[False] = stack.enter_context(Server(bench.folder / "one"))
        if peers or any(case.waits for case in confirms):
            servers[True] = stack.enter_context(Server(bench.folder / "waiting", options=WAITING))
        for server in servers.values():
            server.prepare()
        # The memory is read before the load: the goal is for a filled partition, without the buffers that
        # grow under load.
        ready = {waits: server.resident() for waits, server in servers.items()}
        if calls:
            found = bench.calls(calls, servers[False])
            rows += [case_row(case, found[case.key]) for case in calls]
        if confirms:
            found = bench.confirms(confirms, servers)
            rows += [case_row(case, found[case.key]) for case in confirms]
        if peers:
            rows += peer_rows(bench, servers)
        if memory:
            rows += memory_rows(ready[False], servers[False].resident())
    return rows


def _wanted(cases: Sequence[Case], only: set[str]) -> list[Case]:
    return [case for case in cases if not only or case.key in only]


def _show(text: str) -> None:
    """Show the progress on a terminal; elsewhere do nothing."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def main() -> int:
    """Run the benchmark; the exit status does not depend on the goals."""
    options = parser().parse_args()
    chosen = QUICK if options.quick else FULL
    effort = chosen._replace(
        rounds=options.rounds or chosen.rounds, seconds=options.seconds or chosen.seconds
    )
    only = set(options.only)
    if unknown := only - set(known()):
        parser().error(f"no such case: {', '.join(sorted(unknown))}")
    os.chdir(ROOT)  # short paths: the name of a Unix socket has room for about 100 bytes
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    real_time = RealTime(wanted=not options.no_fifo)
    # The folder is on the disk of the checkout. In a file system in memory, commits would not be durable, and
    # too fast.
    with tempfile.TemporaryDirectory(prefix="run-", dir=out) as folder:
        rows = measure(Bench(Path(folder), out, effort, _show, real_time), only)
    _show("")
    made = about(effort, real_time.text)
    (out / "results.json").write_text(json.dumps(as_json(rows, made), indent=1) + "\n")
    (out / "results.md").write_text(markdown(rows, made))
    pictures = draw(rows, out)
    print(table(rows))
    print(f"\nSCHED_FIFO: {real_time.text}")
    print(f"Written to {out}: {', '.join(['results.json', 'results.md', *pictures])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
