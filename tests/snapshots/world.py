"""A system in memory with snapshots in a real folder."""

from __future__ import annotations

from pathlib import Path

from hcall_abi.errors import StorageError
from hcall_abi.rules import storage
from hcall_server.components.memory import MemoryCard
from hcall_server.data_channel.memory import MemoryTransport
from hcall_server.machine.machine import Machine
from hcall_server.nvram.memory import MemoryNvram
from hcall_server.platform.partition import Partition
from hcall_server.service.assembly import assemble
from hcall_server.service.settings import PartitionSettings, Settings
from hcall_server.snapshots.shelf_files import SnapshotFiles
from hcall_server.snapshots.snapshots import Snapshots
from swpks.testing.seams import simulated_seams
from tests.guest import Guest

SETTINGS = Settings(partition=(PartitionSettings.of("a", 8), PartitionSettings.of("b", 8)))
EMPTY = Settings()
WORDS = "correct horse battery"


class Keys(MemoryTransport):
    """A transport whose disk can have no space for the access key of one partition."""

    full = ""

    def publish_key(self, partition: Partition) -> None:
        """Raise an error for the partition in `full`."""
        if partition.name == self.full:
            raise StorageError(storage.ACCESS_KEY_STORED, "the disk is full")
        super().publish_key(partition)


class World:
    """The parts of a system, which stay when a machine is started anew, and the folder of its snapshots."""

    def __init__(self, folder: Path) -> None:
        self.files = SnapshotFiles(folder / "snapshots")
        self.keys: dict[str, bytes] = {}
        self.nvram, self.card, self.transport = MemoryNvram(), MemoryCard(), Keys(self.keys)

    def start(self, settings: Settings = SETTINGS) -> Machine:
        """Return a new machine with these parts: after a machine that is dropped, this is a power cut."""
        seams = simulated_seams(nvram=self.nvram, card=self.card, transport=self.transport)
        return assemble(seams, settings)

    def of(self, machine: Machine) -> Snapshots:
        """Return the snapshots of a machine."""
        return Snapshots(machine, self.files)


def write(machine: Machine, name: str, label: bytes, data: bytes = b"CANARY-data") -> None:
    """Write an object as the guest of a partition, and mark the partition dirty."""
    partition = machine.system.find(name)
    assert Guest(partition).write(3, label, data).status == 0
    machine.encryptor.changed(partition)


def labels(machine: Machine, name: str) -> set[bytes]:
    """Return the labels of the objects in a partition."""
    keystore = machine.system.find(name).keystore
    assert keystore is not None
    return {each.label for each in keystore.contents.snapshot().objects}


def filled(machine: Machine) -> None:
    """Write one object in each partition, then power both off."""
    for name in ("a", "b"):
        machine.power_on(name)
        write(machine, name, b"old")
        machine.power_off(name)
