"""The state folder: its layout, its access rights, and the lock of the one server that uses it.

    DIR/                  0700; neither it nor an entry below may be a symbolic link
      lock                held (flock) by the server that serves this state
      nvram.sqlite        service-processor NVRAM: sealed records
      anchor-card/        the component that keeps the PKS root key
      access-keys/        0700, NAME.key: a partition's access key for TCP, hex, 0600
      run/                0700, the sockets

Layout: spec/service.md#state.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from pathlib import Path

from hcall_abi.errors import OperatorError, StorageError, SwpksError
from hcall_abi.rules import storage as rules
from hcall_server.components.anchor_card import AnchorCard
from hcall_server.components.seam import Components
from hcall_server.data_channel.listeners import Listeners
from hcall_server.files import InPlace, make_folder, make_private, refuse_link, sync_folder
from hcall_server.keystore.store import Entropy
from hcall_server.nvram.sqlite import SqliteNvram
from hcall_server.service.access_keys import AccessKeys
from hcall_server.service.assembly import Seams
from hcall_server.writeback.schedule import Clock
from hcall_server.writeback.worker import ThreadWorker


class State:
    """The folder of one managed system, locked for this process until it ends.

    Raises OperatorError when another server has it, when it is not private, when it is a link, or when
    the folder is somebody else's altogether; StorageError when its device fails.  All that it makes is
    durable before NVRAM is opened.
    """

    def __init__(self, folder: Path, entropy: Entropy = os.urandom) -> None:
        self.folder = folder.absolute()
        self.run_folder = self.folder / "run"
        self._keys = self.folder / "access-keys"
        self.listeners = Listeners(self.run_folder, AccessKeys(self._keys))
        self._entropy = entropy
        self._lock = -1
        try:
            self._take_folder()
            self._take_lock()
            for inner in (self.run_folder, self._keys):
                refuse_link(inner)
                make_folder(inner)
                _check_private(inner)
            self._in_place = InPlace(self.folder), InPlace(self.folder / "lock")
        except OSError as error:
            self.close()
            raise _refused(error, self.folder) from None
        except SwpksError:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"State({str(self.folder)!r})"

    def close(self) -> None:
        """Release the lock of the state; a second close does nothing."""
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)

    def seams(self, clock: Clock = time.monotonic) -> Seams:
        """Open the parts of the machine that lie in the folder; return them with the other real seams.

        `clock` is that of the loop which will run the machine.  Raises the errors of `SqliteNvram`.
        The caller closes NVRAM, and then the state.
        """
        card = AnchorCard(self.folder / "anchor-card")
        beside = (*(each.trouble for each in self._in_place), card.moved)
        return Seams(
            entropy=self._entropy,
            clock=clock,
            nvram=SqliteNvram(self.folder / "nvram.sqlite", beside),
            components=Components(anchor_card=card),
            worker=ThreadWorker().started(),
            transport=self.listeners,
        )

    def _take_folder(self) -> None:
        """Make the folder, or take an empty one; any other one has to be a state already."""
        refuse_link(self.folder)
        make_folder(self.folder)
        refuse_link(self.folder / "lock")
        if _is_new(self.folder):
            make_private(self.folder)
        elif not (self.folder / "lock").is_file():
            raise OperatorError(rules.STATE_EMPTY, f"{self.folder} holds other things")
        _check_private(self.folder)

    def _take_lock(self) -> None:
        path = self.folder / "lock"
        new = not path.exists()
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._lock = lock
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(lock, 32).decode("ascii", "replace").strip()
            message = f"another server (process {owner or 'unknown'}) serves {self.folder}"
            raise OperatorError(rules.STATE_OWNER, message) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        if new:  # without its lock, the next start would refuse the state as a folder of other files
            sync_folder(self.folder)


def _refused(error: OSError, folder: Path) -> SwpksError:
    """Return the error for a state that cannot be taken: the device fails, or the operator has to act."""
    message = f"{error.filename or folder}: {error.strerror}"
    if error.errno == errno.EIO:
        return StorageError(rules.STATE_DEVICE, f"{message}; see the log of the kernel")
    return OperatorError(rules.STATE_WRITABLE, message)


def _is_new(folder: Path) -> bool:
    """Return whether a folder holds nothing, or `run` with sockets that a service manager has made."""
    names = [path.name for path in folder.iterdir()]
    return not names or (names == ["run"] and all(path.is_socket() for path in (folder / "run").iterdir()))


def _check_private(folder: Path) -> None:
    """Refuse a folder of another user, or one that others may enter."""
    found = folder.lstat()
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise OperatorError(
            rules.STATE_PRIVATE,
            f"{folder} has mode {stat.S_IMODE(found.st_mode):04o} and owner {found.st_uid}",
        )
