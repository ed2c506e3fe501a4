"""Durable changes: create, delete, rename or change a partition, and name the system.

Pages: spec/control.md#partitions.  A start does not load this module.
"""

# Files and records of a partition that is deleted or renamed
#
# A partition has data in three places: in NVRAM (its record and the system record), in the file of its access
# key, and in its sockets.  One commit changes the records.  A file cannot be part of it, so a kill may come
# between the two.  This must hold:
#
#   1. After a kill at any moment, the partition has one of its two names, and is there whole or not at all.
#   2. No key file stays behind for a name that no partition has.  In a later state Recovery, such a file
#      would look like a lost store.
#
# A start writes the file of each partition that has none, from its record.  So the old file is removed
# before the commit, and a new one is written after it.  A kill between these two steps leaves a partition
# without its file.  The next start writes the file, under the name in the record.  Until then the partition
# is powered off, and its clients do not need the file.
#
# We dropped the other order: a new file before the commit, and the old one removed after it.  A kill would
# leave one file too many.  A start would have to read all files to find it.
#
# A change is one step of the event loop, up to the wait for its commit.  If NVRAM is late, the change stays
# in force in memory and the commit is retried: a commit that hangs may still take effect.

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Protocol

import trio

from hcall_abi.bounds import ACCESS_KEY_SIZE
from hcall_abi.errors import StorageError, SwpksError
from hcall_abi.rules import console, storage
from hcall_server.machine import logs
from hcall_server.machine.patience import PATIENCE, flushed
from hcall_server.platform.partition import Partition
from hcall_server.platform.system import NOTHING, ManagedSystem
from hcall_server.platform.system_state import SystemState
from hcall_server.platform.whole import PartitionWish

if TYPE_CHECKING:
    from hcall_server.keystore.store import Entropy
    from hcall_server.writeback.encryptor import Encryptor


class Places(Protocol):
    """The part of the transport that knows the sockets and the key file of a partition."""

    def publish_key(self, partition: Partition) -> None:
        """Write a partition's access key to the place where clients find it."""

    def forget_key(self, name: str) -> None:
        """Remove the key of a name."""

    def rename_passed(self, before: str, after: str) -> None:
        """Keep the sockets that were passed for a partition, under its new name."""

    def close_passed(self, name: str) -> None:
        """Close the sockets that were passed for a partition which does not exist any more."""


class ReportChange(Protocol):
    """Reports a change of a partition to the encryptor and the log."""

    def __call__(self, event: str, partition: Partition, /, **fields: Any) -> None:
        """Report the change."""


