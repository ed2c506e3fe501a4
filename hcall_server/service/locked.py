"""An existing state folder, locked for a command that needs the system powered off."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.rules import storage as rules
from hcall_server.service.state_folder import StateFolder, trouble


class LockedState:
    """The folder of a powered-off system.  No server starts on it before `close`, or the end of the block.

    OperatorError if the folder is no state, is not private, or is in use by another process.  OperatorError
    also if an entry is a link.  StorageError if its device fails.  Nothing is made.
    """

    def __init__(self, folder: Path) -> None:
        self._held = StateFolder(folder)
        self.folder = self._held.path
        try:
            self._held.find()
            self._take_lock()
        except OSError as error:
            self.close()
            raise trouble(error, self.folder) from None
        except SwpksError:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"LockedState({str(self.folder)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the lock; a second close does nothing."""
        self._held.close()

    def _take_lock(self) -> None:
        if owner := self._held.try_lock():
            advice = "power the system off: stop the server"
            raise OperatorError(rules.STATE_OWNER, f"process {owner} uses {self.folder}; {advice}")
