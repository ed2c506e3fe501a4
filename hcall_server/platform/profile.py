"""The profile of a partition: its stored data besides the objects (spec/sealed.md#partition-record)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID

from hcall_abi.calls import Opcode
from hcall_abi.console import AT_FIRST, CALLS_OF, ConsoleAttributes
from hcall_abi.levels import FirmwareLevel
from hcall_server.platform.custody import Custody
from hcall_server.platform.identity import UUID_SIZE

IPL_COUNT_LIMIT = 1 << 32
MOST_RESTORES = (1 << 32) - 1

LATCH = "keystore_signed_updates_without_verification"
"""The attribute that permits one update of PK without verification."""


class PartitionProfile(NamedTuple):
    """The stored data of a partition besides its objects; immutable, changed by `_replace`.

    `uuid` never changes; number and name may change or collide between systems (R-47).  `access_key` is the
    key of its clients' proofs over TCP, 32 bytes; with b"" no proof is right.  `attributes` are those that
    the console has set.  `image_generation` is the generation of the image that is committed with the
    profile; while the keystore is off, it is that of the last image.  `restores` counts the restores of the
    store: generations from before a restore and after it can't be compared.

    `custody` is that of this system after the attempt `epoch`, 0 if none was made.  `peer` is the id of the
    system at the other end of it, b"" for none: the target of FROZEN and RELEASED, the source of PREPARED.
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
    restores: int = 0
    epoch: int = 0
    peer: bytes = b""

    def counted_on(self, missing: int) -> PartitionProfile:
        """Return the profile of an older store: `missing` IPL counts are left out, and the latch is off.

        A start that goes on with older records counts as a restore too.  Without a new count of restores,
        a console copy that was made after these records would count as newer.
        """
        attributes = self.attributes.with_numbers({LATCH: 0})
        ipl_count = (self.ipl_count + missing) % IPL_COUNT_LIMIT
        # At its largest value the count stays. To refuse, as a restore does, would stop the start of the
        # system.
        restores = min(self.restores + 1, MOST_RESTORES)
        return self._replace(attributes=attributes, ipl_count=ipl_count, restores=restores)

    @property
    def at_home(self) -> PartitionProfile:
        """The profile with custody OWN and no attempt: custody is no part of the contents."""
        return self._replace(custody=Custody.OWN, epoch=0, peer=b"")

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
