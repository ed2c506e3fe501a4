"""LUKS2 containers made with cryptsetup, with device-mapper or without."""

# Three ways to a disk, and why one is written by hand
#
# The demo shows that a disk key opens a disk.  It must run on any host, and use a real disk as far as the
# host permits (best_disk.py).  A real machine maps a LUKS2 container by device-mapper.  That needs root and
# /dev/mapper/control, which many containers lack.  But cryptsetup itself works there: it makes the container,
# and unlocks its volume key. Only the mapping is missing.  So `UnmappedDisk` does the part of the kernel: it
# encrypts the sectors.
#
# The written format is the real one.  `payload` reads cipher, sector size and tweak from the metadata of the
# container.  It refuses all values that this class can't handle.  Where device-mapper works, a test maps the
# same file, and reads the same bytes.
#
# A key must never be visible to other users of the host.  They can see the words of each command line (ps),
# and files with a wrong mode.  So each key goes through a pipe: to cryptsetup's standard input, and back from
# its output.

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from swpks.demo.disk import DiskError, WrongKeyError

SIZE = 20 << 20
"""Bytes of the container; the header of cryptsetup has 16 MiB of them."""
SECTOR = 512
PATIENCE = 10
"""Seconds that cryptsetup may take; it needs less than half of one."""

_NO_KEY = 2  # the exit status of cryptsetup(8) for a wrong key
_CIPHER = "aes-xts-plain64"
# The disk key is 64 random bytes, so stretching it adds nothing: the rounds are as few as the format allows.
_FORMAT = (
    *("--type", "luks2", "--cipher", _CIPHER, "--key-size", "512", "--sector-size", str(SECTOR)),
    *("--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"),
)
_CONTROL = Path("/dev/mapper/control")


def find_cryptsetup() -> str | None:
    """Return the path of cryptsetup, None if it is not installed."""
    # cryptsetup is in /usr/sbin.  Most users lack that folder in their search path, so it is added.
    folders = os.environ.get("PATH", "").split(os.pathsep)
    beside = [str(Path(folder).with_name("sbin")) for folder in folders if Path(folder).name == "bin"]
    return shutil.which("cryptsetup", path=os.pathsep.join([*folders, *beside]))


class Container:
    """A LUKS2 container in a plain file."""

    def __init__(self, program: str, path: Path) -> None:
        self._program = program
        self._path = path

    @classmethod
    def make(cls, program: str, path: Path, key: bytes) -> Container:
        """Make a container in a new file, locked by `key`."""
        container = cls(program, path)
        with path.open("xb") as file:
            file.truncate(SIZE)
        container.run("luksFormat", *_FORMAT, str(path), key=key)
        return container

    def run(self, action: str, *arguments: str, key: bytes = b"") -> bytes:
        """Run cryptsetup and return its output; WrongKeyError or DiskError if it fails."""
        command = [self._program, action, "--batch-mode", *(["--key-file=-"] if key else []), *arguments]
        done = self._finish(command, key)
        if done.returncode == _NO_KEY:
            raise WrongKeyError(f"cryptsetup {action}: {_first_line(done.stderr)}")
        if done.returncode:
            raise DiskError(f"cryptsetup {action}: {_first_line(done.stderr)}")
        return done.stdout

    @contextlib.contextmanager
    def mapped(self, key: bytes) -> Iterator[Path]:
        """Map the container for the length of a block; yield the block device with its plain content."""
        # A name in device-mapper is valid for the whole host.  Two demos may run at once, so the name is
        # random.
        name = f"swpks-demo-{secrets.token_hex(4)}"
        try:
            self.run("open", "--type", "luks2", str(self._path), name, key=key)
            yield _CONTROL.with_name(name)
        finally:
            # An interrupted `open` may have made the mapping already.  So the mapping is removed if it
            # exists.
            if _CONTROL.with_name(name).exists():
                self.run("close", name)

    def volume_key(self, key: bytes) -> bytes:
        """Return the key that encrypts the sectors; only `key` unlocks it."""
        text = self.run("luksDump", "--dump-volume-key", str(self._path), key=key).decode()
        # The name of the key in the text depends on the version of cryptsetup.
        found = re.search(r"(?:MK|Volume key) dump:((?:\s+[0-9a-f]{2})+)", text)
        if found is None:
            raise DiskError("cryptsetup luksDump: the volume key is not where it used to be")
        return bytes.fromhex(found[1])

    def payload(self) -> tuple[Path, int]:
        """Return the file, and the offset in bytes of its first encrypted sector."""
        text = self.run("luksDump", "--dump-json-metadata", str(self._path))
        segment: dict[str, Any] = json.loads(text)["segments"]["0"]
        if (segment["encryption"], segment["sector_size"], segment["iv_tweak"]) != (_CIPHER, SECTOR, "0"):
            raise DiskError("cryptsetup made another kind of payload than it was asked for")
        return self._path, int(segment["offset"])

    def _finish(self, command: list[str], key: bytes) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(
                command,
                input=key,
                capture_output=True,
                timeout=PATIENCE,
                check=False,
                env=_environment(),
                start_new_session=True,  # Ctrl-C must not end cryptsetup: the demo itself ends its mapping
            )
        except subprocess.TimeoutExpired:
            raise DiskError(f"cryptsetup {command[1]} took more than {PATIENCE} s") from None


