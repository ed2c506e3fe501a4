"""`swpks completion`: completion for bash, zsh and fish, made of the parser of the command line.

    . <(swpks completion bash)

The wheel has these scripts in the folders where the shells look for them; tools/build_hook.py makes them.
"""

# How the completion is made, and how it is tested
#
# The words of the command line are in one place, the parser.  `swpks.cli.words` reads them from it, and each
# shell has a function that writes them as a script.  So no word is listed by hand, and a new option is
# completed at once.
#
# The scripts have the words in them.  They do not call swpks: a start of Python at each Tab would be slow.
#
# Each shell needs another form.  bash has no descriptions of words: its script has tables, and a function
# that walks along the line.  zsh has `_arguments`, so its script has a function for each command.  fish has
# one rule for each word, with a condition.  fish evaluates every condition at every key, so the walk along
# the line is done once and stored: 88 walks took 60 ms a key.
#
# The tests run the scripts in the real shells.  The first such run showed three mistakes: zsh accepted no
# --option=value and lost the command after it, bash split file names with blanks, and fish was slow (see
# above).

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
    """Add `completion` to the command's subparsers; `run` of this module carries it out."""
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
    """Return the completion script for a shell."""
    from swpks.cli.main import whole_parser

    return SHELLS[shell][1](tree(whole_parser()))
