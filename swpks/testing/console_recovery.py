"""Finds the recovery that an emulated console has begun by itself, in the log of the console."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from swpks.testing.console_caller import LoggedEvent

STARTED = "console.started"
KIND = "recover"
"""The kind of the jobs that recover a system."""


def begun_recovery(events: Sequence[LoggedEvent], system: str, ordered: Container[int]) -> LoggedEvent | None:
    """Return the last event by which the console began a recovery of a system, or found no copies for it.

    Only events since the last connection to the system count.  Other jobs do not count, and neither do the
    recoveries in `ordered`, by their numbers.  None if there is no such event.
    """
    for each in reversed(events):
        ours = each.fields.get("system") == system
        if each.event == STARTED or (ours and each.event == "system.away"):
            return None
        if ours and each.event == "recovery.no_copies":
            return each
        recovery = ours and each.event == "job.started" and each.fields["kind"] == KIND
        if recovery and each.fields["job"] not in ordered:
            return each
    return None


def begun_jobs(events: Sequence[LoggedEvent]) -> set[int]:
    """Return the numbers of the jobs that begin in these events."""
    return {cast("int", each.fields["job"]) for each in events if each.event == "job.started"}
