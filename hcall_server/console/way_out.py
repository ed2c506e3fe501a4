"""The way out for an operator whose line waits for a system that is away: commands that end the attempt."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hcall_server.console.migrations import MigrationStatus

_STOPPABLE = ("open", "aborted")
"""Decisions of an attempt that can still be stopped."""
_LEFT = "Ctrl-C ends this command, and not the attempt"


def way_out(row: MigrationStatus | None) -> str:
    """Return how an operator can stop waiting for an attempt; None is an attempt that is not known."""
    if row is None:
        return _LEFT
    return "; ".join([_LEFT, *_commands(row)])


def _commands(row: MigrationStatus) -> list[str]:
    source, name = shlex.quote(row.source), shlex.quote(row.name)
    if row.kind == "restart":
        return [f"`rrstartlpar -o cancel -m {source} -p {name}` cancels it"]
    stop = f"`migrlpar -o s -m {source} -p {name}` stops it while {row.source} has not released {row.name}"
    force = f"`migrlpar -o r -m {source} -p {name} --force`"
    if row.kind == "live" and row.decision != "forced":
        lost = f"if {row.source} is lost: {force} starts {row.name} at {row.target}"
        return [*([stop] if row.decision in _STOPPABLE else []), lost]
    if row.kind == "inactive":
        back = f"if {row.target} is lost: {force} gives {row.name} back to {row.source}"
        return [*([stop] if row.decision in _STOPPABLE else []), back]
    return []
