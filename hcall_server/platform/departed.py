"""The stored facts about partitions without a store here (spec/sealed.md#custody-record)."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from hcall_server.platform.custody import Custody


class Departed(NamedTuple):
    """A partition that has left, or whose copy was dropped: GONE or NONE after the attempt `epoch`.

    `peer` is the id of the system at the other end of it, b"" for none: the present owner of one that is
    GONE.  `name` is its last name here, and may be "" for one that was never here.  `reserves_name`: the
    settings of a server make no second partition of this name, because this one has it on another system.  An
    operator may free the name.
    """

    uuid: UUID
    name: str
    custody: Custody
    epoch: int
    peer: bytes = b""
    reserves_name: bool = False
