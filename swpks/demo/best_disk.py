"""Chooses the most realistic disk that works on this host."""

# The three kinds, the most realistic one first
#
# 1. A LUKS2 container that cryptsetup and device-mapper map, as on a real machine.
# 2. A LUKS2 container that cryptsetup makes and unlocks; the demo encrypts its sectors.  It is for hosts
#    without device-mapper, such as many containers.  A machine with device-mapper can map the same file.
# 3. An AES-256-GCM file, if there is no cryptsetup.

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from swpks.demo import luks
from swpks.demo.aes_file import AesFile
from swpks.demo.disk import Disk, DiskError


class MadeDisk(NamedTuple):
    """A disk, and the reason why the demo uses a disk of this kind."""

    disk: Disk
    why: str


def make_disk(path: Path, key: bytes) -> MadeDisk:
    """Make a disk in a new file, locked by `key`; return the most realistic kind that works here."""
    program = luks.find_cryptsetup()
    if program is None:
        return MadeDisk(AesFile.make(path, key), "cryptsetup is not installed here")
    try:
        container = luks.Container.make(program, path, key)
    except DiskError as error:
        return MadeDisk(AesFile.make(path, key), f"cryptsetup does not work here: {error}")
    obstacle = luks.mapping_obstacle(container, key)
    if obstacle is None:
        return MadeDisk(luks.MappedDisk(container), "cryptsetup and device-mapper both work here")
    why = f"cryptsetup works here, but device-mapper does not: {obstacle}"
    return MadeDisk(luks.UnmappedDisk(container), why)
