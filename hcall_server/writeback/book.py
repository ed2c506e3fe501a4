"""The changes that are not durable yet: those in the present flight, and those for the next one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from hcall_server.nvram.names import partition_name
from hcall_server.sealing import PartitionRecord, Sealer, seal_partition

if TYPE_CHECKING:
    from hcall_server.keystore.store import Keystore
    from hcall_server.platform.partition import Partition
    from hcall_server.platform.profile import PartitionProfile

Seal = Callable[[Sealer], bytes | None]
"""Seals a record of the system itself as it is at the time of the call; None removes the record."""


def awaited(keystore: Keystore | None) -> bool:
    """Return whether CONFIRM was answered "not yet" for a change that is still not flushed."""
    return keystore is not None and keystore.contents.awaited > keystore.contents.flushed


class Snapshot(NamedTuple):
    """One partition in a flight; its profile has the generation of its image."""

    partition: Partition
    keystore: Keystore | None
    profile: PartitionProfile

    def covers(self, partition: Partition) -> bool:
        """Return whether this snapshot is still current."""
        # A profile has the generation of its keystore.  So if the profiles are equal, no object has
        # changed.  The keystore is compared by `is`: the landing marks only the keystore of the snapshot.
        return self.keystore is partition.keystore and self.profile == partition.profile

    def sealed(self, sealer: Sealer) -> bytes:
        """Return the partition's sealed record; no call may have run since the snapshot was taken."""
        image = self.keystore.contents.snapshot() if self.keystore else None
        return seal_partition(sealer, PartitionRecord(self.profile, image))

    def mark_flushed(self) -> None:
        """Mark the image durable in the keystore."""
        # Mark the keystore of the snapshot.  The partition may have got another keystore during the flight.
        if self.keystore:
            self.keystore.contents.mark_flushed(self.profile.image_generation)


class Batch(NamedTuple):
    """The contents of one flight: partitions by number, and records of the system by their names in NVRAM.

    `since` is the time of the oldest change in it.
    """

    snapshots: Mapping[int, Snapshot]
    own: Mapping[str, Seal]
    since: float

    def sealed(self, sealer: Sealer) -> dict[str, bytes | None]:
        """Return the sealed records by their names in NVRAM; None removes a record."""
        records = {name: seal(sealer) for name, seal in self.own.items()}
        # Partitions come last, because their records have priority.  If a partition is deleted, and restored
        # before the flush, `records` still has the removal under the same name.
        for each in self.snapshots.values():
            records[partition_name(each.profile.uuid)] = each.sealed(sealer)
        return records


_NOTHING = Batch(MappingProxyType({}), MappingProxyType({}), 0.0)


class Book:
    """Partitions and records of the system that are dirty, and those in the present flight.

    A partition can be both: changes after its snapshot belong to the next flight.
    """

    def __init__(self) -> None:
        self.since = 0.0
        """The time of the oldest dirty change; has no meaning while all is clean."""
        self._dirty: dict[int, Partition] = {}
        self._own: dict[str, Seal] = {}
        self._flying = _NOTHING

    @property
    def clean(self) -> bool:
        """Whether the next flight would be empty."""
        return not self._dirty and not self._own

    def is_dirty(self, partition: Partition) -> bool:
        """Return whether the next flight takes the partition already."""
        return self._dirty.get(partition.number) is partition

    def add(self, partition: Partition, now: float) -> bool:
        """Mark a partition dirty; return False if there is nothing to write.

        There is nothing to write if the partition is refused or gone.  The same holds if the present flight
        has all of its changes.
        """
        # The records of a refused partition stay byte for byte, because the operator may repair them.  A
        # partition that is gone was deleted or replaced by a restored one.  Its record must not be written
        # again.
        if partition.refused or partition.gone:
            return False
        flying = self._flying.snapshots.get(partition.number)
        if flying is not None and flying.covers(partition):
            return False  # so a guest that polls during the flight causes no second commit
        if partition.number not in self._dirty:
            self._note(now)
        self._dirty[partition.number] = partition  # a restored partition replaces the earlier one
        return True

    def add_own(self, name: str, seal: Seal, now: float) -> None:
        """Mark a record of the system dirty."""
        self._note(now)
        self._own[name] = seal

    def drop(self, partition: Partition) -> None:
        """Forget the dirty changes of a partition that is gone."""
        # A new partition may have the number of the deleted one already.  So `is_dirty` compares the
        # object, not the number.
        if self.is_dirty(partition):
            del self._dirty[partition.number]

    def take(self) -> Batch:
        """Move all dirty changes into a flight, and return its contents.

        A change after this call is not in the flight.  `add` marks it dirty for the next flight.
        """
        snapshots = {
            number: Snapshot(partition, partition.keystore, partition.profile)
            for number, partition in self._dirty.items()
        }
        self._flying = Batch(snapshots, self._own, self.since)
        self._dirty, self._own = {}, {}
        return self._flying

    def flushed(self) -> None:
        """Mark the flight durable, here and in its keystores."""
        for snapshot in self._flying.snapshots.values():
            snapshot.mark_flushed()
        self._flying = _NOTHING

    def put_back(self) -> bool:
        """Make the contents of the flight dirty again.

        Return whether a CONFIRM has asked for some of them.
        """
        flown, self._flying = self._flying, _NOTHING
        for number, snapshot in flown.snapshots.items():
            if not snapshot.partition.gone:
                # Do not replace a dirty partition.  It may be a restored one that took this number during
                # the flight.
                self._dirty.setdefault(number, snapshot.partition)
        self._own = {**flown.own, **self._own}  # a newer change has priority, such as a removal after a write
        self.since = flown.since
        return any(awaited(snapshot.keystore) for snapshot in flown.snapshots.values())

    def holds(self, partition: Partition) -> bool:
        """Return whether a partition has changes that are not durable."""
        return partition.number in self._dirty or partition.number in self._flying.snapshots

    @property
    def pending(self) -> int:
        """The number of partitions with changes that are not durable."""
        return len(self._dirty.keys() | self._flying.snapshots.keys())

    @property
    def oldest(self) -> float:
        """The time of the oldest pending change of a partition."""
        return self._flying.since if self._flying.snapshots else self.since

    def _note(self, now: float) -> None:
        if self.clean:
            self.since = now
