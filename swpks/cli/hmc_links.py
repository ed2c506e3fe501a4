"""`swpks hmc links DIR`: a folder of commands with the names of the real console."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from swpks.cli import streams

SUMMARY = "make a folder of commands with the console's names: lssyscfg, chsyscfg and the others"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the operand and the option of `links`."""
    parser.add_argument(
        "folder", metavar="DIR", type=Path, help="a new folder, an empty one, or a folder of links"
    )
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON")


def run(args: argparse.Namespace, store: Path) -> int:
    """Make the folder, or make it anew; return the exit status."""
    from swpks.hmc.links import make_links

    names = make_links(args.folder, store)
    folder = args.folder.absolute()
    if args.json:
        streams.say(json.dumps({"folder": str(folder), "commands": names}, indent=2))
    else:
        streams.say(f"{len(names)} commands in {folder}: put it into PATH")
    return 0
