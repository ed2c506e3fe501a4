"""A managed system with its encryptor on NVRAM in memory.

For a power cut, a test drops the system and starts another from the records.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hcall_abi.errors import SwpksError
from hcall_abi.faults import NvramFault
from hcall_server.components.memory import MemoryCard
from hcall_server.components.seam import Card, Components
from hcall_server.faults.nvram import FaultyNvram
from hcall_server.keystore.image import StoreImage
from hcall_server.keystore.store import Entropy, Keystore
from hcall_server.machine.logs import Log
from hcall_server.nvram import (
    COMMIT,
    SYSTEM,
    Nvram,
    NvramError,
    Trouble,
    parse_partition,
    partition_name,
)
from hcall_server.nvram.memory import MemoryNvram
from hcall_server.platform.identity import SystemIdentity
from hcall_server.platform.partition import Partition
from hcall_server.sealing import (
    NO_COMMIT,
    CommitAuthority,
    PartitionRecord,
    Sealer,
    SystemRecord,
    open_partition,
    seal_partition,
    seal_system,
)
from hcall_server.service.assembly import Seams, assemble
from hcall_server.service.settings import PartitionSettings, Settings
from hcall_server.writeback.commits import record_id
from hcall_server.writeback.worker import Worker
from swpks.testing.seams import simulated_seams
from tests.guest import Chance, Guest
from tests.nvram.backends import Backend

PENDING, FLUSHED, GONE = (0, 0), (0, 1), (-7, 1)
"""The answers of CONFIRM: status and r4."""
IDENTITY = SystemIdentity(bytes(range(16)), bytes(range(32)), sealed_level=1)
"""Level 1: such a system accepts records without a mark, because its first start may have been cut short."""


def make_sealer(identity: SystemIdentity = IDENTITY) -> Sealer:
    return Sealer(identity, Chance(b"sealer"))


def first_records(partitions: int, kbytes: int) -> dict[str, bytes]:
    """Return the records that a system with these partitions writes to NVRAM at its first start."""
    wishes = tuple(PartitionSettings.of(f"lpar{n + 1}", kbytes) for n in range(partitions))
    machine = assemble(_seams(MemoryNvram()), Settings(partition=wishes))
    sealer = make_sealer()
    records = {SYSTEM: seal_system(sealer, SystemRecord.of(machine.system))}
    for partition in machine.system.partitions.values():
        image = partition.keystore.contents.snapshot() if partition.keystore else None
        record = PartitionRecord(partition.profile, image)
        records[partition_name(partition.profile.uuid)] = seal_partition(sealer, record)
    return committed(records)


def committed(records: Mapping[str, bytes], identity: SystemIdentity = IDENTITY) -> dict[str, bytes]:
    """Return these records and a commit record that lists them all."""
    blobs = {record_id(name): blob for name, blob in records.items() if name != COMMIT}
    return {**records, COMMIT: CommitAuthority(identity.root_key).encode(NO_COMMIT.after(blobs))}


def nth_record(records: Mapping[str, bytes], number: int) -> str:
    """Return the name of the record of the partition with this number."""
    for name, blob in records.items():
        uuid = parse_partition(name)
        if uuid and open_partition(make_sealer(), uuid, blob).profile.number == number:
            return name
    raise KeyError(number)


def _seams(nvram: Nvram, worker: Worker | None = None, entropy: Entropy | None = None) -> Seams:
    """Return seams without a TPM: a wrapped copy would add a record to the first commits."""
    seams = simulated_seams(nvram=nvram, worker=worker, entropy=entropy or Chance())
    return seams._replace(components=Components(MemoryCard(Card(IDENTITY)), ()))


class Journal(MemoryNvram):
    """NVRAM that remembers each commit that took effect."""

    def __init__(self, records: Mapping[str, bytes] | None = None) -> None:
        super().__init__(records)
        self.journal: list[dict[str, bytes | None]] = []

    def commit(self, changes: Mapping[str, bytes | None]) -> None:
        super().commit(changes)
        self.journal.append(dict(changes))

    def images(self) -> Iterable[StoreImage]:
        """Open every partition image that was ever committed."""
        for changes in self.journal:
            for name, blob in changes.items():
                uuid = parse_partition(name)
                image = open_partition(make_sealer(), uuid, blob).image if uuid and blob else None
                if image is not None:
                    yield image


class BackedJournal(Journal):
    """The same over another back end; `records` are those that it has after each attempt to commit."""

    def __init__(self, records: Mapping[str, bytes], backend: Backend) -> None:
        super().__init__(records)
        self._backend = backend
        self.inner = backend.opened()
        self.inner.commit(records)

    def load(self) -> dict[str, bytes]:
        return self.inner.load()

    def commit(self, changes: Mapping[str, bytes | None]) -> None:
        try:
            self.inner.commit(changes)
        finally:
            self.records = self._backend.records()
        self.commits += 1
        self.journal.append(dict(changes))

    def last_commit(self) -> bytes | None:
        return self.inner.last_commit()

    def close(self) -> None:
        self.inner.close()


class Rig:
    """The running partitions lpar1, lpar2, ..., a guest of each, and their encryptor."""

    def __init__(
        self,
        partitions: int = 1,
        *,
        records: Mapping[str, bytes] | None = None,
        plan: Iterable[NvramFault] = (),
        worker: Worker | None = None,
        entropy: Entropy | None = None,
        kbytes: int = 64,
        backend: Backend | None = None,
    ) -> None:
        found = first_records(partitions, kbytes) if records is None else records
        self.journal = Journal(found) if backend is None else BackedJournal(found, backend)
        self.nvram = FaultyNvram(self.journal, plan)
        self.sealer = make_sealer()
        self.machine = assemble(_seams(self.nvram, worker, entropy), Settings())
        self.system = self.machine.system
        self.encryptor = self.machine.encryptor
        self.told: list[SwpksError | None] = []
        self.encryptor.on_trouble = self.told.append
        self.guests = [Guest(partition) for partition in self.system.partitions.values()]
        for partition in self.system.partitions.values():
            if not partition.refused:
                partition.power_on()

    @property
    def kinds(self) -> list[Trouble | None]:
        """The faults of NVRAM that were reported, in order. None stands for the end of a fault."""
        assert all(error is None or isinstance(error, NvramError) for error in self.told)
        return [error.kind if isinstance(error, NvramError) else None for error in self.told]

    def move(self, number: int) -> None:
        """Give the only partition another number and power it on."""
        partition = self.partition()
        self.system.adopt(partition.profile._replace(number=number)).power_on()
        self.guests[0] = Guest(self.partition())

    @property
    def refused(self) -> list[Partition]:
        """Partitions whose records could not be opened."""
        return [partition for partition in self.system.partitions.values() if partition.refused]

    def partition(self, n: int = 0) -> Partition:
        return list(self.system.partitions.values())[n]

    def store(self, n: int = 0) -> Keystore:
        store = self.partition(n).keystore
        assert store is not None
        return store

    def write(self, label: bytes, data: bytes = b"data", *, n: int = 0, policy: int = 0) -> None:
        """Write an object and notify the encryptor, as the data channel does after a batch."""
        assert self.guests[n].write(3, label, data, policy=policy).status == 0
        self.notify(n)

    def remove(self, label: bytes, *, n: int = 0) -> None:
        """Remove an object and notify the encryptor, as the data channel does after a batch."""
        assert self.guests[n].remove(3, label).status == 0
        self.notify(n)

    def confirm(self, label: bytes, *, n: int = 0) -> tuple[int, int]:
        """Call CONFIRM for an object, and notify the encryptor that a guest waits."""
        status, flushed, _, _ = self.guests[n].confirm(3, label)
        self.notify(n)
        return status, flushed

    def notify(self, n: int = 0) -> None:
        """Notify the encryptor as the data channel does at the end of a batch."""
        self.machine.after_calls(self.partition(n), Log())

    def changed(self, *numbers: int) -> None:
        """Notify the encryptor as the control channel does after a request."""
        for n in numbers or range(len(self.guests)):
            self.encryptor.changed(self.partition(n))

    def power_cut(self) -> Rig:
        """Return the system that starts from the records in NVRAM."""
        return Rig(records=self.journal.records)

    def objects(self, n: int = 0) -> dict[bytes, bytes]:
        """Return the labels and data that a start would find if every change were durable."""
        return {held.label: held.data for held in self.store(n).contents.snapshot().objects}
