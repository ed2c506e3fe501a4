"""Recovery: makes partitions of the records in NVRAM, and refuses those whose records do not open.

A record is refused if it is damaged, swapped, truncated, foreign, missing, or not that of the last commit.
Then only its own partition is out of service, with a reason that names it.  Every other partition is
brought back.  Nothing is deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from uuid import UUID

from hcall_abi.console import LARGEST_PARTITION_ID
from hcall_abi.counts import counted
from hcall_abi.errors import OperatorError, StorageError, SwpksError
from hcall_abi.rules import storage as rules
from hcall_server.nvram.names import SYSTEM, parse_partition, partition_name
from hcall_server.platform.partition import Partition
from hcall_server.platform.power import refused
from hcall_server.platform.profile import PartitionProfile
from hcall_server.platform.system import ManagedSystem
from hcall_server.sealing import (
    CommitRecord,
    Listed,
    PartitionRecord,
    Sealer,
    SealingError,
    SystemRecord,
    open_partition,
    open_system,
)
from hcall_server.writeback.commits import record_id

Records = Mapping[str, bytes]
_SYSTEM_ID = record_id(SYSTEM)
OTHER_COPY = "is genuine, but not the one of the last commit: an older copy, or one from elsewhere"


def recover_system(records: Records, commit: CommitRecord, sealer: Sealer) -> SystemRecord:
    """Return the system's own record; StorageError when it is missing, damaged, or not of the last commit."""
    blob = records.get(SYSTEM)
    if blob is None:
        raise loss_of("the system record", records)
    record = open_system(sealer, blob)
    if not commit.lists(_SYSTEM_ID, blob):
        raise StorageError(rules.RECORDS_COMMITTED, f"the system record {OTHER_COPY}")
    return record


def loss_of(what: str, records: Records) -> StorageError:
    """Return the error for NVRAM that has records, but not the one that `what` names."""
    return StorageError(
        rules.SYSTEM_KEYS, f"{what} is missing, and NVRAM holds {counted(len(records), 'record')}"
    )


def recover_partitions(
    system: ManagedSystem,
    records: Records,
    commit: CommitRecord,
    sealer: Sealer,
    roster: Iterable[Listed],
) -> list[Partition]:
    """Bring every stored partition into `system`; return those with `refused` set.

    `roster` is that of the system record.  It has the names of partitions whose own records do not open.
    """
    ids = (UUID(bytes=record) for record in commit.records)
    listed = {each for each in ids if each.version is not None}  # every other record has its name as id
    # Take both sets.  A partition that is listed and not found has lost its record.  One that is found and
    # not listed has an older or a foreign record.  Both kinds are shown as refused.
    found = {uuid for name in records if (uuid := parse_partition(name))}
    recovery = _Recovery(system, records, commit, sealer, listed | found, roster)
    recovery.bring_back_all()
    return [partition for partition in system.partitions.values() if partition.refused]


def stand_in(system: ManagedSystem, name: str, reason: SwpksError, *, number: int, uuid: UUID) -> None:
    """Add a partition whose own name is lost, under the placeholder ``unreadable:`` and `name`.

    No partition can get such a name from an operator, so the placeholder never hides another partition.
    """
    profile = PartitionProfile(
        number=number, name=f"unreadable:{name}", uuid=uuid, access_key=b"", auto_start=False
    )
    system.adopt(profile, state=refused(reason, name_unknown=True))


def largest_free(system: ManagedSystem) -> int:
    """Return the largest free number, for a partition whose own number is lost or taken."""
    taken = {partition.number for partition in system.partitions.values()}
    return next(number for number in range(LARGEST_PARTITION_ID, 0, -1) if number not in taken)


class _Recovery:
    """One run over the records of all partitions."""

    def __init__(
        self,
        system: ManagedSystem,
        records: Records,
        commit: CommitRecord,
        sealer: Sealer,
        uuids: Iterable[UUID],
        roster: Iterable[Listed],
    ) -> None:
        self._system = system
        self._records = records
        self._commit = commit
        self._sealer = sealer
        self._uuids = sorted(uuids)
        self._roster = {each.uuid: each for each in roster}

    def bring_back_all(self) -> None:
        """Bring every partition back, whole or refused."""
        # The most trusted records come first: those of the last commit, then older or foreign copies, then
        # those that do not open.  A copy may have the name or number of an intact partition, and must not
        # take it.
        opened: list[PartitionRecord] = []
        lost: list[tuple[UUID, StorageError]] = []
        for uuid in self._uuids:
            try:
                opened.append(self._opened(uuid))
            except StorageError as why:
                lost.append((uuid, why))
        for record in sorted(opened, key=lambda each: (not self._fits(each), each.profile.number)):
            self._adopt(record, lost)
        for uuid, error in lost:
            self._stand_in(uuid, error)

    def _opened(self, uuid: UUID) -> PartitionRecord:
        blob = self._records.get(partition_name(uuid))
        if blob is None:
            raise StorageError(rules.RECORDS_COMMITTED, f"the record of partition {uuid} is missing")
        try:
            return open_partition(self._sealer, uuid, blob)
        except SealingError as error:
            raise self._sealer.explain(error, blob, self._uuids) from None

    def _adopt(self, record: PartitionRecord, lost: list[tuple[UUID, StorageError]]) -> None:
        """Add a stored partition to the system, or list it in `lost`.

        A partition is lost if another partition of the system already has its name or its number.
        """
        profile, image = record
        objection = self._objection(record)
        if objection is None:
            self._system.adopt(profile, image)
        elif isinstance(objection, OperatorError):
            # This is the present record; only its keystore is too large for the level.  So its access key
            # is valid.
            self._system.adopt(profile, state=refused(objection))
        elif self._is_taken(profile.number, profile.name):
            lost.append((profile.uuid, objection))
        else:
            # The access key in an older copy may have been replaced since, so it is dropped.  Otherwise the
            # start would write the old key to `access-keys/`, and accept it again.
            self._system.adopt(profile._replace(access_key=b""), state=refused(objection))

    def _stand_in(self, uuid: UUID, error: StorageError) -> None:
        """Add a partition whose record does not open: under its own name, if the roster has it."""
        known = self._roster.get(uuid)
        if known is None or self._is_taken(known.number, known.name):
            stand_in(self._system, str(uuid), error, number=largest_free(self._system), uuid=uuid)
            return
        profile = PartitionProfile(known.number, known.name, uuid, access_key=b"", auto_start=False)
        self._system.adopt(profile, state=refused(error))

    def _fits(self, record: PartitionRecord) -> bool:
        uuid = record.profile.uuid
        return self._commit.lists(uuid.bytes, self._records[partition_name(uuid)])

    def _objection(self, record: PartitionRecord) -> StorageError | OperatorError | None:
        """Return the error that refuses a record which opens, None if the record is accepted.

        StorageError if the record is not that of the last commit.  OperatorError if its keystore is too
        large for the level.
        """
        profile, level = record.profile, self._system.level
        if not self._fits(record):
            message = f"the record of partition {profile.name} ({profile.uuid}) {OTHER_COPY}"
            return StorageError(rules.RECORDS_COMMITTED, message)
        kbytes = profile.attributes.keystore_kbytes
        if kbytes > level.max_kbytes:
            limit = f"{level.name} allows {level.max_kbytes} KiB"
            message = f"partition {profile.name} has {kbytes} KiB stored, {limit}"
            return OperatorError(rules.RECORDS_LEVEL, message)
        return None

    def _is_taken(self, number: int, name: str) -> bool:
        return name in self._system.partitions or self._system.by_number(number) is not None
