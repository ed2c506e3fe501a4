"""The disk of a machine that boots by itself: its PReP partition, and the boot loader in it.

SLOF, the firmware of QEMU's pseries machine, starts the ELF file that a PReP partition begins with.
The partition table is MBR (type 0x41) or GPT (the type's GUID).  Source: SLOF 20220719, disk-label.fs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple
from uuid import UUID

from swpks.qemu.elf import at_once
from swpks.qemu.errors import LoaderUnsuitable

SECTOR = 512
MBR_TABLE, MBR_ENTRIES = 446, 4
MBR_SIGNATURE = b"\x55\xaa"
PREP_TYPE, PROTECTIVE_TYPE = 0x41, 0xEE
PREP_GUID = UUID("9e1a2d38-c612-4316-aa26-8b49521e5a8b")
GPT_MAGIC = b"EFI PART"
MOST_GPT_ENTRIES = 1024
"""Most entries of a GPT that are read; tables have 128."""
LOADER_LIMIT = 64 << 20
"""Most bytes of a boot loader; SLOF itself reads at most 16 MiB."""
CODE_SIZE = 64
"""Bytes of code at the entry by which the loader is recognised in memory."""

_MBR_ENTRY = struct.Struct("<B3xB3xII")
_GPT_HEADER = struct.Struct("<8s64xQII")
_ELF_HEADER = struct.Struct(">4sBB10xHH4xIII6xHH6x")
_SEGMENT = struct.Struct(">8I")
_ELF32, _BIG_ENDIAN, _EXECUTABLE, _POWERPC, _LOAD = 1, 2, 2, 20, 1
_OTHER_FORMATS = {b"QFI\xfb": "qcow2", b"conectix": "vpc", b"KDMV": "vmdk", b"vhdxfile": "vhdx"}
"""Formats of QEMU that are no raw disk, by their first bytes."""


class DiskLoader(NamedTuple):
    """A boot loader: the real address of its first instruction, and the code there."""

    entry: int
    code: bytes


def loader_of(disk: Path) -> DiskLoader:
    """Return the boot loader of a disk; LoaderUnsuitable with the reason if SLOF could not start it."""
    try:
        with open(disk, "rb", opener=at_once) as stream:
            return _loader(stream)
    except OSError as error:
        raise LoaderUnsuitable(f"{disk}: {error.strerror or error}") from None
    except LoaderUnsuitable as error:
        raise LoaderUnsuitable(f"{disk}: {error.message}") from None


def _loader(stream: BinaryIO) -> DiskLoader:
    start, size = _prep_partition(stream)
    stream.seek(start)
    return _entry(stream.read(min(size, LOADER_LIMIT)))


def _prep_partition(stream: BinaryIO) -> tuple[int, int]:
    """Return start and size, in bytes, of the first PReP partition."""
    first = stream.read(SECTOR)
    for magic, name in _OTHER_FORMATS.items():
        if first.startswith(magic):
            raise LoaderUnsuitable(f"a {name} image: convert it first, `qemu-img convert -O raw FROM TO`")
    if len(first) < SECTOR or first[-2:] != MBR_SIGNATURE:
        raise LoaderUnsuitable("no partition table: the disk needs an MBR or a GPT with a PReP partition")
    entries = [_MBR_ENTRY.unpack_from(first, MBR_TABLE + 16 * n) for n in range(MBR_ENTRIES)]
    found = [(start, count) for _, kind, start, count in entries if kind == PREP_TYPE and count]
    if any(kind == PROTECTIVE_TYPE for _, kind, _, _ in entries):
        found = list(_gpt_partitions(stream))
    if not found:
        raise LoaderUnsuitable(
            "no PReP partition (MBR type 0x41, or GPT type prep): SLOF looks for the boot loader only there"
        )
    start, count = found[0]
    return start * SECTOR, count * SECTOR


def _gpt_partitions(stream: BinaryIO) -> Iterator[tuple[int, int]]:
    """Yield first sector and number of sectors of each PReP partition of a GPT."""
    header = stream.read(SECTOR)
    if len(header) < SECTOR or not header.startswith(GPT_MAGIC):
        raise LoaderUnsuitable("the MBR announces a GPT, and the next sector has none")
    _, table, count, size = _GPT_HEADER.unpack_from(header)
    if not 48 <= size <= SECTOR:
        raise LoaderUnsuitable(f"damaged: an entry of the GPT has {size} bytes")
    stream.seek(table * SECTOR)
    entries = stream.read(min(count, MOST_GPT_ENTRIES) * size)
    for at in range(0, len(entries) - size + 1, size):
        if entries[at : at + 16] == PREP_GUID.bytes_le:
            first, last = struct.unpack_from("<QQ", entries, at + 32)
            yield first, last - first + 1


def _entry(file: bytes) -> DiskLoader:
    """Return the entry of an ELF file."""
    if len(file) < _ELF_HEADER.size or file[:4] != b"\x7fELF":
        raise LoaderUnsuitable("the PReP partition does not begin with an ELF file")
    _, bits, order, kind, machine, entry, table, _, size, count = _ELF_HEADER.unpack_from(file)
    if (bits, order, kind, machine) != (_ELF32, _BIG_ENDIAN, _EXECUTABLE, _POWERPC):
        raise LoaderUnsuitable(
            "the boot loader is an ELF file of another kind: SLOF hands over to a 32-bit, big-endian PowerPC "
            "program, as `grub-mkimage -O powerpc-ieee1275` makes it"
        )
    for n in range(count):
        at = table + n * size
        if at + _SEGMENT.size > len(file):
            raise LoaderUnsuitable("damaged: the boot loader's program headers do not lie within the file")
        segment, offset, virtual, _, in_file, *_ = _SEGMENT.unpack_from(file, at)
        if segment == _LOAD and virtual <= entry < virtual + in_file:
            start = offset + entry - virtual
            code = file[start : min(start + CODE_SIZE, offset + in_file)]
            if code:
                return DiskLoader(entry, code)
    raise LoaderUnsuitable("damaged: no segment of the boot loader has its entry")
