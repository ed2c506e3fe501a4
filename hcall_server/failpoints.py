"""Fail points: a test names one, and the process kills itself there by SIGKILL, without any clean-up.

    SWPKS_FAIL_AT=released swpks serve ...

Without the variable a point costs one comparison.  `spec/migration.md#fail-points` has the names.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import Literal, get_args

VARIABLE = "SWPKS_FAIL_AT"
"""The environment variable with the name of the point, read once."""
_WANTED = os.environ.get(VARIABLE, "")

SourcePoint = Literal[
    "begun", "frozen", "final-sent", "released", "fenced", "released-off", "gone", "resumed"
]
"""Points of the system that a partition leaves: `released` is row 6 of custody, `fenced` row 12 or 18."""
TargetPoint = Literal["expected", "prepared", "activated", "taken", "dropped"]
"""Points of the system that a partition comes to."""
SystemPoint = SourcePoint | TargetPoint
"""Points of a system."""
ConsolePoint = Literal["opened", "told", "aborted", "forced", "done"]
"""Points of the console."""
SnapshotPoint = Literal["saved", "loaded"]
"""Points of a system with snapshots, each before the answer (`spec/snapshots.md#kills`)."""
Point = SystemPoint | ConsolePoint | SnapshotPoint
"""Every point: a name that is not one of them does not pass the type checker."""

PROCESSES: Mapping[str, tuple[str, ...]] = {
    "source": get_args(SourcePoint),
    "target": get_args(TargetPoint),
    "console": get_args(ConsolePoint),
}
"""The points of a migration by process, in the order in which they are met."""
POINTS: tuple[str, ...] = (
    *(name for names in PROCESSES.values() for name in names),
    *get_args(SnapshotPoint),
)
"""The names of all points."""


def reached(name: Point) -> None:
    """Kill this process if SWPKS_FAIL_AT names this point."""
    if name == _WANTED:
        # An exception or an exit would run `finally` blocks.  A power cut does not.
        os.kill(os.getpid(), signal.SIGKILL)


def unknown() -> str:
    """Return an error text if SWPKS_FAIL_AT names no known point, else ""."""
    if _WANTED in ("", *POINTS):
        return ""
    return f"{VARIABLE} is {_WANTED!r}, which is none of {', '.join(POINTS)}"
