"""`swpks snapshot` with a FILE in place of a NAME: the file passes through the folder of the state."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from hcall_abi.errors import OperatorError
from hcall_abi.rules import snapshot as rules
from hcall_abi.snapshot_views import (
    LoadedSnapshotView,
    SavedSnapshotView,
    SnapshotDiffView,
    SnapshotView,
)

_OPERANDS = ("name", "other")
_WITH_FILES = ("save", "load", "show", "diff")
Rename = Callable[[Any], Any]
"""Puts the names of files in place of temporary names in an answer."""


@contextmanager
def passed(args: argparse.Namespace, state: Path | None) -> Iterator[Rename]:
    """Put temporary names in place of the files in `args`; at the end, store the file of a save.

    An operand with a slash is a file.  SwpksError if a file can't be passed.
    """
    with ExitStack() as places:
        names = {}
        for operand in _OPERANDS:
            given = getattr(args, operand, None)
            if given and "/" in given:
                name = places.enter_context(_place(args, Path(given), state))
                setattr(args, operand, name)
                names[name] = given
        yield lambda answer: _renamed(answer, names) if names else answer


def _place(args: argparse.Namespace, file: Path, state: Path | None) -> Any:
    """Return the block in which a file has a temporary name; OperatorError if the command can't have one."""
    from hcall_server.service.snapshot_outside import brought_in, taken_out

    reason = ""
    if args.verb not in _WITH_FILES:
        reason = f"{args.verb} takes a name, and {file} is a file: remove it by rm"
    elif state is None:
        reason = f"{file} is a file: name the system by --state DIR, not by --socket"
    elif args.verb == "save" and not args.portable:
        reason = f"an own snapshot stays in its state: add --portable, or leave the slash of {file} out"
    if reason or state is None:
        raise OperatorError(rules.SNAPSHOT_PLACE, reason, advised=True)
    return taken_out(file, state, force=args.force) if args.verb == "save" else brought_in(file, state)


def _renamed(answer: Any, names: dict[str, str]) -> Any:
    """Return an answer with the files of the command in place of temporary names."""
    changes: dict[str, Any] = {}
    if isinstance(answer, LoadedSnapshotView | SavedSnapshotView | SnapshotView):
        name = names.get(answer.facts.name, answer.facts.name)
        changes["facts"] = msgspec.structs.replace(answer.facts, name=name)
        if isinstance(answer, SavedSnapshotView):
            changes["file"] = name
    elif isinstance(answer, SnapshotDiffView):
        changes = {end: names.get(name := getattr(answer, end), name) for end in ("before", "after")}
    return msgspec.structs.replace(answer, **changes)
