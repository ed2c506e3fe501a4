"""Common parts of the tests of NVRAM in files: the files after a power cut, and how they are checked.

NVRAM is opened here as a server opens it: with the commit record checked against the high-water mark.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from uuid import UUID

import pytest

from hcall_abi.errors import StorageError
from hcall_server.components.memory import MemoryCard
from hcall_server.components.seam import Card, Components
from hcall_server.data_channel.memory import MemoryTransport
from hcall_server.nvram.names import COMMIT, SYSTEM, partition_name
from hcall_server.nvram.sqlite import SqliteNvram
from hcall_server.platform.identity import SystemIdentity
from hcall_server.sealing import SYSTEM_OWNER, SealedKind, Sealer, SealingError, SystemRecord
from hcall_server.service.stored import Opening, Stored
from hcall_server.writeback.commits import Commits

FILES = ("nvram.db", "nvram.db-wal", "nvram.db-mark")
IDENTITY = SystemIdentity(bytes(16), bytes(32))
SEALER = Sealer(IDENTITY, os.urandom)
UUIDS = [UUID(int=n, version=4) for n in (1, 2, 3)]
PLACES = {
    SYSTEM: (SealedKind.SYSTEM_RECORD, SYSTEM_OWNER),
    **{partition_name(uuid): (SealedKind.PARTITION, uuid) for uuid in UUIDS},
}
Records = dict[str, bytes | None]


class Live:
    """An NVRAM file of a system that makes commits. The first commit has the system record."""

    def __init__(self, path: Path) -> None:
        self.nvram = SqliteNvram(path)
        first = MemoryCard(Card(IDENTITY._replace(sealed_level=1)))
        self._commits: Commits = opening(first, self.nvram).open(SystemRecord("FW1110", 1024)).commits

    def commit(self, generation: int, size: int = 1500) -> Records:
        """Seal every record with this generation, and commit them; return the records."""
        changes: Records = {
            name: SEALER.seal(*place, generation, os.urandom(size)) for name, place in PLACES.items()
        }
        commit = self._commits.prepared(changes)
        commit.run()
        self._commits.done(commit)
        return changes

    def close(self) -> None:
        self.nvram.close()


def opening(card: MemoryCard, nvram: SqliteNvram, *, accept_older: bool = False) -> Opening:
    return Opening(Components(card, ()), nvram, os.urandom, MemoryTransport(), accept_older=accept_older)


def power_cut(folder: Path, to: Path) -> Path:
    """Copy the files of an open NVRAM, as they are if its process is killed."""
    to.mkdir(exist_ok=True)
    for name in FILES:
        (to / name).unlink(missing_ok=True)
        if (folder / name).exists():
            shutil.copyfile(folder / name, to / name)
    return to / "nvram.db"


def stored(path: Path, *, accept_older: bool = False) -> Stored:
    """Return what a server finds in the file of a system that has run before."""
    nvram = SqliteNvram(path)
    try:
        card = MemoryCard(Card(IDENTITY))
        found = opening(card, nvram, accept_older=accept_older).open(SystemRecord("", 0))
        if found.missing:
            found.commits.prepared({}).run()
        return found
    finally:
        nvram.close()


def loaded(path: Path, *, accept_older: bool = False) -> Records:
    """Return the records that a server finds, without the commit record."""
    found = stored(path, accept_older=accept_older)
    return {name: blob for name, blob in found.records.items() if name != COMMIT}


def never_wrong(path: Path, expected: Records) -> bool:
    """Return whether damage was detected. Fail if a record is lost or changed, and this is not detected."""
    try:
        found = stored(path)
    except StorageError:
        return True
    records = {name: blob for name, blob in found.records.items() if name != COMMIT}
    assert records.keys() == expected.keys()
    changed = [name for name, blob in records.items() if blob != expected[name]]
    for name in changed:
        with pytest.raises(SealingError):
            SEALER.open(*PLACES[name], records[name])
    return bool(changed)


def flip(path: Path, byte: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(byte)
        value = file.read(1)[0]
        file.seek(byte)
        file.write(bytes([value ^ 1 << bit]))
