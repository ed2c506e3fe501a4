"""The state folder: what is where, who may look at it, and that one server has it at a time.

    DIR/                  0700
      lock                held (flock) by the server that serves this state
      nvram.sqlite        service-processor NVRAM: sealed records
      anchor-card/        the component that keeps the PKS root key
      access-keys/        0700, NAME.key: a partition's access key for TCP, hex, 0600
      run/                0700, the sockets

Layout: spec/service.md#state.
"""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

from hcall_abi.errors import OperatorError, StorageError, SwpksError
from hcall_server.nvram.files import sync_folder

ACCESS_KEY_SIZE = 32
_SECTION = "spec/service.md#state"


class State:
    """The folder of one managed system, locked for this process until it ends.

    Raises OperatorError when another server has it, when it is not private, or when the folder is
    somebody else's altogether.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.nvram = self.folder / "nvram.sqlite"
        self.anchor_card = self.folder / "anchor-card"
        self.run = self.folder / "run"
        self._keys = self.folder / "access-keys"
        self._lock = -1
        try:
            self._take_folder()
            self._lock = self._take_lock()
            for inner in (self.run, self._keys):
                inner.mkdir(mode=0o700, exist_ok=True)
                _check_private(inner)
        except OSError as error:
            self.close()
            raise self._refused(
                f"{error.filename}: {error.strerror}", "the server may write its state"
            ) from None
        except SwpksError:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"State({str(self.folder)!r})"

    def close(self) -> None:
        """Let another server have the state; a second close does nothing."""
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)

    def access_key(self, name: str) -> bytes | None:
        """Return a partition's access key (32 bytes), None when it has none.

        Raises OperatorError when the file is not private or does not hold a key.
        """
        path = self._keys / f"{name}.key"
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            if os.fstat(descriptor).st_mode & 0o077:
                raise self._refused(f"{path} is readable by others", "an access key has mode 0600")
            text = file.read(2 * ACCESS_KEY_SIZE + 2).strip()
        try:
            key = bytes.fromhex(text.decode("ascii"))
        except ValueError:
            key = b""
        if len(key) != ACCESS_KEY_SIZE:
            raise self._refused(
                f"{path} holds no access key", f"an access key is {ACCESS_KEY_SIZE} bytes in hex"
            )
        return key

    def keep_access_key(self, name: str, key: bytes) -> None:
        """Store a partition's new access key: all or nothing, durable, readable by the owner alone.

        Raises StorageError when it can't be written.
        """
        try:
            self._write_key(name, key)
        except OSError as error:
            rule = "every partition has an access key in the state"
            message = f"the access key of {name} can't be written: {error.strerror}"
            raise StorageError(message, rule=rule, section=_SECTION) from None

    def _write_key(self, name: str, key: bytes) -> None:
        path = self._keys / f"{name}.key"
        new = self._keys / f"{name}.key.new"
        new.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(new, flags, 0o600), "wb") as file:
            file.write(key.hex().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        sync_folder(self._keys)

    def _take_folder(self) -> None:
        if not self.folder.exists():
            self.folder.mkdir(mode=0o700, parents=True)
        elif not any(self.folder.iterdir()):
            self.folder.chmod(0o700)
        elif not (self.folder / "lock").is_file():
            raise self._refused(
                f"{self.folder} holds other things", "a new state is made in a folder that is new or empty"
            )
        _check_private(self.folder)

    def _take_lock(self) -> int:
        path = self.folder / "lock"
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(lock, 32).decode("ascii", "replace").strip()
            os.close(lock)
            raise self._refused(
                f"another server (process {owner or 'unknown'}) serves {self.folder}",
                "one state belongs to one server at a time",
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        return lock

    def _refused(self, message: str, rule: str) -> OperatorError:
        return OperatorError(message, rule=rule, section=_SECTION)


def _check_private(folder: Path) -> None:
    """Refuse a folder of somebody else, or one that others may enter."""
    found = folder.stat()
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise OperatorError(
            f"{folder} has mode {stat.S_IMODE(found.st_mode):04o} and owner {found.st_uid}",
            rule="the state and its folders belong to the server's user and have mode 0700",
            section=_SECTION,
        )
