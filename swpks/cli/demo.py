"""`swpks demo`: see `swpks.demo`."""

from __future__ import annotations

import argparse
from typing import Any

from swpks.cli.where import state_path


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add `demo` to the command's subparsers; `run` of this module carries it out."""
    summary = "run the demo: a partition locks its objects, loses power, and gets its store back"
    parser: argparse.ArgumentParser = subparsers.add_parser("demo", help=summary, description=summary)
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("--keep", action="store_true", help="keep the folder with the state, the disk and the log")
    add(
        "--state",
        type=state_path,
        metavar="DIR",
        help="a new or empty folder for all files; it is not removed",
    )
    return parser


def run(options: argparse.Namespace) -> int:
    """Play the demo; 0 if all its claims held, 1 if not, 130 if it was interrupted."""
    from swpks.demo.run import play

    return play(options.state, keep=options.keep)
