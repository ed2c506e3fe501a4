"""Named snapshots of a system that runs: save, load, open, compare, remove (spec/snapshots.md).

A start does not load this room.
"""

# A load
#
# A load guarantees:
#
#   1. All of its partitions change, or none.  The plan finds each refusal before the first change, and one
#      commit has all records.  After a crash, the system is that before the load or that after it.  A back
#      end with limits (nvram/etcd) would need several commits for a large load: then this holds for each
#      partition only.
#   2. Contents go back, counters never (`hcall_server.sealing.restoring`).
#   3. The answer comes after the commit.
#
# Only the key files of partitions that the load makes are outside of the commit.  They are written before
# the records change, because only this step can fail.  If it fails, they are removed again.  After a crash,
# the next start removes nothing that is needed: it writes the file of each partition that it finds.
#
# Files, ciphers and scrypt block, so they run in a thread of Trio's pool: `swpks serve` answers h-calls
# meanwhile.  They do not run in the thread of NVRAM, where they would delay every commit.  One of them runs
# at a time: scrypt needs 32 MiB.  The thread gets values that never change, and touches no part of the
# machine.

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import trio

from hcall_abi.bounds import ACCESS_KEY_SIZE
from hcall_abi.console import is_system_name
from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.rules import snapshot as rules
from hcall_server import failpoints
from hcall_server.machine import logs
from hcall_server.machine.patience import flushed
from hcall_server.platform.profile import new_uuid
from hcall_server.sealing import PartitionRecord
from hcall_server.sealing.formats import SALT_SIZE
from hcall_server.sealing.snapshots import (
    OpenedSnapshot,
    Passphrase,
    SnapshotContents,
    SnapshotHeader,
    SnapshotKey,
    open_snapshot,
    read_head,
    seal_snapshot,
)
from hcall_server.snapshots.plan import LeftOut, LoadPlan, planned

if TYPE_CHECKING:
    from hcall_server.machine.machine import Machine
    from hcall_server.platform.partition import Partition

T = TypeVar("T")
_ONE = trio.CapacityLimiter(1)
"""One blocking work at a time in this process."""


class ShelfEntry(NamedTuple):
    """A file on the shelf: the name of the snapshot, the first bytes, and the number of all bytes.

    `problem` is the reason why the file can't be read, "" for none.
    """

    name: str
    head: bytes
    size: int
    problem: str = ""


class Shelf(Protocol):
    """The files of snapshots.  All functions block, and raise SwpksError."""

    def entries(self) -> list[ShelfEntry]:
        """Return all files, by name."""

    def read(self, name: str) -> bytes:
        """Return the snapshot with a name; OperatorError if there is none."""

    def demand_new(self, name: str) -> None:
        """OperatorError if a name is taken, or if there are too many snapshots."""

    def write(self, name: str, blob: bytes, *, portable: bool) -> str:
        """Store a snapshot durably, in place of one with the same name; return the name of the file."""

    def remove(self, name: str) -> None:
        """Remove a snapshot durably; OperatorError if there is none."""


class SnapshotFile(NamedTuple):
    """A snapshot on the shelf with its clear facts, None if they can't be read because of `problem`."""

    name: str
    size: int
    header: SnapshotHeader | None
    problem: str = ""


class Saved(NamedTuple):
    """A saved snapshot, the name of its file, and the partitions that are not in it."""

    shown: SnapshotFile
    file: str
    left_out: tuple[LeftOut, ...]


class Loaded(NamedTuple):
    """A durable load: its snapshot, the partitions with a mark for those that it has made, and the plan."""

    shown: SnapshotFile
    partitions: tuple[tuple[Partition, bool], ...]
    plan: LoadPlan


