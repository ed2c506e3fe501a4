"""Copies of stores for the management console, the key that seals them, and restores from them.

A restore sets contents back, but no counter: spec/recovery.md#restore.  A start does not load this module.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple, Protocol

from hcall_abi.errors import OperatorError
from hcall_abi.rules import backup as rules
from hcall_abi.rules import console
from hcall_abi.standstills import KEY_FIRST
from hcall_server.machine import logs
from hcall_server.machine.patience import flushed
from hcall_server.nvram.names import TRUSTED_KEY
from hcall_server.platform.arrival import demand_fit, needs
from hcall_server.platform.custody import Custody, Mode, mode_after_start
from hcall_server.platform.partition import Partition
from hcall_server.platform.system import ManagedSystem
from hcall_server.platform.system_state import SystemState
from hcall_server.platform.trusted_key import TrustedSystemKey
from hcall_server.sealing import PartitionRecord, Sealer, SealingError
from hcall_server.sealing.copies import CopyHeader, open_copy, read_copy, seal_copy
from hcall_server.sealing.restoring import restored
from hcall_server.sealing.trusted_key import open_trusted_key, seal_trusted_key

if TYPE_CHECKING:
    from hcall_server.keystore.store import Entropy
    from hcall_server.sealing.snapshots import SnapshotKey
    from hcall_server.writeback.encryptor import Encryptor


Counters = tuple[int, int, int]
"""Generation, IPL count and restores of a store."""
NEVER_SEEN: Counters = (0, 0, 0)


class ClientKeys(Protocol):
    """The part of the transport that has the access keys of clients."""

    def publish_key(self, partition: Partition) -> None:
        """Write a partition's access key to the place where clients find it."""

    def known_key(self, name: str) -> bytes | None:
        """Return the key that clients of a partition have, None for none."""


class StoreCopy(NamedTuple):
    """A console copy, and its clear facts."""

    header: CopyHeader
    blob: bytes


