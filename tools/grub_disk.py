"""The program of tools/grub-disk: Debian's GRUB on a disk image."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from swpks.testing import grub_disk
from tools.debian_archive import Archive, Unavailable

SUITE = "forky"
"""The first suite of Debian whose GRUB (2.14) reads the platform keystore."""
PACKAGE = "grub-ieee1275-bin"
FOLDER = "usr/lib/grub/powerpc-ieee1275"


def grub_modules() -> Path:
    """Return the folder with Debian's GRUB modules for such a disk; Unavailable as `Archive` raises it."""
    archive = Archive(SUITE, "ppc64el")
    package = archive.package(PACKAGE)
    (dependencies,) = archive.files(package, [f"{FOLDER}/moddep.lst"])
    names = grub_disk.module_files(dependencies.parent)
    return archive.files(package, [f"{FOLDER}/{name}" for name in names])[0].parent


def write_disk(options: argparse.Namespace) -> None:
    """Write the disk image of a command line."""
    kernel = options.kernel.read_bytes()
    if options.out.exists() and any(map(options.out.samefile, (options.kernel, options.initrd))):
        raise Unusable(f"{options.out}: the disk would replace the kernel or the initrd; choose another OUT")
    if options.sign:
        key, certificate = _key(options.sign[0]), _certificate(options.sign[1])
        if certificate.public_key() != key.public_key():
            raise Unusable(f"{options.sign[1]}: the certificate is of another key than {options.sign[0]}")
        kernel = grub_disk.with_signature(kernel, key, certificate)
    static = [_certificate(path).public_bytes(Encoding.DER) for path in options.static_key]
    core = grub_disk.core_image(
        grub_modules(), grub_disk.configuration(options.append), grub_disk.MODULES, static
    )
    files = {grub_disk.KERNEL: kernel, grub_disk.INITRD: options.initrd.read_bytes()}
    _write_whole(options.out, grub_disk.disk_image(core, files))


def _write_whole(out: Path, data: bytes) -> None:
    """Write a file whole or not at all; write a device or a pipe as it is."""
    if out.exists() and not out.is_file():
        out.write_bytes(data)
        return
    out = out.resolve()  # the target of a link, and not the link, is replaced
    part = out.with_name(f".{out.name}.part")
    try:
        part.write_bytes(data)
        if out.exists():
            part.chmod(out.stat().st_mode)
        part.replace(out)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


class Unusable(Exception):
    """A file has another content than its option needs; the text says which."""


def _key(path: Path) -> RSAPrivateKey:
    """Return the RSA key in a file; Unusable for any other content."""
    with suppress(TypeError, ValueError, UnsupportedAlgorithm):
        key = load_pem_private_key(path.read_bytes(), None)
        if isinstance(key, RSAPrivateKey):
            return key
    raise Unusable(f"{path}: no RSA key without a password, in PEM; GRUB checks no other signatures")


def _certificate(path: Path) -> x509.Certificate:
    """Return the certificate in a file; Unusable for any other content."""
    with suppress(ValueError):
        return x509.load_pem_x509_certificate(path.read_bytes())
    raise Unusable(f"{path}: no certificate in PEM")


def main(words: list[str], text: str | None) -> int:
    """Run the program; `text` is its help."""
    parser = argparse.ArgumentParser(
        "tools/grub-disk", description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--kernel", type=Path, required=True, metavar="FILE")
    parser.add_argument("--initrd", type=Path, required=True, metavar="FILE")
    parser.add_argument("--append", default="console=hvc0 panic=-1", metavar="ARGS")
    parser.add_argument("--sign", type=Path, nargs=2, metavar=("KEY", "CERT"))
    parser.add_argument("--static-key", type=Path, action="append", default=[], metavar="CERT")
    try:
        write_disk(parser.parse_args(words))
    except Unavailable as error:
        return _failed(f"{error}{f'; {error.advice}' if error.advice else ''}")
    except OSError as error:
        return _failed(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except Unusable as error:
        return _failed(str(error))
    return 0


def _failed(message: str) -> int:
    print(f"tools/grub-disk: {message}", file=sys.stderr)
    return 1
