"""`python -m tools.mutants`: draw the sample, try every mutant, print the score of each room."""

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable

from tools.mutants.forking import Result
from tools.mutants.reach import Task, baseline, chosen
from tools.mutants.report import report
from tools.mutants.rooms import ROOMS, ROOT
from tools.mutants.sample import Mutant, drawn
from tools.mutants.server import try_loaded, try_patched

# The seed is fixed, so that two runs of the same code try the same mutants.
SEED = 20261125
Show = Callable[[Mutant, Result], None]
CHUNK = 4
"""Mutants that one server tries: small enough that all cores end at about the same time."""


def arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the sample (default {SEED})")
    parser.add_argument("--rooms", nargs="+", choices=ROOMS, default=list(ROOMS), help="only these rooms")
    parser.add_argument("--file", default="", help="only modules whose path has this in it")
    parser.add_argument("--all", action="store_true", help="all mutants instead of a sample")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    parser.add_argument("--verbose", action="store_true", help="print the test that killed each mutant")
    parser.add_argument("--list", action="store_true", help="show the sample and try nothing")
    return parser.parse_args()


def by_room(tasks: list[Task], jobs: int) -> list[list[Task]]:
    """Return the tasks of each room, split into as many lists as there are processes."""
    rooms = [[task for task in tasks if task.mutant.room == room] for room in ROOMS]
    return [room[n::jobs] for room in rooms for n in range(jobs) if room[n::jobs]]


def by_module(tasks: list[Task]) -> list[list[Task]]:
    """Return lists of tasks, each for one module, and short enough to keep all processes busy."""
    made: list[list[Task]] = []
    for task in tasks:
        if not made or made[-1][0].mutant.file != task.mutant.file or len(made[-1]) >= CHUNK:
            made.append([])
        made[-1].append(task)
    return made


def run(mutants: list[Mutant], jobs: int, show: Show) -> dict[Mutant, Result]:
    """Try each mutant, and return the outcome of each.

    All are tried by patching.  Those that patching cannot decide are then tried by loading.
    """
    folders = sorted({folder for mutant in mutants for folder in ROOMS[mutant.room].tests})
    outcome: dict[Mutant, Result] = {}

    def note(tasks: list[Task], results: list[Result | None] | list[Result]) -> None:
        for task, result in zip(tasks, results, strict=True):
            if result is not None:
                outcome[task.mutant] = result
                show(task.mutant, result)

    # The pool is started in the main thread. If a daemon thread forked the processes, all their threads would
    # be daemons.
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        reach = dict(zip(folders, pool.map(baseline, folders, chunksize=1), strict=True))
        seconds = [each for folder in reach.values() for each in folder.seconds.values()]
        print(f"{len(seconds)} tests pass on the unchanged code in {sum(seconds):.0f} s", flush=True)
        tasks = [chosen(mutant, reach) for mutant in mutants]
        quick = by_room(tasks, jobs)
        for part, some in zip(quick, pool.imap(try_patched, quick), strict=True):
            note(part, some)
        left = by_module([task for task in tasks if task.mutant not in outcome])
        for part, rest in zip(left, pool.imap(try_loaded, left), strict=True):
            note(part, rest)
    return outcome


def show_all(mutant: Mutant, result: Result) -> None:
    """Print the outcome of a mutant."""
    print(f"{result.seconds:5.1f} s  {result.killer or 'survived'}: {mutant}", flush=True)


def show_some(mutant: Mutant, result: Result) -> None:
    """Print the outcome of a mutant if it survived or was killed by a time-out."""
    if result.killer is None or result.timed_out:
        show_all(mutant, result)


def main() -> int:
    """Run, and return the exit status.

    The status is 1 for a survivor without a reason, or for a score that is too low.
    """
    wishes = arguments()
    sample = [
        mutant
        for room in wishes.rooms
        for mutant in drawn(room, wishes.seed, everything=wishes.all)
        if wishes.file in mutant.file
    ]
    if wishes.list:
        print(*sample, sep="\n")
        return 0
    started = time.monotonic()
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"HYPOTHESIS_PROFILE": "mutants", "HYPOTHESIS_STORAGE_DIRECTORY": folder}
        outcome = run(sample, wishes.jobs, show_all if wishes.verbose else show_some)
    print(f"{len(sample)} mutants, seed {wishes.seed}, {time.monotonic() - started:.0f} s")
    return report(outcome, wishes.rooms)


if __name__ == "__main__":
    raise SystemExit(main())
