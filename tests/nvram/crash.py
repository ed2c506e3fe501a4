"""What the tests of the SQLite back end share: a state as a power cut leaves it, and its judgement."""

import os
import shutil
from pathlib import Path

import pytest

from hcall_abi.errors import StorageError
from hcall_server.nvram import SYSTEM, image_name, profile_name
from hcall_server.nvram.sqlite import SqliteNvram
from hcall_server.platform.identity import SystemIdentity
from hcall_server.sealing import SealedKind, Sealer, SealingError

FILES = ("nvram.db", "nvram.db-wal", "nvram.db-mark")
SEALER = Sealer(SystemIdentity(bytes(16), bytes(32)), os.urandom)
PLACES = {
    SYSTEM: (SealedKind.SYSTEM_RECORD, 0),
    image_name(1): (SealedKind.PARTITION_IMAGE, 1),
    profile_name(1): (SealedKind.PARTITION_PROFILE, 1),
    image_name(2): (SealedKind.PARTITION_IMAGE, 2),
}


def records(generation: int, size: int = 1500) -> dict[str, bytes | None]:
    """A commit: every record sealed anew with this generation."""
    return {name: SEALER.seal(*place, generation, os.urandom(size)) for name, place in PLACES.items()}


def power_cut(folder: Path, to: Path) -> Path:
    """Copy the files of an open NVRAM, as they would be found after its process was killed."""
    to.mkdir(exist_ok=True)
    for name in FILES:
        (to / name).unlink(missing_ok=True)
        if (folder / name).exists():
            shutil.copyfile(folder / name, to / name)
    return to / "nvram.db"


def loaded(path: Path) -> dict[str, bytes]:
    nvram = SqliteNvram(path)
    try:
        return nvram.load()
    finally:
        nvram.close()


def never_wrong(path: Path, expected: dict[str, bytes | None]) -> bool:
    """Whether damage was found; fails where a record is lost or other than it was and nobody notices."""
    found, refusal = {}, ""
    try:
        found = loaded(path)
    except StorageError as error:
        refusal = str(error)
    if refusal:
        assert str(path) in refusal
        return True
    assert found.keys() == expected.keys()
    changed = [name for name, blob in found.items() if blob != expected[name]]
    for name in changed:
        with pytest.raises(SealingError):
            SEALER.open(*PLACES[name], found[name])
    return bool(changed)


def flip(path: Path, byte: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(byte)
        value = file.read(1)[0]
        file.seek(byte)
        file.write(bytes([value ^ 1 << bit]))
