"""A disk that boots by GRUB, for `swpks qemu --disk`: core image, signed kernel, partition table.

    core = core_image(modules, configuration("console=hvc0"))
    signed = with_signature(Path("vmlinux").read_bytes(), key, certificate)
    Path("boot.img").write_bytes(disk_image(core, {"vmlinux": signed, "initrd": initrd}))

`modules` is the folder powerpc-ieee1275 of the package grub-ieee1275-bin, 2.14 or later.

The disk is as on a Power machine: an MBR with a PReP partition, which has GRUB's core image, and a second
partition.  That one is a plain tar archive, which GRUB reads as a file system.  So no mkfs is needed.
`tools/grub-disk` of the repository fetches the package and calls these functions.
"""

# Why a core image of our own making
#
# GRUB's own tool for this is grub-mkimage.  The package for ppc64el has it only as a program for that
# processor.  The host's own release often has a version before 2.14, the first one with the keystore.  So
# this module makes the core image.  The image is simple: `kernel.img`, an ELF file, and one more segment with
# the modules.  This segment has the addresses and the sizes that grub-mkimage gives it.  Source of the
# format: GRUB 2.14, include/grub/kernel.h and util/mkimage.c.

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import PKCS7Options, PKCS7SignatureBuilder

MODULES = (
    *("normal", "linux", "tar", "memdisk", "echo", "test", "search", "boot", "part_msdos", "halt"),
    *("appendedsig", "gcry_sha256", "gcry_sha512", "gcry_rsa"),
)
"""Modules that boot a signed kernel from such a disk; `moddep.lst` adds those that they need."""
KERNEL, INITRD = "vmlinux", "initrd"
"""Names of the files in the second partition, as `configuration` uses them."""

SECTOR = 512
FIRST_SECTOR = 2048
"""Start of the first partition: 1 MiB, as partitioning programs align it."""
PREP_SECTORS = 16384
"""Least size of the PReP partition: 8 MiB, as installers make it."""
READ_AHEAD = 1 << 20
"""Bytes of the disk behind its last partition."""
SIGNATURE_MAGIC = b"~Module signature appended~\n"
"""The end of a file with an appended signature (Linux, include/linux/module_signature.h)."""
PKCS7_MESSAGE = 2
"""The kind of an appended signature: PKCS#7."""

_PREP, _LINUX = 0x41, 0x83
_PREFIX = "(memdisk)/boot/grub"
_INFO_MAGIC = 0x676D696D
_GAP, _ALIGN = 0x8000, 0x1000
_ELF_HEADER, _SEGMENT = struct.Struct(">24sIIIIHHHHHH"), struct.Struct(">8I")


class _Kind(IntEnum):
    """The kind of an entry in the segment of modules."""

    ELF = 0
    MEMDISK = 1
    PREFIX = 3
    X509 = 5


def configuration(append: str, kernel: str = KERNEL, initrd: str = INITRD) -> str:
    """Return a grub.cfg: report the state of secure boot, boot the kernel, and power off if that fails.

    `append` is a part of GRUB's script: quote `;`, `&`, `|` and `$` in it.
    """
    return f"""\
echo "GRUB: keys $appendedsig_key_mgmt, signatures checked: $check_appended_signatures"
search --no-floppy --file /{kernel} --set root
if linux /{kernel} {append}; then
  initrd /{initrd}
  boot
fi
echo "GRUB: the kernel is not started"
halt
"""


def core_image(
    modules: Path, config: str, wanted: Sequence[str] = MODULES, certificates: Iterable[bytes] = ()
) -> bytes:
    """Return GRUB's core image: `kernel.img`, the wanted modules, a grub.cfg, and static keys in DER.

    `modules` is the folder of a GRUB for powerpc-ieee1275.  FileNotFoundError names a missing module.
    """
    archive = _tar({"boot/grub/grub.cfg": config.encode()})
    entries = [
        *(_entry(_Kind.ELF, (modules / f"{name}.mod").read_bytes()) for name in _ordered(modules, wanted)),
        _entry(_Kind.MEMDISK, archive),
        _entry(_Kind.PREFIX, _PREFIX.encode() + b"\0"),
        # Certificates come last and have no padding: GRUB refuses a certificate with a byte behind its DER.
        *(struct.pack(">II", _Kind.X509, 8 + len(each)) + each for each in certificates),
    ]
    size = sum(map(len, entries))
    return _with_segment(
        (modules / "kernel.img").read_bytes(),
        struct.pack(">III", _INFO_MAGIC, 12, 12 + size) + b"".join(entries),
    )


