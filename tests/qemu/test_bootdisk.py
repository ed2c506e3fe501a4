"""R-77: the boot loader of a disk, found before QEMU starts, and each disk that SLOF could not boot."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from swpks.qemu.bootdisk import CODE_SIZE, PREP_GUID, DiskLoader, loader_of
from swpks.qemu.errors import LoaderUnsuitable
from swpks.testing.grub_disk import disk_image

ENTRY, OFFSET, VIRTUAL = 0x200010, 0x100, 0x200000
CODE = bytes(range(1, 200))


def loader(
    ident: bytes = b"\x7fELF\x01\x02\x01",
    machine: int = 20,
    kind: int = 2,
    entry: int = ENTRY,
    table: int = 52,
) -> bytes:
    """Return an ELF file with one segment of code."""
    head = struct.pack(
        ">16sHHIIIIIHHHHHH", ident.ljust(16, b"\0"), kind, machine, 1, entry, table, 0, 0, 52, 32, 1, 0, 0, 0
    )
    segment = struct.pack(">8I", 1, OFFSET, VIRTUAL, VIRTUAL, len(CODE), 0x1000, 7, 16)
    return (head + segment).ljust(OFFSET, b"\0") + CODE


def gpt(core: bytes) -> bytes:
    """Return a disk with a GPT: its second partition is the PReP one, at sector 40."""
    table, first = 2, 40
    other = bytes(range(16)) + bytes(16) + struct.pack("<QQ", 34, 39)
    prep = PREP_GUID.bytes_le + bytes(16) + struct.pack("<QQ", first, first + 99)
    header = struct.pack("<8s64xQII", b"EFI PART", table, 4, 128)
    master = bytearray(512)
    struct.pack_into("<B3xB3xII", master, 446, 0, 0xEE, 1, 0xFFFFFFFF)
    master[510:] = b"\x55\xaa"
    entries = other.ljust(128, b"\0") + prep.ljust(128, b"\0")
    return (bytes(master) + header.ljust(512, b"\0") + entries).ljust(first * 512, b"\0") + core


@pytest.mark.parametrize("disk", [lambda core: disk_image(core, {}), gpt], ids=["mbr", "gpt"])
def test_the_loader_of_a_disk(tmp_path: Path, disk: Callable[[bytes], bytes]) -> None:
    """The entry, and the code there, come from the ELF file in the PReP partition."""
    path = tmp_path / "boot.img"
    path.write_bytes(disk(loader()))
    assert loader_of(path) == DiskLoader(ENTRY, CODE[16 : 16 + CODE_SIZE])


def _damaged(at: int, data: bytes) -> bytes:
    disk = bytearray(gpt(loader()))
    disk[at : at + len(data)] = data
    return bytes(disk)


@pytest.mark.parametrize(
    "disk,reason",
    [
        (b"", "no partition table"),
        (bytes(4096), "no partition table"),
        (b"QFI\xfb" + bytes(1000), "qcow2.*qemu-img convert"),
        (bytes(510) + b"\x55\xaa", "no PReP partition"),
        (disk_image(b"#!/bin/sh\n", {}), "does not begin with an ELF file"),
        (disk_image(loader(ident=b"\x7fELF\x02\x02\x01"), {}), "another kind"),
        (disk_image(loader(ident=b"\x7fELF\x01\x01\x01"), {}), "another kind"),
        (disk_image(loader(machine=3), {}), "another kind"),
        (disk_image(loader(kind=1), {}), "another kind"),
        (disk_image(loader(entry=0x100), {}), "no segment"),
        (disk_image(loader(entry=VIRTUAL + len(CODE)), {}), "no segment"),
        (disk_image(loader(table=1 << 30), {}), "program headers"),
        (_damaged(512, b"no GPT !"), "the next sector has none"),
        (_damaged(512 + 84, struct.pack("<I", 0)), "an entry of the GPT has 0 bytes"),
        (_damaged(1024 + 128, bytes(16)), "no PReP partition"),
        (gpt(b""), "does not begin with an ELF file"),
    ],
)
def test_a_disk_that_does_not_boot(tmp_path: Path, disk: bytes, reason: str) -> None:
    """A disk that SLOF could not boot is refused with the reason and the path."""
    path = tmp_path / "boot.img"
    path.write_bytes(disk)
    with pytest.raises(LoaderUnsuitable, match=reason) as caught:
        loader_of(path)
    assert str(path) in caught.value.message


def test_a_disk_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file and a folder are refused with the system's reason."""
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(LoaderUnsuitable, match=str(path)):
            loader_of(path)
