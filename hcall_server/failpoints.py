"""Points where a test has the process killed: it is SIGKILL, so nothing is cleaned up.

    SWPKS_FAIL_AT=released swpks serve ...

Without the variable a point costs one comparison.  `spec/migration.md#fail-points` shows the names.
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
"""Points of the system that a partition leaves: `released` is row 6, `fenced` row 12 or 18."""
TargetPoint = Literal["expected", "prepared", "activated", "taken", "dropped"]
"""Points of the system that a partition comes to."""
SystemPoint = SourcePoint | TargetPoint
"""Points of a system."""
ConsolePoint = Literal["opened", "told", "aborted", "forced", "done"]
"""Points of the console."""
Point = SystemPoint | ConsolePoint
"""Every point: a name that is not one of them does not pass the type checker."""

PROCESSES: Mapping[str, tuple[str, ...]] = {
    "source": get_args(SourcePoint),
    "target": get_args(TargetPoint),
    "console": get_args(ConsolePoint),
}
"""The points of each process, in the order in which they are met."""
POINTS: tuple[str, ...] = tuple(name for names in PROCESSES.values() for name in names)
"""The names of all points."""


def reached(name: Point) -> None:
    """Kill the own process if this is the wanted point."""
    if name == _WANTED:
        os.kill(os.getpid(), signal.SIGKILL)


def unknown() -> str:
    """Return the trouble with the wanted point, "" if there is such a point or none is wanted."""
    if _WANTED in ("", *POINTS):
        return ""
    return f"{VARIABLE} is {_WANTED!r}, which is none of {', '.join(POINTS)}"