def module_files(modules: Path, wanted: Sequence[str] = MODULES) -> list[str]:
    """Return the names of the files that `core_image` reads, from the list of dependencies alone."""
    return ["kernel.img", "moddep.lst", *(f"{name}.mod" for name in _ordered(modules, wanted))]


def with_signature(kernel: bytes, key: RSAPrivateKey, certificate: x509.Certificate) -> bytes:
    """Return a kernel with an appended signature, as Linux's scripts/sign-file makes it."""
    # The signature has neither attributes nor certificates.  GRUB needs none: it checks the plain SHA-256 of
    # the file, and finds the signer among its own keys.  The same signature comes from `openssl cms -sign
    # -binary -noattr -nocerts -md sha256`.
    signature = (
        PKCS7SignatureBuilder()
        .set_data(kernel)
        .add_signer(certificate, key, SHA256())
        .sign(
            Encoding.DER,
            [
                PKCS7Options.Binary,
                PKCS7Options.DetachedSignature,
                PKCS7Options.NoAttributes,
                PKCS7Options.NoCerts,
            ],
        )
    )
    return kernel + appended(signature)


def appended(signature: bytes) -> bytes:
    """Return the bytes that append a PKCS#7 signature, in DER, to a file."""
    head = struct.pack(">5B3xI", 0, 0, PKCS7_MESSAGE, 0, 0, len(signature))
    return signature + head + SIGNATURE_MAGIC


def disk_image(core: bytes, files: Mapping[str, bytes]) -> bytes:
    """Return a raw disk with two partitions.

    The first is a PReP partition with the core image.  The second is a tar archive of the files.
    """
    archive = _tar(files)
    first = max(_sectors(core), PREP_SECTORS)
    second = FIRST_SECTOR + first
    table = _partition(0x80, _PREP, FIRST_SECTOR, first) + _partition(0, _LINUX, second, _sectors(archive))
    master = bytes(446) + table + bytes(32) + b"\x55\xaa"
    return b"".join(
        (
            master.ljust(FIRST_SECTOR * SECTOR, b"\0"),
            core.ljust(first * SECTOR, b"\0"),
            archive.ljust(_sectors(archive) * SECTOR, b"\0"),
            # SLOF reads ahead, and prints an error for each read behind the end of the disk.
            bytes(READ_AHEAD),
        )
    )


def _partition(active: int, kind: int, start: int, count: int) -> bytes:
    # The disk is too large for cylinders and heads, so both have the highest value.  Readers use the sectors.
    return struct.pack("<B3sB3sII", active, b"\xfe\xff\xff", kind, b"\xfe\xff\xff", start, count)


def _sectors(data: bytes) -> int:
    return -(-len(data) // SECTOR)


def _tar(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def _entry(kind: _Kind, data: bytes) -> bytes:
    body = data + bytes(-len(data) % 4)
    return struct.pack(">II", kind, 8 + len(body)) + body


def _ordered(modules: Path, wanted: Sequence[str]) -> list[str]:
    """Return the wanted modules and all modules that they need.

    Each module comes after the modules that it needs.
    """
    lines = (modules / "moddep.lst").read_text().splitlines()
    needs = {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}

    def after_needs(name: str) -> Iterator[str]:
        for each in needs.get(name, ()):
            yield from after_needs(each)
        yield name

    return list(dict.fromkeys(each for name in wanted for each in after_needs(name)))


def _with_segment(kernel: bytes, modules: bytes) -> bytes:
    """Return `kernel.img` with a second segment, which has the modules.

    Its address is above the memory of the first segment.
    """
    ident, entry, table, _, flags, *_ = _ELF_HEADER.unpack_from(kernel)
    _, offset, virtual, physical, in_file, in_memory, *_ = _SEGMENT.unpack_from(kernel, table)
    base = (virtual + in_memory + _GAP + _ALIGN - 1) & -_ALIGN
    header_size = _ELF_HEADER.size
    start = header_size + 2 * _SEGMENT.size
    header = (ident, entry, header_size, 0, flags, header_size, _SEGMENT.size, 2, 0, 0, 0)
    code = (1, start, virtual, physical, in_file, in_memory, 7, 16)
    more = (1, start + in_file, base, base, len(modules), len(modules), 7, 4)
    return b"".join(
        (
            *(_ELF_HEADER.pack(*header), _SEGMENT.pack(*code), _SEGMENT.pack(*more)),
            kernel[offset : offset + in_file],
            modules,
        )
    )
