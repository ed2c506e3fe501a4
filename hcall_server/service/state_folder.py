"""The state folder of a managed system: for the server, and for commands on a powered-off system.

Layout: `hcall_server/service/state.py` and spec/service.md#state.
"""

from __future__ import annotations

from pathlib import Path

from hcall_abi.errors import OperatorError
from hcall_abi.rules import storage as rules
from hcall_abi.rules.rule import Rule
from hcall_server.files import refuse_link
from hcall_server.folders import question_of
from hcall_server.process.folder import STORE_DATABASE, LockedFolder, check_private, trouble

__all__ = ["LAYOUT", "StateFolder", "check_private", "trouble"]

LAYOUT = (
    *("lock", "nvram.sqlite", "anchor-card", "service-processor", "tpm", "tpm-2"),
    *("access-keys", "run", "asmi", "removed", "traces", "snapshots"),
)
"""The entries of a state folder that may not be symbolic links."""


GIVEN = frozenset({"anchor-card", "tpm", "tpm-2", "run"})
"""The parts that a system with NVRAM on etcd needs of another folder, and the folder of passed sockets."""


class StateFolder(LockedFolder):
    """The folder of one managed system.  `make` or `find` comes first, then `try_lock`.

    `parts_alone`: a folder with nothing but an anchor card and TPMs is a state too.  Its NVRAM is elsewhere.
    """

    def __init__(self, folder: Path, *, parts_alone: bool = False) -> None:
        super().__init__(folder)
        self._parts_alone = parts_alone

    def _known(self) -> bool:
        found = {each.name for each in self.path.iterdir()}
        return super()._known() or (self._parts_alone and found <= GIVEN)

    def make(self) -> None:
        """Make the folder as `LockedFolder` does; OperatorError if it is the store of a console."""
        refuse_link(self.path)
        self._refuse_store(rules.STATE_EMPTY)
        super().make()

    def find(self) -> None:
        """Check that the folder is a state, with the links and modes that a start accepts; make nothing."""
        refuse_link(self.path)
        self._refuse_store(rules.STATE_EXISTS)
        self._refuse_inside(rules.STATE_EXISTS)
        refuse_link(self.lock_path)
        if not self.lock_path.is_file():
            advice = question_of(self.path) or ": name the folder of --state of the server"
            message = f"{self.path} is no state of a system{advice}"
            raise OperatorError(rules.STATE_EXISTS, message)
        check_private(self.path)
        for inner in (self.path / name for name in LAYOUT):
            refuse_link(inner)
            if inner.is_dir():
                check_private(inner)

    def _refuse_store(self, rule: Rule) -> None:
        # The store of a console has a lock file too.  If the parts of a system were made in it, the console
        # would refuse the folder.
        if (self.path / STORE_DATABASE).is_file():
            message = f"{self.path} is the store of a management console: choose another --state"
            raise OperatorError(rule, message)
