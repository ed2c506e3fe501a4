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
import time
from pathlib import Path

from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.rules import storage as rules
from hcall_server.components.anchor_card import AnchorCard
from hcall_server.components.seam import Components
from hcall_server.data_channel.listeners import Listeners
from hcall_server.keystore.store import Entropy
from hcall_server.nvram.sqlite import SqliteNvram
from hcall_server.service.access_keys import AccessKeys
from hcall_server.service.assembly import Seams
from hcall_server.writeback.encryptor import Clock
from hcall_server.writeback.worker import ThreadWorker


class State:
    """The folder of one managed system, locked for this process until it ends.

    Raises OperatorError when another server has it, when it is not private, or when the folder is
    somebody else's altogether.
    """

    def __init__(self, folder: Path, entropy: Entropy = os.urandom) -> None:
        self.folder = folder.absolute()
        self.run_folder = self.folder / "run"
        self._keys = self.folder / "access-keys"
        self.listeners = Listeners(self.run_folder, AccessKeys(self._keys, entropy))
        self._entropy = entropy
        self._lock = -1
        try:
            self._take_folder()
            self._lock = self._take_lock()
            for inner in (self.run_folder, self._keys):
                inner.mkdir(mode=0o700, exist_ok=True)
                _check_private(inner)
        except OSError as error:
            self.close()
            raise OperatorError(rules.STATE_WRITABLE, f"{error.filename}: {error.strerror}") from None
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

    def seams(self, clock: Clock = time.monotonic) -> Seams:
        """Open the parts of the machine that lie in the folder; return them with the other real seams.

        `clock` is that of the loop which will run the machine.  Raises what opening NVRAM raises
        (`SqliteNvram`).  The caller closes NVRAM, and then the state.
        """
        return Seams(
            entropy=self._entropy,
            clock=clock,
            nvram=SqliteNvram(self.folder / "nvram.sqlite"),
            components=Components(anchor_card=AnchorCard(self.folder / "anchor-card")),
            worker=ThreadWorker(),
            transport=self.listeners,
        )

    def _take_folder(self) -> None:
        if not self.folder.exists():
            self.folder.mkdir(mode=0o700, parents=True)
        elif not any(self.folder.iterdir()):
            self.folder.chmod(0o700)
        elif not (self.folder / "lock").is_file():
            raise OperatorError(rules.STATE_EMPTY, f"{self.folder} holds other things")
        _check_private(self.folder)

    def _take_lock(self) -> int:
        path = self.folder / "lock"
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(lock, 32).decode("ascii", "replace").strip()
            os.close(lock)
            message = f"another server (process {owner or 'unknown'}) serves {self.folder}"
            raise OperatorError(rules.STATE_OWNER, message) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        return lock


def _check_private(folder: Path) -> None:
    """Refuse a folder of somebody else, or one that others may enter."""
    found = folder.stat()
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise OperatorError(
            rules.STATE_PRIVATE,
            f"{folder} has mode {stat.S_IMODE(found.st_mode):04o} and owner {found.st_uid}",
        )
