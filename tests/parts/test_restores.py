"""Restores and key changes during other work: dirty stores, running partitions, faults of NVRAM and disk."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import trio

from hcall_abi.errors import OperatorError, StorageError
from hcall_abi.faults import NvramFault
from hcall_abi.rules import backup, console, storage
from hcall_server.components.anchor_card import AnchorCard
from hcall_server.components.memory import MemoryCard
from hcall_server.components.seam import Card
from hcall_server.data_channel.listeners import Listeners
from hcall_server.data_channel.memory import MemoryTransport
from hcall_server.machine.machine import Machine
from hcall_server.nvram.memory import MemoryNvram
from hcall_server.platform.partition import Partition
from hcall_server.platform.system_state import SystemState
from hcall_server.service.assembly import assemble
from hcall_server.service.erase import losses, reset_settings
from hcall_server.service.settings import PartitionSettings, Settings
from hcall_server.writeback.worker import Worker
from swpks.testing.seams import simulated_seams
from tests.guest import Guest
from tests.service.folder import assembled
from tests.writeback.workers import ParkedWorker

SETTINGS = Settings(partition=(PartitionSettings.of("a", 8),))


class Full(MemoryTransport):
    """A transport whose disk can have no space for an access key."""

    full = False

    def publish_key(self, partition: Partition) -> None:
        """Raise an error if the disk is full."""
        if self.full:
            raise StorageError(storage.ACCESS_KEY_STORED, "the disk is full")


class World:
    """The parts of a system: NVRAM, card and transport. They stay when a machine is started anew."""

    def __init__(self) -> None:
        self.nvram, self.card, self.transport = MemoryNvram(), MemoryCard(), Full()

    def start(self, settings: Settings = SETTINGS, worker: Worker | None = None) -> Machine:
        """Return a new machine with these parts."""
        parts = {"nvram": self.nvram, "card": self.card, "transport": self.transport}
        seams = simulated_seams(**parts, worker=worker)  # type: ignore[arg-type]
        return assemble(seams, settings)


def labels(machine: Machine) -> set[bytes]:
    """Return the labels of the objects in partition `a`."""
    keystore = machine.system.find("a").keystore
    assert keystore is not None
    return {each.label for each in keystore.contents.snapshot().objects}


def write(machine: Machine, label: bytes) -> None:
    """Write an object as the guest of `a`, and mark the partition dirty."""
    partition = machine.system.find("a")
    assert Guest(partition).write(3, label, b"data").status == 0
    machine.encryptor.changed(partition)


async def test_a_restore_takes_the_place_of_what_was_dirty() -> None:
    """R-45: a restore is answered when the restored store is durable.

    Changes that were dirty before are gone.
    """
    world = World()
    machine = world.start()
    machine.power_on("a")
    write(machine, b"old")
    copy = await machine.backups.copy_of("a")
    write(machine, b"new")
    machine.power_off("a")
    restored = await machine.backups.restore(copy.blob)
    assert labels(machine) == {b"old"}
    assert machine.system.find("a") is restored
    again = world.start()
    assert labels(again) == {b"old"}
    assert again.system.find("a").profile.image_generation == restored.profile.image_generation
    assert again.system.find("a").ipl_count == restored.ipl_count


async def test_a_restored_store_is_newer_than_all_that_was_seen_of_it() -> None:
    """R-45: each counter of a restored store is above the counter of the copy and above that in `seen`."""
    machine = World().start()
    copy = await machine.backups.copy_of("a")
    partition = await machine.backups.restore(copy.blob, seen=(40, 0, 7))
    assert (partition.profile.image_generation, partition.profile.restores) == (41, 8)
    await machine.changes.delete("a", destroy=True)
    partition = await machine.backups.restore(copy.blob, seen=(41, 30, 2))
    profile = partition.profile
    assert (profile.image_generation, profile.ipl_count, profile.restores) == (42, 31, 3)
    with pytest.raises(StorageError) as caught:
        await machine.backups.restore(copy.blob, seen=(0, 0, 1 << 32))
    assert caught.value.rule is backup.COPY_COUNTERS


async def test_a_check_shows_what_a_restore_would_leave_and_changes_nothing() -> None:
    """R-45: a check of a copy changes nothing. It is refused for the same reasons as a restore.

    But a check is not refused for a name that is in use, or for a lack of space.
    """
    machine = World().start()
    copy = await machine.backups.copy_of("a")
    before = machine.system.find("a")
    checked = await machine.backups.checked(copy.blob, seen=(40, 0, 7))
    assert (checked.profile.image_generation, checked.profile.restores) == (41, 8)
    assert machine.system.find("a") is before
    assert not before.gone
    await machine.backups.restore(copy.blob)
    for blob, rule in ((copy.blob, backup.COPY_BEHIND), (copy.blob[:-1] + b"?", backup.COPY_AUTHENTIC)):
        with pytest.raises(OperatorError) as caught:
            await machine.backups.checked(blob, older=False)
        assert caught.value.rule is rule
    machine.power_on("a")
    with pytest.raises(OperatorError) as caught:
        await machine.backups.checked(copy.blob)
    assert caught.value.rule is backup.COPY_IDLE
    machine.power_off("a")
    await machine.changes.delete("a", destroy=True)
    machine.changes.create("a")
    assert (await machine.backups.checked(copy.blob)).name == "a"


async def test_a_restore_that_is_refused_changes_nothing() -> None:
    """R-45: if the access key can't be written, the restore fails and changes nothing."""
    world = World()
    machine = world.start()
    copy = await machine.backups.copy_of("a")
    before = machine.system.find("a")
    world.transport.full = True
    with pytest.raises(StorageError):
        await machine.backups.restore(copy.blob)
    assert machine.system.find("a") is before
    assert not before.gone


