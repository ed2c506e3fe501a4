"""R-77: the disk of a boot from GRUB: its core image, its partitions, and the appended signature."""

from __future__ import annotations

import errno
import io
import struct
import subprocess
import tarfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from swpks.qemu.bootdisk import CODE_SIZE, loader_of
from swpks.testing.grub_disk import (
    FIRST_SECTOR,
    SECTOR,
    SIGNATURE_MAGIC,
    configuration,
    core_image,
    disk_image,
    module_files,
    with_signature,
)
from tests.qemu.grub import signer
from tests.qemu.test_bootdisk import CODE, ENTRY, loader
from tools.grub_disk import main

HEADER = struct.Struct(">II")


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """A folder as a package of GRUB has it: `linux` needs `boot`, which needs `elf`."""
    folder = tmp_path / "powerpc-ieee1275"
    folder.mkdir()
    folder.joinpath("kernel.img").write_bytes(loader())
    folder.joinpath("moddep.lst").write_text("linux: boot\nboot: elf\nelf:\n")
    for name in ("linux", "boot", "elf"):
        folder.joinpath(f"{name}.mod").write_bytes(name.encode() + b"!")
    return folder


def entries(core: bytes) -> list[tuple[int, bytes]]:
    """Return kind and content of each entry in the segment of modules."""
    *_, offset, _virtual, _physical, size, _memory, _flags, _align = struct.unpack_from(">8I", core, 52 + 32)
    magic, start, end = struct.unpack_from(">III", core, offset)
    assert (magic, start, end) == (0x676D696D, 12, size)
    segment, found = core[offset : offset + end], []
    while start < end:
        kind, length = HEADER.unpack_from(segment, start)
        found.append((kind, segment[start + HEADER.size : start + length]))
        start += length
    return found


def test_modules_follow_those_that_they_need(modules: Path) -> None:
    """The list of dependencies is followed to its end; GRUB initialises modules in this order."""
    kinds = entries(core_image(modules, "halt", ["linux"]))
    assert [content.rstrip(b"\0!") for kind, content in kinds if kind == 0] == [b"elf", b"boot", b"linux"]
    assert module_files(modules, ["linux"]) == [
        "kernel.img",
        "moddep.lst",
        "elf.mod",
        "boot.mod",
        "linux.mod",
    ]


def test_the_configuration_is_in_the_memdisk(modules: Path) -> None:
    """The core image has a tar archive with boot/grub/grub.cfg, and a prefix that names its folder."""
    kinds = dict(entries(core_image(modules, configuration("quiet"), ["elf"])))
    with tarfile.open(fileobj=io.BytesIO(kinds[1])) as archive:
        config = archive.extractfile("boot/grub/grub.cfg")
        assert config is not None
        assert "linux /vmlinux quiet" in config.read().decode()
    assert kinds[3].rstrip(b"\0") == b"(memdisk)/boot/grub"


def test_static_keys_have_no_padding(modules: Path) -> None:
    """The entries of static keys are last in the segment, and have no padding.

    GRUB refuses a certificate with a byte behind its DER.
    """
    keys = [b"1", b"12345", b"123"]
    assert entries(core_image(modules, "halt", ["elf"], keys))[-3:] == [(5, key) for key in keys]


def test_the_core_image_is_a_loader(modules: Path, tmp_path: Path) -> None:
    """The segment of modules lies behind the memory of `kernel.img`, whose code stays in its place."""
    disk = tmp_path / "boot.img"
    disk.write_bytes(disk_image(core_image(modules, "halt", ["linux"]), {}))
    assert loader_of(disk).entry == ENTRY
    assert loader_of(disk).code == CODE[16 : 16 + CODE_SIZE]


def test_the_second_partition_is_an_archive() -> None:
    """The files are in a tar archive, which begins where the first partition ends."""
    disk = disk_image(bytes(9 << 20), {"vmlinux": b"kernel", "initrd": b"more"})
    (_, first, count), (kind, start, _) = (struct.unpack_from("<4xB3xII", disk, at) for at in (446, 446 + 16))
    assert (first, kind) == (FIRST_SECTOR, 0x83)
    assert start == first + count
    with tarfile.open(fileobj=io.BytesIO(disk[start * SECTOR :])) as archive:
        assert archive.getnames() == ["vmlinux", "initrd"]
    assert len(disk) % SECTOR == 0


def test_openssl_verifies_an_appended_signature(tmp_path: Path) -> None:
    """The signature is over the bytes before it, in the form that `openssl cms` makes and checks."""
    kernel = bytes(range(256)) * 5
    holder = signer("db")
    file = with_signature(kernel, holder.key, holder.certificate)
    assert file.startswith(kernel)
    assert file.endswith(SIGNATURE_MAGIC)
    (size,) = struct.unpack_from(">I", file, len(file) - len(SIGNATURE_MAGIC) - 4)
    at = len(kernel)
    for name, data in (
        ("signature", file[at : at + size]),
        ("kernel", kernel),
        ("certificate", holder.certificate.public_bytes(Encoding.PEM)),
    ):
        tmp_path.joinpath(name).write_bytes(data)
    command = (
        "openssl cms -verify -binary -inform DER -in signature -content kernel -certfile certificate "
        "-nointern -CAfile certificate -purpose any -out out"
    )
    done = subprocess.run(command.split(), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert tmp_path.joinpath("out").read_bytes() == kernel


def test_the_tool_writes_a_signed_kernel(
    tmp_path: Path, modules: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """tools/grub-disk signs the kernel, builds a static key in, and reports each file that it cannot use."""
    monkeypatch.setattr("tools.grub_disk.grub_modules", lambda: modules)
    monkeypatch.setattr("swpks.testing.grub_disk.MODULES", ("linux",))
    monkeypatch.chdir(tmp_path)
    holder = signer("db")
    Path("key").write_bytes(holder.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    Path("certificate").write_bytes(holder.certificate.public_bytes(Encoding.PEM))
    Path("vmlinux").write_bytes(b"kernel")
    Path("initrd").write_bytes(b"initrd")
    Path("other").write_bytes(signer("wrong").certificate.public_bytes(Encoding.PEM))
    words = ["boot.img", "--kernel", "vmlinux", "--initrd", "initrd"]
    static = ["--sign", "key", "certificate", "--static-key", "certificate"]
    assert main([*words, *static], "help") == 0
    disk = Path("boot.img").read_bytes()
    assert SIGNATURE_MAGIC in disk
    assert holder.der in disk
    for wrong, said in (
        (["--sign", "absent", "certificate"], "absent: No such file"),
        (["--sign", "certificate", "certificate"], "certificate: no RSA key without a password, in PEM"),
        (["--static-key", "key"], "key: no certificate in PEM"),
        (["--sign", "key", "other"], "other: the certificate is of another key than key"),
    ):
        assert main([*words, *wrong], "help") == 1
        assert said in capsys.readouterr().err

    def fails(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:100])
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as full:
        full.setattr(Path, "write_bytes", fails)
        assert main(words, "help") == 1
    assert "No space left on device" in capsys.readouterr().err
    assert Path("boot.img").read_bytes() == disk, "the old disk stays whole"
    assert not list(Path().glob(".*")), "no half disk is left"
    assert main(["vmlinux", *words[1:]], "help") == 1
    assert Path("vmlinux").read_bytes() == b"kernel", "the kernel is not replaced by a disk"
