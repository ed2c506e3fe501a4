"""Options of all verbs of a command: connection and output."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hcall_abi.errors import OperatorError
from hcall_abi.rules import storage as rules


def state_path(text: str) -> Path:
    """Return the path of a state folder from an option's value; OperatorError for an empty value.

    An empty path would mean the working directory.  It usually comes from a variable that is not set.
    """
    if not text:
        advice = "name a folder, or . for the working directory"
        raise OperatorError(rules.STATE_NAMED, f"--state or --store is empty: {advice}")
    return Path(text)


def socket_path(text: str) -> Path:
    """Return the path of a Unix socket from an option's value: PATH, or unix:PATH as --connect takes it.

    The ready line, the where socket and --connect write addresses with a kind, so users copy them.
    """
    if text.startswith("tcp:"):
        raise argparse.ArgumentTypeError(f"{text!r} is a TCP address, and a Unix socket is needed: its path")
    return Path(text.removeprefix("unix:"))


def state_folder() -> Path | None:
    """Return the state folder of SWPKS_STATE, None if it is not set or empty."""
    found = os.environ.get("SWPKS_STATE")
    return Path(found) if found else None


def for_every_verb(parser: argparse.ArgumentParser, title: str, default: Any) -> Callable[..., None]:
    """Return `add(name, fallback, **options)`, which adds an option to a group of `parser`.

    The same options are added to a command (`default` None) and to each of its verbs
    (`argparse.SUPPRESS`).  So an option may stand before the verb or after it; the last one counts.
    """
    group = parser.add_argument_group(title)

    def add(name: str, fallback: Any, **options: Any) -> None:
        # A verb needs SUPPRESS: with a default of its own, it would overwrite a value that stands before the
        # verb.
        group.add_argument(name, default=fallback if default is None else default, **options)

    return add