def mapping_obstacle(container: Container, key: bytes) -> str | None:
    """Return why this host can't map a container, None if it can.

    The function maps the container to try it, and then removes the mapping.
    """
    if os.geteuid() != 0:
        return "only root may map"
    try:
        os.close(os.open(_CONTROL, os.O_RDWR))
    except OSError as error:
        return f"{_CONTROL}: {error.strerror or error}"
    try:
        with container.mapped(key):
            return None
    except DiskError as error:
        return str(error)


class MappedDisk:
    """A LUKS2 container whose sectors the kernel decrypts."""

    kind = "a LUKS2 container, mapped through device-mapper"

    def __init__(self, container: Container) -> None:
        self._container = container

    def write(self, key: bytes, data: bytes) -> None:
        """Write to the beginning of the mapped disk."""
        with self._container.mapped(key) as device, device.open("r+b") as plain:
            plain.write(data)
            plain.flush()
            os.fsync(plain.fileno())

    def read(self, key: bytes, size: int) -> bytes:
        """Return the first bytes of the mapped disk."""
        with self._container.mapped(key) as device, device.open("rb") as plain:
            return plain.read(size)


class UnmappedDisk:
    """A LUKS2 container whose sectors this class encrypts and decrypts.

    cryptsetup unlocks the volume key.  Every sector of 512 bytes is AES-XTS with its number as the tweak
    (plain64), as in dm-crypt.  So a machine with device-mapper can map the file, and reads the same content.
    """

    kind = "a LUKS2 container made and unlocked by cryptsetup, its sectors written without device-mapper"

    def __init__(self, container: Container) -> None:
        self._container = container

    def write(self, key: bytes, data: bytes) -> None:
        """Write to the first sectors; zeros fill the rest of the last one."""
        volume_key = self._container.volume_key(key)
        path, offset = self._container.payload()
        padded = data.ljust(-(-len(data) // SECTOR) * SECTOR, b"\0")
        with path.open("r+b") as file:
            file.seek(offset)
            for number in range(len(padded) // SECTOR):
                encryptor = _sector_cipher(volume_key, number).encryptor()
                file.write(encryptor.update(padded[number * SECTOR : (number + 1) * SECTOR]))
            file.flush()
            os.fsync(file.fileno())

    def read(self, key: bytes, size: int) -> bytes:
        """Return the first `size` bytes of the disk."""
        volume_key = self._container.volume_key(key)
        path, offset = self._container.payload()
        plain = bytearray()
        with path.open("rb") as file:
            file.seek(offset)
            for number in range(-(-size // SECTOR)):
                plain += _sector_cipher(volume_key, number).decryptor().update(file.read(SECTOR))
        return bytes(plain[:size])


def _sector_cipher(volume_key: bytes, number: int) -> Cipher[modes.XTS]:
    return Cipher(algorithms.AES(volume_key), modes.XTS(number.to_bytes(16, "little")))


def _environment() -> dict[str, str]:
    """Return the environment for cryptsetup.

    Its messages are then in English.  It also does not wait for udev, which may not run here.
    """
    environment = os.environ | {"LC_ALL": "C"}
    if not Path("/run/udev/control").exists():
        environment["DM_DISABLE_UDEV"] = "1"
    return environment


def _first_line(text: bytes) -> str:
    lines = text.decode("utf-8", "replace").strip().splitlines()
    return lines[0].strip().rstrip(".") if lines else "no reason given"
