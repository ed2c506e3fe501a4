"""`swpks dissector`: the Wireshark dissector of the data channel, a program in Lua.

    swpks dissector > swpks.lua
    tshark -X lua_script:swpks.lua -r FILE.pcapng

It reads the traces of `swpks serve --trace`, and captured TCP traffic.  For the window of Wireshark, put the
file into the folder for personal Lua plugins (Help, About Wireshark, Folders).
"""

from __future__ import annotations

import argparse
from typing import Any

from swpks.cli import streams


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add `dissector` to the command's subparsers; `run` of this module carries it out."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "dissector",
        help="print the Wireshark dissector of h-calls and frames",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def run(options: argparse.Namespace) -> int:
    """Print the program."""
    from hcall_abi.export.dissector import dissector

    streams.say(dissector().rstrip("\n"))
    return 0
