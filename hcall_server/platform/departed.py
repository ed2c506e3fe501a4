"""The stored facts about partitions without a store here (spec/sealed.md#custody-record)."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from hcall_server.platform.custody import Custody


class Departed(NamedTuple):
    """A partition that has left, or whose copy was dropped: GONE or NONE after the attempt `epoch`.

    `peer` is the id of the other system of this attempt, b"" for none.  A GONE partition belongs to that
    system now.  `name` is the last name on this system, "" for a partition that was never on it.

    `reserves_name`: the partition has this name on the other system.  So the settings of a server make no
    second partition of this name.  An operator may free the name.
    """

    uuid: UUID
    name: str
    custody: Custody
    epoch: int
    peer: bytes = b""
    reserves_name: bool = False
