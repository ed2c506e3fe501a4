"""The check of an initramfs before the boot: its first bytes show whether Linux unpacks it.

A kernel skips an archive of an unknown form with one line of its log, and panics later without a root.
"""

# The forms that Linux unpacks
#
# Linux compares the first bytes of an initramfs (lib/decompress.c, init/initramfs.c).  It takes a cpio
# archive in the form newc or crc, plain or in one of seven compressed forms.  Zeros in front are
# skipped.  Two forms look right and are refused by the kernel: cpio's old default form, and lz4's default
# form.  The message for these two has the option of the tool.
#
# A disk image may be an initrd as well, with root=/dev/ram0.  Few kernels can mount one, so it is refused
# with the way past the check: QEMU's own option behind `--`.

from __future__ import annotations

import shlex
from pathlib import Path

from hcall_abi.errors import OperatorError
from hcall_abi.rules.service import COMMAND_FILE

_READ = 4096
_CPIO = (b"070701", b"070702")
_COMPRESSED = (
    *(b"\x1f\x8b", b"\x1f\x9e", b"BZh", b"\x5d\x00\x00", b"\xfd7zXZ\x00"),  # gzip (2), bzip2, lzma, xz
    *(b"\x89LZO\x00", b"\x02\x21\x4c\x18", b"\x28\xb5\x2f\xfd"),  # lzo, lz4 -l, zstd
)
_OTHERS = {
    b"\x7fELF": "an ELF file, such as a kernel",
    b"070707": "a cpio archive of the old form, which Linux refuses: make it with `cpio -o -H newc`",
    b"\xc7\x71": "a cpio archive of the binary form, which Linux refuses: make it with `cpio -o -H newc`",
    b"\x71\xc7": "a cpio archive of the binary form, which Linux refuses: make it with `cpio -o -H newc`",
    b"\x04\x22\x4d\x18": "compressed in a form of lz4 that Linux refuses: compress it with `lz4 -l`",
    b"PK\x03\x04": "a ZIP archive",
    b"hsqs": "a squashfs image",
    b"#!": "a script",
}
"""The kinds of files that are known by their first bytes, and are no initramfs."""
_TAR = (257, b"ustar")


def check_initrd(path: Path) -> None:
    """Raise OperatorError for a file that Linux does not unpack as an initramfs."""
    with path.open("rb") as file:
        first = file.read(_READ)
    if not first:
        raise OperatorError(COMMAND_FILE, f"{path}: the initramfs is empty: it has 0 bytes")
    begin = first.lstrip(b"\0")
    if first.startswith(_COMPRESSED) or begin.startswith(_CPIO + _COMPRESSED):
        return
    raise OperatorError(COMMAND_FILE, f"{path}: {_kind(first)}; {_needed(path)}")


def _kind(first: bytes) -> str:
    found = next((words for magic, words in _OTHERS.items() if first.startswith(magic)), "")
    at, magic = _TAR
    if not found and first.startswith(magic, at):
        found = "a tar archive"
    if found:
        return f"this is {found}"
    if not first.strip(b"\0"):
        return f"this is no cpio archive: it begins with {len(first)} zeros"
    # The bytes are not shown: a wrong path may name a file with a secret.
    return "this is no cpio archive, and not compressed, by its first bytes"


def _needed(path: Path) -> str:
    past = f"an image of a disk goes to the kernel by `-- -initrd {shlex.quote(str(path))}`"
    return (
        "an initramfs is a cpio archive (`cpio -o -H newc`), plain or compressed with gzip, xz, zstd, bzip2, "
        f"lzma, lzo or lz4 -l; {past}"
    )
