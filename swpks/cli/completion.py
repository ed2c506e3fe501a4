"""`swpks completion`: completion for bash, zsh and fish, made of the parser of the command line.

    . <(swpks completion bash)

The wheel has these files at the places where the shells look; its build makes them (tools/build_hook.py).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from swpks.cli import streams
from swpks.cli.shells import bash, fish, zsh
from swpks.cli.words import Command, tree

SHELLS: Mapping[str, tuple[str, Callable[[Command], str]]] = MappingProxyType(
    {
        "bash": ("share/bash-completion/completions/swpks", bash.script),
        "zsh": ("share/zsh/site-functions/_swpks", zsh.script),
        "fish": ("share/fish/vendor_completions.d/swpks.fish", fish.script),
    }
)
"""Each shell with the path of its file below the prefix of an installation, and the maker of the script."""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add `completion` to the command's subparsers; the result has `run` as its default `run`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "completion",
        help="print the completion for a shell",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("shell", choices=list(SHELLS), help="the shell: bash, zsh or fish")
    return parser


def run(options: argparse.Namespace) -> int:
    """Print the script of a shell."""
    streams.say(script_of(options.shell).rstrip("\n"))
    return 0


def script_of(shell: str) -> str:
    """Return the completion for a shell."""
    from swpks.cli.main import whole_parser

    return SHELLS[shell][1](tree(whole_parser()))
