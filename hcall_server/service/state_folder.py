"""The access rights and the lock of a state folder: for the server, and for commands on a powered-off system.

Layout: `hcall_server/service/state.py` and spec/service.md#state.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path

from hcall_abi.errors import OperatorError, StorageError, SwpksError
from hcall_abi.rules import storage as rules
from hcall_server.files import make_folder, make_private, refuse_link, sync_folder

LAYOUT = (
    *("lock", "nvram.sqlite", "anchor-card", "service-processor", "tpm", "tpm-2"),
    *("access-keys", "run", "asmi", "removed"),
)
"""The entries of a state folder that may not be symbolic links."""


class StateFolder:
    """The folder of one managed system.  `make` or `find` comes first, then `try_lock`.

    All three raise OperatorError for what the operator has to change, and OSError; `trouble` makes an error
    with a rule of the latter.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder.absolute()
        self.lock_path = self.path / "lock"
        self._lock = -1

    def __repr__(self) -> str:
        return f"StateFolder({str(self.path)!r})"

    def make(self) -> None:
        """Make the folder, or take an empty one; any other one has to be a state already."""
        refuse_link(self.path)
        make_folder(self.path)
        refuse_link(self.lock_path)
        if _is_new(self.path):
            make_private(self.path)
        elif not self.lock_path.is_file():
            raise OperatorError(rules.STATE_EMPTY, f"{self.path} holds other things")
        check_private(self.path)

    def find(self) -> None:
        """Check that the folder is a state, with the links and modes that a start accepts; make nothing."""
        refuse_link(self.path)
        refuse_link(self.lock_path)
        if not self.lock_path.is_file():
            message = f"{self.path} is no state folder: name the folder of --state of the server"
            raise OperatorError(rules.STATE_EXISTS, message)
        check_private(self.path)
        for inner in (self.path / name for name in LAYOUT):
            refuse_link(inner)
            if inner.is_dir():
                check_private(inner)

    def try_lock(self) -> str | None:
        """Take the lock; if another process holds it, return the id of that process, or "unknown"."""
        new = not self.lock_path.exists()
        lock = os.open(self.lock_path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._lock = lock
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return os.read(lock, 32).decode("ascii", "replace").strip() or "unknown"
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        if new:  # without its lock, the next start would refuse the state as a folder of other files
            sync_folder(self.path)
        return None

    def close(self) -> None:
        """Release the lock; a second close does nothing."""
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)


def trouble(error: OSError, folder: Path) -> SwpksError:
    """Return the error for a state that cannot be taken: the device fails, or the operator has to act."""
    message = f"{error.filename or folder}: {error.strerror}"
    if error.errno == errno.EIO:
        return StorageError(rules.STATE_DEVICE, f"{message}; see the log of the kernel")
    return OperatorError(rules.STATE_WRITABLE, message)


def check_private(folder: Path) -> None:
    """Refuse a folder of another user, or one that others may enter."""
    found = folder.lstat()
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise OperatorError(
            rules.STATE_PRIVATE,
            f"{folder} has mode {stat.S_IMODE(found.st_mode):04o} and owner {found.st_uid}",
        )


def _is_new(folder: Path) -> bool:
    """Return whether a folder holds nothing, or `run` with sockets that a service manager has made."""
    names = [path.name for path in folder.iterdir()]
    return not names or (names == ["run"] and all(path.is_socket() for path in (folder / "run").iterdir()))
