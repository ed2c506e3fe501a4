"""Makes one storage operation of another process fail (`tests/soak/recorder.c`)."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from swpks.testing.own_process import OwnProcess

_FORM = struct.Struct("@3l")


class DiskSwitch:
    """The switch for one process.

    At its next start the process loads the recorder, which shares memory with it.

    System calls on the process's own folder are counted, also those of SQLite; sockets are not.
    """

    def __init__(self, library: Path, process: OwnProcess) -> None:
        path = process.folder.with_name(f"{process.folder.name}.switch")
        path.write_bytes(bytes(_FORM.size))
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), _FORM.size)
        self.process = process
        process.environment |= {
            "LD_PRELOAD": str(library),
            "SWPKS_DISK_ROOT": str(process.folder.resolve()),
            "SWPKS_DISK_SWITCH": str(path.resolve()),
        }

    def arm(self, nth: int, error: int) -> None:
        """Let the `nth` operation from now on fail once with this errno."""
        self._shared[:] = _FORM.pack(nth, 0, error)

    def disarm(self) -> int:
        """End the fault; return the number of operations since `arm`."""
        _, calls, _ = _FORM.unpack(self._shared[:])
        self._shared[:] = bytes(_FORM.size)
        return int(calls)