class Backups:
    """The trusted system key of a system, and copies of its stores.

    `date` returns the time of a copy in seconds since 1970.  `sealed_key` is the stored record of the key,
    None if no key was made yet.  SealingError if that record does not open.  `asks` returns whether a
    restored partition waits for the console's agreement (R-54).
    """

    def __init__(
        self,
        system: ManagedSystem,
        encryptor: Encryptor,
        keys: ClientKeys,
        *,
        sealer: Sealer,
        entropy: Entropy,
        date: Callable[[], float],
        sealed_key: bytes | None,
        asks: Callable[[], bool] = bool,
    ) -> None:
        self._asks = asks
        self.key = None if sealed_key is None else open_trusted_key(sealer, sealed_key)
        self._unsaved = ""
        """The event of the present key, until the key is durable."""
        self._system = system
        self._encryptor = encryptor
        self._keys = keys
        self._sealer = sealer
        self._entropy = entropy
        self._date = date
        self._log = logs.Log()

    def __repr__(self) -> str:
        return f"Backups({self.key!r})"

    # The trusted system key

    async def provide_key(self) -> TrustedSystemKey | None:
        """Return the key once it is durable; None if there is no key.

        If there is none yet, a random key is made.  That needs the state Operating, and an enabled keystore.
        A copy must not leave the system before its key is durable: nothing would open it after a crash.
        """
        operating = self._system.state is SystemState.OPERATING
        if self.key is None and operating and self._system.assigned_kbytes:
            self._set_key(TrustedSystemKey.make(self._entropy), "trusted_key.made")
        await self._flush_key()
        return self.key

    def sealed_key(self) -> bytes | None:
        """Return the key sealed under the root key, as the console stores it; None if there is no key."""
        return None if self.key is None else seal_trusted_key(self._sealer, self.key)

    async def change_key(self, key: TrustedSystemKey, old: TrustedSystemKey | None = None) -> None:
        """Set another key; a given `old` must be the present key.  Only the old key opens earlier copies."""
        self._check_old(old)
        await self._set_key_durably(key, "trusted_key.changed")

    async def restore_key(self, key: TrustedSystemKey, old: TrustedSystemKey | None = None) -> None:
        """Set the key that an operator or the console brings back.

        OperatorError while a partition with a keystore runs.
        """
        self._check_old(old)
        running = [each.name for each in self._system.partitions.values() if each.running and each.kbytes]
        if running:
            message = f"running, with a keystore: {', '.join(running)}; power off each of them first"
            raise OperatorError(rules.TRUSTED_KEY_IDLE, message)
        await self._set_key_durably(key, "trusted_key.restored")

    async def return_key(self, sealed: bytes) -> None:
        """Set the key back from its sealed blob; OperatorError if another root key has sealed the blob."""
        try:
            key = open_trusted_key(self._sealer, sealed)
        except SealingError as error:
            raise OperatorError(rules.TRUSTED_KEY_SEALED, error.message) from None
        await self.restore_key(key)

    def _check_old(self, old: TrustedSystemKey | None) -> None:
        self._system.demand_not_pending()
        if old is not None and old != self.key:
            present = self.key.id.hex() if self.key else "none"
            message = f"the old key has the id {old.id.hex()}, and the present one {present}"
            raise OperatorError(rules.TRUSTED_KEY_OLD, message)

    async def _set_key_durably(self, key: TrustedSystemKey, event: str) -> None:
        self._set_key(key, event)
        await self._flush_key()

    def _set_key(self, key: TrustedSystemKey, event: str) -> None:
        self.key = key
        self._unsaved = event
        self._encryptor.record_changed(TRUSTED_KEY, lambda sealer: seal_trusted_key(sealer, key))

    async def _flush_key(self) -> None:
        """Wait until the present key is durable, and log it once."""
        if self.key is None or not self._unsaved:
            return
        key = self.key
        await flushed(self._encryptor, f"the trusted system key {key.id.hex()}")
        # Several callers may wait for one key.  Only the first one logs it.  If another key was set during
        # the wait, its own caller logs that one.
        if self._unsaved and self.key is key:
            self._log.info(self._unsaved, id=key.id.hex())
            self._unsaved = ""

    # Snapshots

    def snapshot_key(self) -> SnapshotKey:
        """Return the key of the system's own snapshots."""
        from hcall_server.sealing.snapshots import SnapshotKey

        return SnapshotKey(self._sealer.snapshot_secret())

    def now(self) -> int:
        """Return the time for a copy or a snapshot, in whole seconds since 1970 (UTC)."""
        return int(self._date())

    # Copies

    async def copy_of(self, name: str, *, released: bool = False) -> StoreCopy:
        """Return the copy of a partition's store as it is now.

        OperatorError if the partition's records were refused, or if this system does not own the partition.
        `released` also accepts a partition in custody RELEASED: its new owner needs the copy.
        """
        await self.provide_key()
        partition = self._system.find(name)
        if partition.refused:
            raise OperatorError(console.POWER_STORED, f"the keystore of {name} was refused")
        if not (released and partition.profile.custody is Custody.RELEASED):
            partition.demand_owned()
        image = partition.keystore.contents.snapshot() if partition.keystore else None
        blob = seal_copy(
            self._present_key(),
            PartitionRecord(partition.profile, image),
            system_id=self._system.system_id,
            firmware=self._system.level.name,
            time=self.now(),
            entropy=self._entropy,
        )
        return StoreCopy(read_copy(blob), blob)

    async def restore(self, blob: bytes, *, older: bool = True, seen: Counters = NEVER_SEEN) -> Partition:
        """Restore a partition's store from a copy, whole or not at all; return the partition, powered off.

        A partition of the same UUID keeps its name, number, access key and custody.  If there is none, a
        new partition is made.  It gets another number if its own is taken.  The new counters are larger
        than `seen`, the counters that the console knows.

        CopyError if the copy does not open.  OperatorError if the partition runs, or if name or space are
        taken.  OperatorError if the copy is older than the present store, unless `older` is true.
        StorageError if NVRAM does not store it in time: memory has the restored store, and the encryptor
        still tries.
        """
        await self.provide_key()
        header, record, before = self._opened(blob, older=older)
        self._system.demand_room(record.profile, before)
        found = restored_over(record, before, self._system, self._keys, seen)
        partition = self.adopt(found, before)
        await flushed(self._encryptor, f"the restored store of {partition.name}")
        self._log.info(
            "partition.restored",
            partition=partition.name,
            restores=header.restores,
            generation=header.generation,
        )
        return partition

    async def checked(self, blob: bytes, *, older: bool = True, seen: Counters = NEVER_SEEN) -> Partition:
        """Return the partition as `restore` would make it, and change nothing.  Raises the same errors.

        Name and free space are not checked: the console may delete or shrink other partitions first.
        """
        await self.provide_key()
        _, record, before = self._opened(blob, older=older)
        self._system.demand_level(record.profile)
        found = restored_over(record, before, self._system, self._keys, seen)
        return self._system.made(found.profile, found.image)

    def arriving(self, blob: bytes, epoch: int, seen: Counters = NEVER_SEEN) -> PartitionRecord:
        """Return a copy's record as this system is to own it.  Raises the errors of `restore`."""
        header, record, before = self._opened(blob, arrives=True)
        if self._system.state is SystemState.OPERATING:
            objects = record.image.objects if record.image else ()
            profile = record.profile._replace(epoch=epoch)
            demand_fit(self._system, needs(profile, header.firmware, objects))
        self._system.demand_room(record.profile, before)
        return restored_over(record, before, self._system, self._keys, seen)

    def shown(self, record: PartitionRecord) -> Partition:
        """Make the partition of a record, without adding it to the system."""
        return self._system.made(record.profile, record.image)

    def _opened(
        self, blob: bytes, *, older: bool = True, arrives: bool = False
    ) -> tuple[CopyHeader, PartitionRecord, Partition | None]:
        """Return header and record of a copy, and the present partition, None for none.

        This system must own the partition already.  If `arrives` is true, it need not own it yet.
        """
        header, record = open_copy(self._present_key(), blob)
        before = self._system.by_uuid(header.uuid)
        if not arrives:
            self._system.demand_not_left(header.uuid)
            if before is not None:
                before.demand_owned()
        if before is not None and before.running:
            raise OperatorError(rules.COPY_IDLE, f"partition {before.name} runs: power it off first")
        if before is not None and not older:
            _demand_ahead(header, before)
        return header, record, before

    def adopt(self, record: PartitionRecord, before: Partition | None) -> Partition:
        """Make the partition of a record, add it to the system, and return it.

        If `before` is a partition, the new partition replaces it.  The record of the new partition is marked
        dirty.  The system's own records are marked dirty too, if they have to change.
        """
        # Publish the access key first, because only this step can fail.  An error then changes nothing.
        partition = self._system.made(record.profile, record.image)
        self._keys.publish_key(partition)
        partition.mode = self._mode(partition, before)
        places = self._system.places
        if before is not None:
            before.gone = True
            del places[before.name]
        places[partition.name] = partition
        if partition.profile.uuid in self._system.departed:
            del self._system.departed[partition.profile.uuid]
            self._encryptor.departed_changed(self._system)
        self._encryptor.changed(partition)
        # In Recovery the system record is not written.  That record would end the state too early, before
        # all stores are restored.
        if self._system.state is SystemState.OPERATING:
            self._encryptor.system_changed(self._system)
        return partition

    def _mode(self, partition: Partition, before: Partition | None) -> Mode:
        """Return the mode of a restored partition: whether it is served, or has to ask the console first.

        If the store is absent or refused here, this system may have lost it, and another system may have
        restarted the partition meanwhile.
        """
        if before is not None and not before.refused:
            return before.mode
        capable = bool(partition.attributes.simplified_remote_restart_capable)
        return mode_after_start(partition.profile.custody, asks=capable and self._asks())

    def _present_key(self) -> TrustedSystemKey:
        self._system.demand_not_pending()
        if self.key is None:
            recovers = self._system.state is SystemState.RECOVERY
            advice = KEY_FIRST if recovers else "enable a keystore, or chtskey -o restore --newkey FILE"
            message = f"this system has no trusted system key: {advice}"
            raise OperatorError(rules.TRUSTED_KEY_SET, message, advised=True)
        return self.key


