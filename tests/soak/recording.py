"""The recording that `recorder.c` makes of a process's changes to its files, and the tools to record.

    library = build(folder)
    with recorded(library, state.parent, log_file, Accident(kill=120)):
        server.start()

A test appends notes to the same file, so they stand between the operations of the server.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

SOURCE = Path(__file__).with_name("recorder.c")
FLAGS = ("-std=gnu11", "-O1", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror")
_HEAD = struct.Struct("<IBBHQQII")
_MAGIC = 0x53504B44
_NOTE = ord("N")


class Event(NamedTuple):
    """One record: its kind, the path below the root, and the fields of its kind.

    Kinds: C file created, D folder created, W write, T truncate (to `offset`), S and E start and end of a
    sync (`flag`: it succeeded), R rename (old and new path, a newline between), U unlink, N note.
    """

    kind: str
    path: str
    inode: int
    offset: int
    data: bytes
    flag: int

    @property
    def note(self) -> dict[str, Any]:
        """Return the content of a note record."""
        fields: dict[str, Any] = json.loads(self.data)
        return fields


def build(folder: Path) -> Path:
    """Compile the recorder. If that fails, raise AssertionError."""
    library = folder / "recorder.so"
    assert shutil.which("gcc"), "the recorder needs gcc: apt-get install gcc libc6-dev"
    command = ["gcc", *FLAGS, str(SOURCE), "-ldl", "-o", str(library)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return library


class Accident(NamedTuple):
    """An accident of a recorded process. Each number counts operations from 1, and 0 means never.

    The process kills itself in place of a change (`kill`) or of a sync (`kill_sync`). With the other
    numbers, a sync of a file or of a folder fails.
    """

    kill: int = 0
    kill_sync: int = 0
    fail_sync: int = 0
    fail_folder_sync: int = 0


NOTHING = Accident()


@contextmanager
def recorded(library: Path, root: Path, log: Path, accident: Accident = NOTHING) -> Iterator[None]:
    """In a block, record the processes that start in it."""
    numbers = {f"SWPKS_DISK_{name.upper()}": str(number) for name, number in accident._asdict().items()}
    preload = {"LD_PRELOAD": str(library), "SWPKS_DISK_ROOT": str(root), "SWPKS_DISK_LOG": str(log)}
    with mock.patch.dict(os.environ, preload | numbers):
        yield


class Notes:
    """Appends notes to a recording."""

    def __init__(self, log: Path) -> None:
        self._file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def add(self, **fields: Any) -> None:
        """Append one note."""
        data = json.dumps(fields).encode()
        os.write(self._file, _HEAD.pack(_MAGIC, _NOTE, 0, 0, 0, 0, len(data), 0) + data)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def events(log: Path) -> Iterator[Event]:
    """Yield the records of a file, in order."""
    data, at = log.read_bytes(), 0
    while at < len(data):
        magic, kind, flag, path_length, inode, offset, length, _ = _HEAD.unpack_from(data, at)
        assert magic == _MAGIC, f"the recording is damaged at byte {at}"
        begin = at + _HEAD.size
        at = begin + path_length + length
        path = data[begin : begin + path_length].decode()
        yield Event(chr(kind), path, inode, offset, data[begin + path_length : at], flag)
