"""`python -m tools.mutants`: draw the sample, try every mutant, print the score of each room."""

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterable

from tools.mutants.report import report
from tools.mutants.rooms import ROOMS, ROOT
from tools.mutants.sample import Mutant, drawn
from tools.mutants.server import Result, baseline, chosen, try_all

SEED = 20261125
CHUNK = 8
"""Mutants that one server tries: small enough that all cores end at about the same time."""


def arguments() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the sample (default {SEED})")
    parser.add_argument("--rooms", nargs="+", choices=ROOMS, default=list(ROOMS), help="only these rooms")
    parser.add_argument("--file", default="", help="only modules whose path has this in it")
    parser.add_argument("--all", action="store_true", help="all mutants instead of a sample")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    parser.add_argument("--verbose", action="store_true", help="print the test that killed each mutant")
    parser.add_argument("--list", action="store_true", help="show the sample and try nothing")
    return parser.parse_args()


def chunks(mutants: Iterable[Mutant]) -> list[list[Mutant]]:
    """Return the mutants in lists of one module each."""
    made: list[list[Mutant]] = []
    for mutant in mutants:
        if not made or made[-1][0].file != mutant.file or len(made[-1]) >= CHUNK:
            made.append([])
        made[-1].append(mutant)
    return made


def run(mutants: list[Mutant], jobs: int, *, verbose: bool) -> dict[Mutant, Result]:
    """Try all mutants and return the outcome of each."""
    folders = sorted({folder for mutant in mutants for folder in ROOMS[mutant.room].tests})
    with multiprocessing.get_context("fork").Pool(jobs, maxtasksperchild=1) as pool:
        reach = dict(zip(folders, pool.map(baseline, folders, chunksize=1), strict=True))
        seconds = [each for folder in reach.values() for each in folder.seconds.values()]
        print(f"{len(seconds)} tests pass on the unchanged code in {sum(seconds):.0f} s", flush=True)
        tasks = [(chunk, [chosen(mutant, reach) for mutant in chunk]) for chunk in chunks(mutants)]
        outcome = {}
        for results in pool.imap_unordered(numbered, enumerate(tasks)):
            for mutant, result in zip(tasks[results[0]][0], results[1], strict=True):
                outcome[mutant] = result
                if verbose or result.killer is None or result.timed_out:
                    print(f"{result.seconds:5.1f} s  {result.killer or 'survived'}: {mutant}", flush=True)
    return outcome


def numbered(task: tuple[int, tuple[list[Mutant], list[dict[str, float]]]]) -> tuple[int, list[Result]]:
    """Try one chunk; the answer says which."""
    return task[0], try_all(task[1])


def main() -> int:
    """Run; exit status 1 for a survivor without a reason or a score that is too low."""
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
        outcome = run(sample, wishes.jobs, verbose=wishes.verbose)
    print(f"{len(sample)} mutants, seed {wishes.seed}, {time.monotonic() - started:.0f} s")
    return report(outcome, wishes.rooms)


if __name__ == "__main__":
    raise SystemExit(main())
