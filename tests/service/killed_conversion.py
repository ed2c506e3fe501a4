"""Converts copies of a state folder and is killed at each step in turn.

    python -m tests.service.killed_conversion FOLDER

A step comes before each statement of SQL that may change the file, and before each call of `CALLS`.  It also
comes before each file that `os.open` may make, and before the first write into a new file.  The last step
follows the end.  Calls of SQLite within a statement are no steps: tests/soak covers them by power cuts and by
the n-th fault.  Prints one line of JSON per kill: the step, and the state that the next start found.
"""

import json
import os
import re
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.service.folder import assembled, old_state

CALLS = (
    *("pwrite", "write", "fsync", "ftruncate", "fdopen"),
    *("replace", "rename", "unlink", "mkdir", "rmdir", "chmod", "fchmod"),
)
"""The calls of `os` that may change a file.

The object that `fdopen` returns writes without a call of `os`.
"""
READS = re.compile(r"SELECT|PRAGMA (?!user_version =|wal_checkpoint)")


class Steps:
    """Kills this process at the step `last`."""

    def __init__(self, last: int) -> None:
        self.count = 0
        self.name = ""
        self._last = last

    def wrapped(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def stepping(*args: Any, **options: Any) -> Any:
            self.step()
            return call(*args, **options)

        return stepping

    def opening(self, call: Callable[..., int]) -> Callable[..., int]:
        def stepping(path: Any, flags: int, *args: Any, **options: Any) -> int:
            if flags & os.O_CREAT:
                self.step()
            return call(path, flags, *args, **options)

        return stepping

    def traced(self, connect: Callable[..., sqlite3.Connection]) -> Callable[..., sqlite3.Connection]:
        def tracing(*args: Any, **options: Any) -> sqlite3.Connection:
            connection = connect(*args, **options)
            connection.set_trace_callback(self._trace)
            return connection

        return tracing

    def _trace(self, statement: str) -> None:
        if not READS.match(statement):
            self.step()

    def step(self) -> None:
        self.count += 1
        if self.count == self._last:
            os.kill(os.getpid(), signal.SIGKILL)


def child(work: Callable[[], None]) -> int:
    """Run a function in a new process; return its wait status."""
    process = os.fork()
    if not process:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(process, 0)[1]


def convert(state: Path, last: int) -> None:
    steps = Steps(last)
    for name in CALLS:
        setattr(os, name, steps.wrapped(getattr(os, name)))
    os.open = steps.opening(os.open)
    connect = steps.traced(sqlite3.connect)
    sqlite3.connect = connect  # type: ignore[assignment]
    with assembled(state):
        pass
    steps.step()


def found(state: Path) -> dict[str, Any]:
    """Return the state that a start finds."""
    with assembled(state) as machine:
        partitions = machine.system.partitions.values()
        return {
            "refused": [each.name for each in partitions if each.refused],
            "uuids": {each.name: str(each.profile.uuid) for each in partitions},
            "keys": {each.name: each.access_key.hex() for each in partitions},
            "sizes": {each.name: each.kbytes for each in partitions},
            "objects": {
                each.name: {
                    stored.label.decode(): stored.data.decode("latin-1")
                    for stored in each.keystore.contents.snapshot().objects
                }
                for each in partitions
                if each.keystore
            },
        }


def show(state: Path, last: int) -> None:
    first, second = found(state), found(state)
    print(json.dumps({"step": last, "again": first == second, **first}), flush=True)


def main(folder: Path) -> None:
    for last in range(1, 1000):
        state = old_state(folder / str(last), "89ecc72", "killed")
        status = child(lambda state=state, last=last: convert(state, last))  # type: ignore[misc]
        if child(lambda state=state, last=last: show(state, last)) or not status:  # type: ignore[misc]
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]))