class Changes:
    """Makes, deletes, renames and changes partitions of a machine, and names its system.

    `forget` is called with each deleted partition, in the step that deletes it.  `gone` is called when the
    deletion is durable.
    """

    def __init__(
        self,
        system: ManagedSystem,
        encryptor: Encryptor,
        places: Places,
        *,
        entropy: Entropy,
        forget: Callable[[Partition], None],
        gone: Callable[[Partition], None],
        report: ReportChange,
    ) -> None:
        self._system = system
        self._encryptor = encryptor
        self._places = places
        self._entropy = entropy
        self._forget = forget
        self._gone = gone
        self._report = report
        self._log = logs.Log()
        self._key_turn = trio.Lock()

    def __repr__(self) -> str:
        return f"Changes({self._system!r})"

    def create(
        self,
        name: str,
        kbytes: int = 0,
        *,
        auto_start: bool = True,
        number: int | None = None,
        further: Mapping[str, int] = NOTHING,
    ) -> Partition:
        """Make a partition, powered off; any error leaves the system without it.

        The new partition may take a name that is reserved for a partition that has moved away.
        """
        kept = self._system.reserving(name)
        wish: dict[str, Any] = {"auto_start": auto_start, "number": number, "further": further}
        with ExitStack() as undo:
            partition = self._system.create(name, kbytes, frees_name=True, **wish)
            undo.callback(self._system.partitions.pop, name)
            if kept:
                undo.callback(self._system.departed.__setitem__, kept.uuid, kept)
            self._places.publish_key(partition)
            undo.pop_all()
        if kept:
            self._encryptor.departed_changed(self._system)
            self._log.info("partition.name_freed", name=name, uuid=str(kept.uuid), epoch=kept.epoch)
        self._encryptor.system_changed(self._system)
        self._report("partition.created", partition, kbytes=partition.kbytes)
        return partition

    async def delete(self, name: str, *, destroy: bool = False) -> None:
        """Delete a partition that is powered off, durably.  Its name and number are then free.

        OperatorError if the partition runs.  OperatorError if it holds objects or its record was refused,
        unless `destroy` is true.  StorageError if NVRAM does not remove the record in time.  The encryptor
        goes on trying after this error.
        """
        partition = self._system.demand_deletable(name, destroy=destroy)
        with self._without_key(partition):
            self._system.delete(name, destroy=destroy)
        self._places.close_passed(name)
        self._encryptor.removed(partition)
        self._encryptor.system_changed(self._system)
        self._forget(partition)
        self._report("partition.deleted", partition, uuid=str(partition.profile.uuid), destroy=destroy)
        await self._stored(f"the end of {name}")
        self._gone(partition)

    async def change(
        self,
        name: str,
        *,
        new_name: str | None = None,
        auto_start: bool | None = None,
        attributes: Mapping[str, int] | None = None,
    ) -> Partition:
        """Make all changes of a partition or none, durably; return the partition.

        A new name needs power-off.  StorageError if NVRAM does not store the changes in time.  The encryptor
        goes on trying after this error.
        """
        partition = self._system.find(name)
        before = partition.profile
        wish = PartitionWish(new_name, auto_start, attributes or {})
        self._system.demand_change(name, wish)
        renamed = new_name not in (None, name)
        with self._without_key(partition) if renamed else ExitStack():
            self._system.change(name, wish)
        if renamed:
            self._places.rename_passed(name, partition.name)
            self._encryptor.system_changed(self._system)
        if partition.profile != before:
            fields = {"before": name} if renamed else {}
            self._report(
                "partition.changed", partition, auto_start=partition.auto_start, **fields, **wish.further
            )
        try:
            await self._stored(f"the changes of {partition.name}")
        finally:
            # Write the key file under the new name, even if the commit is late.  Memory has the new name
            # already, so clients look for this file.
            if renamed and not partition.gone:
                self._places.publish_key(partition)
        return partition

    async def set_name(self, name: str) -> None:
        """Give the system another name, durably.

        In the state Recovery no system record is written, because it would end that state.  The end of the
        recovery stores the name then.
        """
        self._system.set_name(name)
        if self._system.state is SystemState.OPERATING:
            self._encryptor.system_changed(self._system)
        self._log.info("system.named", name=name)
        await self._stored("the name of the system")

    # Access keys

    def rotate_key(self, name: str) -> Partition:
        """Give a partition a new access key; sessions go on, and the next OPEN needs the new key."""
        before = self._system.find(name).access_key
        with ExitStack() as undo:
            partition = self._system.set_access_key(name, self._entropy(ACCESS_KEY_SIZE))
            undo.callback(partition.set_access_key, before)
            self._places.publish_key(partition)
            undo.pop_all()
        self._report("partition.access_key", partition)
        return partition

    async def durable_rotate_key(self, name: str) -> Partition:
        """Give a partition a new access key, durably.  Once this returns, the old key is never valid again.

        StorageError if NVRAM does not store the new key in time.  The old key is then in force again.  But
        NVRAM may still complete the late commit.  After a kill before the next flush, either key may be in
        force.
        """
        # Only one rotation runs at a time.  A rotation that fails sets the key in `before` again.  For a
        # second rotation at the same time, that would be the key of the first one, which is not durable.
        async with self._key_turn:
            before = self._system.find(name).access_key
            partition = self.rotate_key(name)
            with trio.move_on_after(PATIENCE):
                if await self._encryptor.flush():
                    return partition
            partition.set_access_key(before)
            if not partition.gone:
                with suppress(SwpksError):  # the next start writes the file again
                    self._places.publish_key(partition)
                self._report("partition.access_key_kept", partition)
        message = f"NVRAM has not stored a new access key of {name}: the old one is in force"
        raise StorageError(storage.ACCESS_KEY_STORED, message)

    def _without_key(self, partition: Partition) -> ExitStack:
        """Remove the key file of a partition.  If the block raises, write the file again."""
        with ExitStack() as undo:
            undo.push(lambda kind, *_: self._put_back(partition) if kind else None)
            self._places.forget_key(partition.name)
            return undo.pop_all()

    def _put_back(self, partition: Partition) -> None:
        with suppress(SwpksError):  # the next start writes the file again
            self._places.publish_key(partition)

    async def _stored(self, what: str) -> None:
        await flushed(self._encryptor, what, console.PARTITION_STORED)
