"""The processes of sessions: none outlives its session, and none outlives the door."""

# A client that goes away leaves its command behind: OpenSSH's sshd ends no command without a terminal, and a
# job in the background has a process group of its own.  So the door is a child subreaper (prctl(2)): if the
# parent of a process ends, the process becomes a child of the door.  The door knows the children that it has
# started itself.  Every other child is an orphan of an ended session, and is killed.  Its own children then
# become orphans too.

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

REAP_SECONDS = 1.0
"""Seconds between two calls of `reap`."""
_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Make this process the parent of every orphan below it."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_orphans(own: Collection[int]) -> None:
    """Kill all children but those in `own`, and the orphans that they leave.

    The caller starts no process meanwhile: it would count as an orphan before it is in `own`.
    """
    while orphans := [pid for pid in _children() if pid not in own]:
        for pid in orphans:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
            # A killed process ends at once, unless a device holds it.  So this waits no longer than the kill.
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)


def reap(own: Collection[int]) -> None:
    """Collect the children that have ended, but those in `own`.

    A session that starts many short processes in the background would leave a zombie of each, up to its end.
    """
    try:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return
    for pid in _children() if ended else ():
        if pid not in own:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _children() -> list[int]:
    """Return the children of this process."""
    own = str(os.getpid())
    return [
        int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and _parent(path) == own
    ]


def _parent(process: Path) -> str | None:
    try:
        # The name of the program stands in parentheses, and may itself have some.
        return (process / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[1]
    except OSError:
        return None
