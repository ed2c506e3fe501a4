"""A small program for one kind of power cut: it opens NVRAM, commits, and notes its confirmed commits.

python -m tests.soak.nvram_program NVRAM RECORDING FIRST COMMITS [END]

END is close, die, spoil, spoil first, mark, or mark often.

Its records are numbers, from FIRST on. It ends without closing anything, like a killed server, unless "close"
is given. With "die" it is killed in place of the sync of its last commit; with "spoil" that sync fails. With
"spoil first" that commit is the first one in the log, whose header has a sync of its own. With "mark" the
program uses only NVRAM's high-water mark; with "mark often" that mark changes its slot at each commit.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path

from hcall_server.files import sync_folder
from hcall_server.nvram import mark as mark_module
from hcall_server.nvram.mark import FileMark
from hcall_server.nvram.seam import NvramError
from hcall_server.nvram.sqlite import SqliteNvram
from tests.soak.recording import Notes

TWIN, TWIN_SIZE = "twin", 6000
"""A second record with the number: it needs pages of its own, so half of a commit shows."""

SLOT_SIZE = 48
"""Bytes of a slot here, as many as a real one has."""


def use_mark(path: Path, log: Path, first: int, commits: int) -> None:
    """Make a mark durable, as a start does, and note further commits in it, as a server does."""
    notes, mark = Notes(log), FileMark(path)
    sync_folder(path.parent)
    numbers = [-1 if (found := number_in(each)) is None else found for each in mark.slots()]
    newest_first = sorted((0, 1), key=numbers.__getitem__, reverse=True)
    mark.make_durable(slot(first), [each for each in newest_first if numbers[each] >= 0])
    notes.add(confirmed=first)
    for number in range(first + 1, first + commits):
        with contextlib.suppress(NvramError):
            mark.note(slot(number))
        notes.add(confirmed=first)
    os._exit(0)


def slot(number: int) -> bytes:
    """Return the content of a slot."""
    return b"%0*d" % (SLOT_SIZE, number)


def number_in(content: bytes) -> int | None:
    """Return the number in a slot, or None for an empty slot. Zeros up to the next slot are ignored."""
    digits = content[:SLOT_SIZE]
    return int(digits) if len(digits) == SLOT_SIZE and digits.isdigit() else None


def prepare(end: str) -> None:
    """Let the next sync of a file kill the process ("die") or fail ("spoil").

    With "spoil first" the second one fails: the first one is of the header of the log.
    """
    if end == "die":
        ctypes.CDLL(None).disk_kill_sync(1)
    elif end == "spoil":
        ctypes.CDLL(None).disk_fail_sync(1)
    elif end == "spoil first":
        ctypes.CDLL(None).disk_fail_sync(2)


def main(path: Path, log: Path, first: int, commits: int, end: str) -> None:
    """Confirm the number that is found, and each commit that returns. An error of NVRAM ends the program."""
    if end == "mark often":
        mark_module.SWITCH = 1
    if end in ("mark", "mark often"):
        use_mark(path, log, first, commits)
    notes = Notes(log)
    try:
        nvram = SqliteNvram(path)
        notes.add(confirmed=int(nvram.load().get("system", b"0")))
        for number in range(first, first + commits):
            if number == first + commits - 1:
                prepare(end)
            nvram.commit({"system": b"%d" % number, TWIN: (b"%d" % number).rjust(TWIN_SIZE, b".")})
            notes.add(confirmed=number)
        if end == "close":
            nvram.close()
    except NvramError:
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
