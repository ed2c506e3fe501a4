"""The state of a running partition at one moment, for a test that returns to it: in memory, never stored."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from hcall_abi.console import ConsoleAttributes
from hcall_abi.consumers import SecureBoot
from hcall_server.keystore.saved import SavedStore


class PartitionSnapshot(NamedTuple):
    """Attributes with the latch, the secure-boot mode of the IPL, and the keystore (None: 0 KiB).

    `Partition.saved` makes it.  It belongs to the partition with this UUID.
    """

    uuid: UUID
    attributes: ConsoleAttributes
    secure_boot: SecureBoot
    keystore: SavedStore | None

    def __repr__(self) -> str:
        return f"PartitionSnapshot({self.uuid}, {self.keystore!r})"
