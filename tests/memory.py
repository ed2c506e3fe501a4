"""A folder in memory for the temporary files of tests.

A start syncs the files of its state some ten times, and a disk takes milliseconds for each sync. No test sees
a difference: kill -9 takes nothing from the page cache. Power cuts are tested on recorded disks (tests/soak).
"""

import os
import shutil
from pathlib import Path

IN_MEMORY = Path("/dev/shm")
ROOM = 512 << 20
"""Bytes that must be free in the folder; a container often has only 64 MiB."""


def in_memory() -> Path | None:
    """Return the folder in memory, or None if the usual temporary folder must be used."""
    if os.access(IN_MEMORY, os.W_OK) and shutil.disk_usage(IN_MEMORY).free >= ROOM:
        return IN_MEMORY
    return None