def _demand_ahead(header: CopyHeader, before: Partition) -> None:
    """OperatorError if a copy is older than the present store of its partition."""
    restores, generation = present = before.profile.restores, before.profile.image_generation
    if header.age < present:
        made = f"{datetime.fromtimestamp(header.time, UTC):%Y-%m-%d %H:%M:%S} UTC"
        message = (
            f"the copy of {before.name} has restore count {header.restores} and generation "
            f"{header.generation}, of {made}; the present store has {restores} and {generation}"
        )
        raise OperatorError(rules.COPY_BEHIND, message)


def restored_over(
    record: PartitionRecord,
    before: Partition | None,
    system: ManagedSystem,
    keys: ClientKeys,
    seen: Counters = NEVER_SEEN,
) -> PartitionRecord:
    """Return the record to store: contents of the copy, identity of the present partition, new counters.

    The new counters are larger than the present ones, and than `seen`, those that the console knows.
    """
    # If this system has deleted or lost the store, it has no counters of it.  Only the console knows them.
    # The new counters must be larger.  Otherwise another copy of the lost store could count as newer than
    # the restored store.
    profile = record.profile
    if before is None:
        number = system.free_number() if system.number_taken(profile.number) else profile.number
        known = profile._replace(number=number, access_key=keys.known_key(profile.name) or profile.access_key)
        left = system.departed.get(profile.uuid)
        return restored(record._replace(profile=known), *seen, epoch=left.epoch if left else 0)
    present = before.profile
    name = profile.name if before.name_unknown else present.name
    known = profile._replace(
        number=present.number,
        name=name,
        access_key=present.access_key or keys.known_key(name) or profile.access_key,
    )
    counters = map(max, (present.image_generation, present.ipl_count, present.restores), seen)
    custody, epoch, peer = present.custody, present.epoch, present.peer
    return restored(record._replace(profile=known), *counters, custody=custody, epoch=epoch, peer=peer)
