"""NVRAM in memory: for tests, and for systems that need not survive their process."""

from __future__ import annotations

from collections.abc import Mapping

from hcall_server.nvram.mark import MemoryMark
from hcall_server.nvram.names import COMMIT
from hcall_server.nvram.seam import CommitLimits, Ownership


class MemoryNvram:
    """Records in a dictionary.

    A simulated power cut drops the system and gives this object to the next system.
    """

    def __init__(self, records: Mapping[str, bytes] | None = None) -> None:
        self.mark = MemoryMark()
        self.records: dict[str, bytes] = dict(records or {})
        self.commits = 0
        """The number of commits that took effect."""
        self.old_number = 0
        """The number of the last commit, for records of level 1."""
        self.limits: CommitLimits | None = None
        self.always_newest = False
        self.ownership: Ownership | None = None

    def load(self) -> dict[str, bytes]:
        """Return a copy of every record."""
        return dict(self.records)

    def commit(self, changes: Mapping[str, bytes | None]) -> None:
        """Put or remove records, all at once."""
        changed = {**self.records, **changes}
        self.records = {name: blob for name, blob in changed.items() if blob is not None}
        self.old_number = 0
        self.commits += 1

    def last_commit(self) -> bytes | None:
        """Return the commit record."""
        return self.records.get(COMMIT)

    def close(self) -> None:
        """Do nothing: the records stay for the next system."""
