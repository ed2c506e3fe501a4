"""What outlives the IPLs of a partition besides its store (spec/sealed.md#partition-record)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID

from hcall_abi.calls import Opcode
from hcall_abi.console import AT_FIRST, CALLS_OF, ConsoleAttributes
from hcall_abi.levels import FirmwareLevel
from hcall_server.platform.custody import Custody

UUID_SIZE = 16


class PartitionProfile(NamedTuple):
    """What is persisted of a partition besides its store; immutable, changed by `_replace`.

    `uuid` names the partition for life; number and name may change or collide between systems (R-47).
    `access_key` is what its clients prove themselves with over TCP, 32 bytes; b"": nobody can.
    `attributes` are those that the console has set.  `image_generation` is the generation of the image
    that is committed with the profile; while the keystore is off, that of the last image there was.
    """

    number: int
    name: str
    uuid: UUID
    access_key: bytes
    custody: Custody = Custody.OWN
    attributes: ConsoleAttributes = AT_FIRST
    auto_start: bool = True
    ipl_count: int = 0
    image_generation: int = 0

    def __repr__(self) -> str:
        return f"PartitionProfile({self.number}, {self.name!r}, {self.uuid}, ipl_count={self.ipl_count})"


def new_uuid(entropy: Callable[[int], bytes]) -> UUID:
    """Return a random UUID (version 4) for a new partition."""
    return UUID(bytes=entropy(UUID_SIZE), version=4)


def effective_level(level: FirmwareLevel, attributes: ConsoleAttributes) -> FirmwareLevel:
    """Return the level as a partition sees it: without the h-calls that an attribute switches off."""
    off = {call for name, call in CALLS_OF.items() if not getattr(attributes, name)}
    if not off:
        return level
    algorithms = 0 if Opcode.SIGNED_UPDATE in off else level.signed_update_algorithms
    return level._replace(calls=level.calls - off, signed_update_algorithms=algorithms)
