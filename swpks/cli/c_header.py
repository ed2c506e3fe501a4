"""`swpks c-header`: where the C headers of this swpks are.

    swpks c-header                           the path of swpks/pks.h
    cc -I"$(swpks c-header --include)" ...   the folder for the compiler's -I
    cp "$(swpks c-header --examples)"/*.c .  the folder of the example programs

Three headers: `swpks/pks.h` has the h-calls, structures and frames, and needs no C library.
`swpks/pks_client.h` is a client over a socket, for POSIX; it uses `swpks/pks_hmac.h`.
"""

from __future__ import annotations

import argparse
from importlib import resources
from pathlib import Path
from typing import Any

from swpks.cli import streams


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add `c-header` to the command's subparsers; `run` of this module carries it out."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "c-header",
        help="print the path of the C header of h-calls and frames",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    folder = parser.add_mutually_exclusive_group()
    folder.add_argument("--include", action="store_true", help="print the folder for -I instead")
    folder.add_argument("--examples", action="store_true", help="print the folder of the examples instead")
    return parser


def run(options: argparse.Namespace) -> int:
    """Print the path of the header, of the folder for -I, or of the folder of the examples."""
    package = Path(str(resources.files("swpks")))
    include = package / "include"
    header = include / "swpks" / "pks.h"
    streams.say(str(_examples(package) if options.examples else include if options.include else header))
    return 0


def _examples(package: Path) -> Path:
    """Return the folder of the examples: inside the package, or in a checkout beside it."""
    places = (parent / "docs" / "examples" / "c" for parent in (package, package.parent))
    return next(place for place in places if place.is_dir())
