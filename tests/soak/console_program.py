"""A small program for power cuts of a console: it opens the database, makes changes, and notes their number.

python -m tests.soak.console_program DATABASE RECORDING FIRST CHANGES [END]

Each change adds a row to two tables, so half of a change shows. The program ends without closing anything,
like a killed console, unless END is "close". With "die 4" it is killed in place of the fourth sync of its
last change; with "spoil 4" this sync fails.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from hcall_abi.errors import SwpksError
from hcall_server.console.database import Database
from tests.soak.recording import Notes


def rows(database: Database) -> int:
    """Return the number of changes that a database has. AssertionError if it has half of one."""
    seen, console = (database.rows(f"SELECT count(*) FROM {table}")[0][0] for table in ("seen", "console"))
    assert seen == console, f"half of a change is there: {seen} and {console}"
    return int(seen)


def prepare(end: str) -> None:
    """Let a later sync of a file kill the process, or fail."""
    kind, _, number = end.partition(" ")
    if kind == "die":
        ctypes.CDLL(None).disk_kill_sync(int(number))
    elif kind == "spoil":
        ctypes.CDLL(None).disk_fail_sync(int(number))


def main(path: Path, log: Path, first: int, changes: int, end: str) -> None:
    """Confirm what is found, and each change that returns. An error of the database ends the program."""
    notes = Notes(log)
    try:
        database = Database(path)
        notes.add(confirmed=rows(database))
        for number in range(first, first + changes):
            if number == first + changes - 1:
                prepare(end)
            with database.changes() as connection:
                connection.execute("INSERT INTO seen VALUES (?, 0, 0, 0)", (str(number),))
                connection.execute("INSERT INTO console VALUES (?, ?)", (str(number), "a console"))
            notes.add(confirmed=rows(database))
        if end == "close":
            database.close()
    except SwpksError:
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