class Snapshots:
    """The named snapshots of one machine; `shelf` has their files."""

    def __init__(self, machine: Machine, shelf: Shelf) -> None:
        self._machine = machine
        self._shelf = shelf
        self._system = machine.system
        self._log = logs.Log()

    def __repr__(self) -> str:
        return f"Snapshots({self._system!r})"

    async def all(self) -> list[SnapshotFile]:
        """Return the snapshots on the shelf.  None of them is opened."""
        return [_shown(each) for each in await self._beside(self._shelf.entries)]

    async def save(self, name: str, passphrase: Passphrase | None = None, *, force: bool = False) -> Saved:
        """Save the present system; with a passphrase, as a portable snapshot.

        OperatorError if the name is taken, unless `force` is true.
        """
        self._system.demand_operating()
        contents, left_out = self.present()
        key: SnapshotKey | Passphrase = passphrase or self._key
        facts = self._system.system_id, self._system.level.name, self._machine.backups.now()
        salt = self._machine.entropy(SALT_SIZE)  # drawn here: a seeded source belongs to the loop's thread

        def stored() -> tuple[bytes, str]:
            # Check before scrypt runs.  No other save comes between this check and the write.
            if not force:
                self._shelf.demand_new(name)
            system_id, firmware, time = facts
            blob = seal_snapshot(
                key,
                contents,
                system_id=system_id,
                firmware=firmware,
                name=name,
                time=time,
                entropy=lambda _size: salt,
            )
            return blob, self._shelf.write(name, blob, portable=passphrase is not None)

        blob, file = await self._beside(stored)
        failpoints.reached("saved")
        self._log.info("snapshot.saved", name=name, file=file, partitions=len(contents.records))
        return Saved(_file(name, blob), file, left_out)

    async def load(
        self, name: str, passphrase: Passphrase | None = None, *, keep_uuid: bool = False
    ) -> Loaded:
        """Put the system back to a snapshot, whole or not at all; its partitions are powered off then.

        OperatorError if the snapshot does not open, or if the load is refused (`plan`).
        StorageError if NVRAM does not store it in time: memory has the loaded system, and the encryptor
        still tries.
        """
        self._system.demand_operating()
        opened, shown = await self.opened(name, passphrase)
        header, contents = opened
        fresh = header.portable and not keep_uuid
        self._demand_same(header, keep_uuid=keep_uuid)
        records = tuple(map(self._renewed if header.portable else _same, contents.records))
        if fresh:
            records = tuple(map(self._anew, records))
        # From here to the wait for the commit there is no checkpoint (guarantee 1).
        own = not fresh and header.firmware == self._system.level.name
        total = contents.total_kbytes if own else self._system.total_kbytes
        keys, waits = self._machine.transport, self._machine.starts.ipls.waits
        plan = planned(self._system, records, keys, waits=waits, total=total, fresh=fresh)
        partitions = self._carried_out(plan)
        self._system.total_kbytes = total
        if not fresh and is_system_name(contents.system_name):
            self._system.set_name(contents.system_name)
        self._machine.encryptor.system_changed(self._system)
        await flushed(self._machine.encryptor, f"the snapshot {name}", rules.SNAPSHOT_STORED)
        failpoints.reached("loaded")
        self._log.info("snapshot.loaded", name=name, partitions=len(partitions), left_out=len(plan.left_out))
        return Loaded(shown, partitions, plan)

    async def opened(self, name: str, passphrase: Passphrase | None) -> tuple[OpenedSnapshot, SnapshotFile]:
        """Return a snapshot, authenticated and decoded; OperatorError if it does not open."""
        key = self._key

        def work() -> tuple[OpenedSnapshot, SnapshotFile]:
            blob = self._shelf.read(name)
            return open_snapshot(blob, key, passphrase), _file(name, blob)

        return await self._beside(work)

    async def head(self, name: str) -> SnapshotFile:
        """Return the clear facts of a snapshot; OperatorError if it has none."""

        def work() -> SnapshotFile:
            return _file(name, self._shelf.read(name))

        return await self._beside(work)

    async def remove(self, name: str) -> None:
        """Remove a snapshot."""
        await self._beside(lambda: self._shelf.remove(name))
        self._log.info("snapshot.removed", name=name)

    def present(self) -> tuple[SnapshotContents, tuple[LeftOut, ...]]:
        """Return the present system as contents of a snapshot, and the partitions that are not in it.

        All stores are those of one moment, because this function does not wait.
        """
        records, left_out = [], []
        for partition in self._system.partitions.values():
            try:
                partition.demand_owned()
                if partition.refused:
                    raise partition.refused
            except SwpksError as error:
                left_out.append(LeftOut(partition.name, error.message))
                continue
            image = partition.keystore.contents.snapshot() if partition.keystore else None
            records.append(PartitionRecord(partition.profile.at_home, image))
        contents = SnapshotContents(self._system.name, self._system.total_kbytes, tuple(records))
        return contents, tuple(left_out)

    @property
    def _key(self) -> SnapshotKey:
        # After Clear All the system has a new root key, and nothing to save.
        self._system.demand_not_pending()
        return self._machine.backups.snapshot_key()

    def _demand_same(self, header: SnapshotHeader, *, keep_uuid: bool) -> None:
        """OperatorError if the UUIDs of another system, or of an own snapshot, are to be kept."""
        # Two systems with a partition of one UUID would both own it.
        if keep_uuid and (not header.portable or header.system_id != self._system.system_id):
            what = f"by the system {header.system_id.hex()}" if header.portable else "as an own snapshot"
            advice = "leave --keep-uuid out"
            raise OperatorError(
                rules.SNAPSHOT_KEEP_UUID, f"the snapshot was made {what}: {advice}", advised=True
            )

    def _renewed(self, record: PartitionRecord) -> PartitionRecord:
        """Return a record with a new access key: a portable snapshot has none."""
        key = self._machine.entropy(ACCESS_KEY_SIZE)
        return record._replace(profile=record.profile._replace(access_key=key))

    def _anew(self, record: PartitionRecord) -> PartitionRecord:
        """Return a record with a new UUID."""
        uuid = new_uuid(self._machine.entropy)
        return record._replace(profile=record.profile._replace(uuid=uuid))

    def _carried_out(self, plan: LoadPlan) -> tuple[tuple[Partition, bool], ...]:
        """Adopt all partitions of a plan in one turn of the loop; an error changes none."""
        transport, backups = self._machine.transport, self._machine.backups
        with ExitStack() as undo:
            for record, before in plan.places:
                made = backups.shown(record)
                if before is None:
                    undo.callback(transport.forget_key, made.name)
                transport.publish_key(made)
            undo.pop_all()
        return tuple((backups.adopt(record, before), before is None) for record, before in plan.places)

    async def _beside(self, work: Callable[[], T]) -> T:
        """Return the result of blocking work, which runs in a thread."""
        return await trio.to_thread.run_sync(work, limiter=_ONE)


def _same(record: PartitionRecord) -> PartitionRecord:
    return record


def _file(name: str, blob: bytes) -> SnapshotFile:
    return SnapshotFile(name, len(blob), read_head(blob, len(blob)))


def _shown(entry: ShelfEntry) -> SnapshotFile:
    if entry.problem:
        return SnapshotFile(entry.name, entry.size, None, entry.problem)
    try:
        return SnapshotFile(entry.name, entry.size, read_head(entry.head, entry.size))
    except OperatorError as error:
        return SnapshotFile(entry.name, entry.size, None, error.message)