async def test_no_copy_leaves_before_its_key_is_durable(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-53: no copy is returned before its key is durable. A second attempt waits for the key too.

    Otherwise a power cut could destroy the only key that opens the copy.
    """
    world = World()
    machine = world.start()
    machine.set_nvram_fault(NvramFault("full", times=1000))
    for _ in range(2):
        with pytest.raises(StorageError) as caught:
            await machine.backups.copy_of("a")
        assert caught.value.rule is backup.BACKUP_STORED
    machine.set_nvram_fault(None)
    copy = await machine.backups.copy_of("a")
    assert world.start().backups.key == machine.backups.key
    assert copy.header.tsk_id == machine.backups.key.id  # type: ignore[union-attr]


async def test_an_ipl_that_waits_for_its_count_does_not_start_a_restored_store() -> None:
    """R-45: if a restore replaces a store whose IPL waits for its count, that IPL is refused.

    The restored store has another IPL count.
    """
    world, worker = World(), ParkedWorker()
    copy = await world.start().backups.copy_of("a")
    machine = world.start(worker=worker)
    refused: list[StorageError] = []

    async def power_on() -> None:
        try:
            await machine.counted_power_on("a")
        except StorageError as error:
            refused.append(error)

    async with trio.open_nursery() as nursery:
        for request in (power_on, lambda: machine.backups.restore(copy.blob)):
            nursery.start_soon(request)
            await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):
            worker.let_go()
            await trio.testing.wait_all_tasks_blocked()
    assert [error.rule for error in refused] == [console.POWER_COUNTED]
    assert not machine.system.find("a").running


async def test_the_end_of_a_recovery_may_be_repeated(autojump_clock: trio.testing.MockClock) -> None:
    """R-48: if NVRAM fails, the end of Recovery fails too. The same request succeeds later."""
    world = World()
    machine = world.start(Settings())
    await machine.recovery.begin()
    machine.set_nvram_fault(NvramFault("full", times=1000))
    with pytest.raises(StorageError):
        await machine.recovery.end(give_up=True)
    assert world.start(Settings()).system.state is SystemState.RECOVERY
    machine.set_nvram_fault(None)
    assert await machine.recovery.end(give_up=False) == ([], [])
    assert world.start(Settings()).system.state is SystemState.OPERATING


@pytest.mark.parametrize("damage", ["new", "damaged"])
def test_a_reset_never_wipes_the_last_copy_of_the_root_key(tmp_path: Path, damage: str) -> None:
    """R-61: with a new or damaged card, Reset Settings is refused, because only the wrapped copy is left.

    A start restores the card; then Reset Settings works.
    """
    state, card = tmp_path / "state", tmp_path / "state" / "anchor-card" / "anchor-card"
    with assembled(state) as machine:
        system_id = machine.system.system_id
    card.unlink() if damage == "new" else card.write_bytes(b"no card")
    for refused in (lambda: losses(state, "reset-settings"), lambda: reset_settings(state, bytes)):
        with pytest.raises(StorageError, match="start the system once") as caught:
            refused()
        assert caught.value.rule is storage.ROOT_KEY_READABLE
    with assembled(state) as machine:
        assert machine.access.row == "card-replaced"
    reset_settings(state, bytes)
    with assembled(state) as machine:
        assert (machine.system.state, machine.system.system_id) == (SystemState.RECOVERY, system_id)


async def test_numbers_of_restored_stores_do_not_collide() -> None:
    """R-47: if a restored store has the number of another partition, it gets a free number."""
    made = World().start(Settings(partition=(PartitionSettings.of("a", 8), PartitionSettings.of("b", 8))))
    copies = [await made.backups.copy_of(name) for name in ("a", "b")]
    other = World().start(Settings(partition=(PartitionSettings.of("c", 8),)))
    assert made.backups.key is not None
    await other.backups.change_key(made.backups.key)
    for copy in copies:
        await other.backups.restore(copy.blob)
    assert sorted(each.number for each in other.system.partitions.values()) == [1, 2, 3]


async def test_partitions_of_the_settings_get_their_keys_after_a_recovery() -> None:
    """R-48: when Recovery ends, the partitions of the settings get their access keys and run."""
    world = World()
    await world.start(Settings()).recovery.begin()
    machine = world.start()
    published: list[str] = []
    machine.transport.publish_key = lambda partition: published.append(partition.name)  # type: ignore[method-assign]
    await machine.recovery.end(give_up=True)
    assert published == ["a"]
    assert machine.system.find("a").running


def test_a_reset_destroys_the_seed_that_a_killed_clear_all_has_left(tmp_path: Path) -> None:
    """R-62: Reset Settings replaces the seed of the TPM.

    With the old seed, old NVRAM would give the old root key.
    """
    state = tmp_path / "state"
    with assembled(state):
        pass
    seed = (state / "tpm" / "seed").read_bytes()
    card = AnchorCard(state / "anchor-card")
    held = card.read()
    assert held is not None
    # This is only the first step of Clear All. The card is written, and the old seed still exists.
    card.write(Card(held.identity._replace(root_key=bytes(32)), reset_pending=True))
    reset_settings(state, os.urandom)
    assert (state / "tpm" / "seed").read_bytes() != seed
    with assembled(state) as machine:
        assert machine.system.state is SystemState.OPERATING
    assert all(seed not in path.read_bytes() for path in state.rglob("*") if path.is_file())


async def test_a_passed_socket_waits_for_its_partition(tmp_path: Path) -> None:
    """R-48: a partition opens at the socket that was reserved for it.

    The reserved socket of a lost partition is closed.
    """
    with assembled(tmp_path / "state", SETTINGS) as machine:
        listeners = machine.transport
        assert isinstance(listeners, Listeners)
        with socket.socket(socket.AF_UNIX) as passed, socket.socket(socket.AF_UNIX) as lost:
            listeners.reserve(passed, "a")
            listeners.reserve(lost, "b")
            listeners.open(machine.system.find("a"))
            assert not (tmp_path / "state" / "run" / "a.sock").exists()
            listeners.close_passed("b")
            assert lost.fileno() < 0
            listeners.close_all()
