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

    `uuid` never changes.  Number and name may change, and two systems may use the same ones (R-47).
    `access_key` has 32 bytes.  With it the clients prove themselves over TCP.  If it is b"", no proof is
    right.  `attributes` are those that the console has set.

    `image_generation` is the generation of the image in the same commit.  While the keystore is off, it is
    that of the last image.  `restores` counts the restores of the store.  Generations before and after a
    restore cannot be compared.

    `custody` is that of this system after the attempt `epoch`, 0 if there was none.  `peer` is the id of
    the system at the other end, b"" for none.  It is the target for FROZEN and RELEASED, the source for
    PREPARED.
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
        """Return the profile to use after older records were accepted.

        The profile skips `missing` IPL counts, and its latch is off.  It counts one more restore.
        Otherwise a console copy that was made after these records would count as newer.
        """
        attributes = self.attributes.with_numbers({LATCH: 0})
        ipl_count = (self.ipl_count + missing) % IPL_COUNT_LIMIT
        # A count at its largest value stays there.  A restore refuses this case.  A refusal here would stop
        # the start of the system.
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
