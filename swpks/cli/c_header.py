"""`swpks c-header`: where the C headers of this swpks are.

    swpks c-header                           the path of swpks/pks.h
    cc -I"$(swpks c-header --include)" ...   the folder for the compiler's -I

Three headers: `swpks/pks.h` has the h-calls, structures and frames, and needs no C library.
`swpks/pks_client.h` is a client over a socket, for POSIX; it uses `swpks/pks_hmac.h`.
"""

from __future__ import annotations

import argparse
from importlib import resources
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
    parser.add_argument("--include", action="store_true", help="print the folder for -I instead")
    return parser


def run(options: argparse.Namespace) -> int:
    """Print the path of the header, or of the folder for -I."""
    folder = resources.files("swpks") / "include"
    streams.say(str(folder if options.include else folder / "swpks" / "pks.h"))
    return 0
