"""The folder of a console: its database, its sockets, and the profile backups (spec/console.md#store)."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import TracebackType
from typing import Self

from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.rules import hmc as rules
from hcall_server.folders import FolderKind
from hcall_server.process.folder import STORE_DATABASE, LockedFolder, trouble
from swpks.hmc.line_client import OF_A_SYSTEM
from swpks.hmc.names import SOCKET, WHERE

DATABASE = STORE_DATABASE


class StoreFolder:
    """The locked folder of a console.

    A missing folder is made.  The lock lasts until the end of the block.  OperatorError if another console
    uses the folder.  OperatorError too if the folder is no console's store, is not private, or can't be
    written.  StorageError if its device fails.
    """

    def __init__(self, folder: Path) -> None:
        self._held = LockedFolder(
            folder, DATABASE, kind=FolderKind.STORE
        )  # the lock file may be missing from a backup of the store
        self.path = self._held.path
        self.database = self.path / DATABASE
        self.socket = self.path / SOCKET
        self.where = self.path / WHERE
        self.profiles = self.path / "profiles"
        try:
            self._open()
        except OSError as error:
            self._held.close()
            raise _about_store(trouble(error, self.path)) from None
        except SwpksError as error:
            self._held.close()
            raise _about_store(error) from None

    def __repr__(self) -> str:
        return f"StoreFolder({str(self.path)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    def _open(self) -> None:
        # This check comes before the first file is made, so the folder of a system stays as it is.
        if any((self.path / name).exists() for name in OF_A_SYSTEM):
            system = f"--system {shlex.quote(str(self.path / 'run' / 'control.sock'))}"
            message = f"{self.path} is the state folder of a system, which a console takes by {system}"
            raise OperatorError(rules.HMC_STORE_FOLDER, message, advised=True)
        self._held.make()
        if owner := self._held.try_lock():
            message = f"process {owner} uses {self.path}; stop that console, or choose another --store"
            raise OperatorError(rules.HMC_STORE_OWNER, message, advised=True)
        self._refuse_lost()
        self._held.make_inner(self.socket.parent.name)
        self._held.make_inner(self.profiles.name)

    def _refuse_lost(self) -> None:
        """Raise OperatorError if the database is missing and other files show that the store was used."""
        # A new database would be a new console: the systems refuse it, and their copies are lost.
        if self.database.exists():
            return
        profiles = list(self.profiles.iterdir()) if self.profiles.is_dir() else []
        logs = [self.database.with_name(f"{DATABASE}{end}") for end in ("-wal", "-journal")]
        left = next((each for each in (*profiles, *logs) if each.exists()), None)
        if left is not None:
            message = f"{self.database} is missing, and {left} is of an earlier console"
            remedy = "bring the store back from a backup, or choose a new folder"
            raise OperatorError(rules.HMC_STORE_FOLDER, f"{message}: {remedy}", advised=True)


def _about_store(error: SwpksError) -> SwpksError:
    """Return an error of the folder with the rule about a console's store.

    The folder's own rules are about a system's state.
    """
    own = (rules.HMC_STORE_OWNER, rules.HMC_STORE_FOLDER)
    if isinstance(error, OperatorError) and not (error.advised and error.rule in own):
        return OperatorError(rules.HMC_STORE_FOLDER, error.message)
    return error
