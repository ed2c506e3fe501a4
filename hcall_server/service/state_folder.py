"""The state folder of a managed system: for the server, and for commands on a powered-off system.

Layout: `hcall_server/service/state.py` and spec/service.md#state.
"""

from __future__ import annotations

from hcall_abi.errors import OperatorError
from hcall_abi.rules import storage as rules
from hcall_server.files import refuse_link
from hcall_server.process.folder import LockedFolder, check_private, trouble

__all__ = ["LAYOUT", "StateFolder", "check_private", "trouble"]

LAYOUT = (
    *("lock", "nvram.sqlite", "anchor-card", "service-processor", "tpm", "tpm-2"),
    *("access-keys", "run", "asmi", "removed"),
)
"""The entries of a state folder that may not be symbolic links."""


class StateFolder(LockedFolder):
    """The folder of one managed system.  `make` or `find` comes first, then `try_lock`."""

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
