"""A small program for one kind of power cut: it opens NVRAM, commits, and notes what it has confirmed.

    python -m tests.soak.nvram_program NVRAM RECORDING FIRST COMMITS [close | die]

Its records are numbers, from FIRST on. It ends without closing anything, as a killed server does, unless it
has to close. With "die" it is killed in place of the sync of its last commit.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from hcall_server.nvram.seam import NvramError
from hcall_server.nvram.sqlite import SqliteNvram
from tests.soak.recording import Notes


def main(path: Path, log: Path, first: int, commits: int, end: str) -> None:
    """Confirm what is found and each commit that returns; an error of NVRAM ends the program."""
    notes = Notes(log)
    try:
        nvram = SqliteNvram(path)
        notes.add(confirmed=int(nvram.load().get("system", b"0")))
        for number in range(first, first + commits):
            if end == "die" and number == first + commits - 1:
                ctypes.CDLL(None).disk_kill_sync(1)
            nvram.commit({"system": b"%d" % number})
            notes.add(confirmed=number)
        if end == "close":
            nvram.close()
    except NvramError:
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
