"""`swpks simulate`: runs two systems, a console and guests in a simulated world; each seed is one history.

    swpks simulate --seed 7 --trace          the history of a seed, line by line
    swpks simulate --seeds 0-999             many seeds; the first failures are shown
    swpks simulate --seed 7 --nvram etcd     the same story with NVRAM in a simulated etcd

Exit status: 0 all promises were kept; 1 a seed has failed; 2 a usage error; 130 an
interrupt.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from hcall_abi.errors import OperatorError
from hcall_abi.rules.service import COMMAND_USAGE
from swpks.cli import streams

if TYPE_CHECKING:
    from swpks.testing.simulation import Simulated
    from swpks.testing.simulation.world import Nvrams

FAILED = 1
SHOWN = 3
"""Most failures that are shown of a range."""
MOST = 10_000_000
_SHARE = 25
"""Seeds of a chunk: a process gets so many at once."""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add `simulate` to the command's subparsers; `run` of this module carries it out."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "simulate",
        help="test migrations in a simulated world",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--seed", type=_seed, metavar="N", help="one seed, with its figures")
    which.add_argument(
        "--seeds",
        type=_range,
        metavar="A-B",
        help="the seeds from A to B, on all processors; N alone is the one seed N",
    )
    add("--trace", action="store_true", help="print the history of the seed")
    add(
        "--nvram",
        choices=("memory", "etcd"),
        default="memory",
        help="the NVRAM of all systems: memory (default), or a simulated etcd whose requests are late, lost "
        "and repeated",
    )
    return parser


def run(options: argparse.Namespace) -> int:
    """Simulate; return the exit status."""
    if options.seeds is None:
        return _one(options.seed, options.nvram, trace=options.trace)
    if options.trace:
        raise OperatorError(COMMAND_USAGE, "--trace prints the history of one seed: give --seed N")
    return _many(options.seeds, options.nvram)


def _one(seed: int, nvram: Nvrams, *, trace: bool) -> int:
    from swpks.testing.simulation import simulate

    outcome = simulate(seed, nvram=nvram)
    if trace or outcome.failure:
        streams.say("\n".join(outcome.trace))
    streams.say(f"seed {seed}: {_figures(outcome.figures)}")
    if outcome.failure:
        streams.complain(_failure(outcome, nvram))
        return FAILED
    return 0


def _many(seeds: range, nvram: Nvrams) -> int:
    """Simulate a range of seeds.

    Print the seeds per minute, and traces of the first seeds that fail.
    """
    began, figures, failed = time.monotonic(), Counter[str](), 0
    for outcome in _outcomes(seeds, nvram):
        figures.update(outcome.figures)
        if outcome.failure:
            failed += 1
            # Thousands of seeds may fail for one reason, and a few traces show it.
            if failed <= SHOWN:
                _one(outcome.seed, nvram, trace=True)
    minutes = (time.monotonic() - began) / 60
    rate = f"{len(seeds) / minutes:.0f} seeds per minute"
    streams.say(f"{len(seeds)} seeds, {failed} failed, {rate}: {_figures(figures)}")
    return FAILED if failed else 0


def _outcomes(seeds: range, nvram: Nvrams) -> Iterator[Simulated]:
    """Yield the outcomes of seeds, in their order, computed on all processors."""
    from swpks.testing.simulation import simulate

    # A trace costs time, so the first run of a seed makes none.  If the seed fails, it runs again with a
    # trace; the second run has the same history.
    quick = partial(simulate, traced=False, nvram=nvram)
    processors = os.cpu_count() or 1
    if processors == 1 or len(seeds) <= _SHARE:
        yield from map(quick, seeds)
        return
    with ProcessPoolExecutor(processors) as pool:
        yield from pool.map(quick, seeds, chunksize=_SHARE)


def _failure(outcome: Simulated, nvram: Nvrams) -> str:
    option = "" if nvram == "memory" else f" --nvram {nvram}"
    again = f"swpks simulate --seed {outcome.seed}{option} --trace"
    return f"seed {outcome.seed} FAILED: {outcome.failure}\nagain: {again}"


def _figures(figures: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in figures.items())


def _seed(text: str) -> int:
    """Return a seed; ArgumentTypeError for anything but a number from 0."""
    if not text.isascii() or not text.isdigit() or int(text) > MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to {MOST}")
    return int(text)


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    found = range(_seed(first), _seed(last or first) + 1)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} has no seed")
    return found
