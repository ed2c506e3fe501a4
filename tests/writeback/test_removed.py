"""Records of deleted or renamed partitions are removed, and come back only by a restore."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from hcall_abi.errors import StorageError
from hcall_abi.faults import NvramFault
from hcall_abi.rules import console
from hcall_server.machine.machine import Machine
from hcall_server.nvram import NvramError
from hcall_server.nvram.names import COMMIT, partition_name, records_of
from hcall_server.service.settings import Settings
from hcall_server.writeback.commits import record_id
from tests.parts.test_restores import SETTINGS, World, write
from tests.service.folder import assembled, database_of, old_state
from tests.writeback.workers import ParkedWorker


def stored(world: World, machine: Machine, name: str = "a") -> bool:
    """Return whether NVRAM has the record of a partition."""
    uuid = machine.system.find(name).profile.uuid
    return partition_name(uuid) in world.nvram.records


def names(world: World) -> list[str]:
    """Return the names of the partitions that the next start finds without settings."""
    return list(world.start(Settings()).system.partitions)


async def test_a_deleted_partition_leaves_no_record() -> None:
    """R-23: After a deletion, neither NVRAM nor the commit record has the partition."""
    world = World()
    machine = world.start()
    uuid = machine.system.find("a").profile.uuid
    assert await machine.encryptor.flush()
    assert stored(world, machine)
    await machine.changes.delete("a")
    assert partition_name(uuid) not in world.nvram.records
    assert record_id(partition_name(uuid)) not in world.nvram.records[COMMIT]
    assert names(world) == []


async def test_a_failed_flight_does_not_bring_it_back() -> None:
    """R-23: If a flight with a partition's changes fails after its deletion, only the removal is retried."""
    world, worker = World(), ParkedWorker()
    machine = world.start(worker=worker)
    gone = machine.system.find("a")
    uuid = gone.profile.uuid
    async with trio.open_nursery() as nursery:
        nursery.start_soon(machine.encryptor.flush)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(machine.changes.delete, "a")
        await trio.testing.wait_all_tasks_blocked()
        worker.fail(NvramError("full", "the disk is full"))
        await trio.testing.wait_all_tasks_blocked()
        # This report about the deleted partition comes too late and has no effect.
        machine.encryptor.changed(gone)
        while machine.encryptor.pending:
            worker.let_go()
            await trio.testing.wait_all_tasks_blocked()
    assert partition_name(uuid) not in world.nvram.records
    assert names(world) == []


async def test_a_restore_after_a_deletion_that_is_not_durable() -> None:
    """R-45: A store may be restored before its deletion is durable. The restored record is then stored."""
    world = World()
    machine = world.start()
    machine.power_on("a")
    write(machine, b"object")
    copy = await machine.backups.copy_of("a")
    machine.power_off("a")
    machine.set_nvram_fault(NvramFault("full", times=1))
    with pytest.raises(StorageError) as caught:
        await machine.changes.delete("a", destroy=True)
    assert caught.value.rule is console.PARTITION_STORED
    assert machine.system.partitions == {}
    restored = await machine.backups.restore(copy.blob)
    assert world.start().system.find("a").profile == restored.profile


async def test_a_new_partition_may_have_the_number_of_one_that_is_going() -> None:
    """A flight may remove a deleted partition and write a new one that has its number."""
    world = World()
    machine = world.start()
    gone = machine.system.find("a").profile
    assert await machine.encryptor.flush()
    machine.set_nvram_fault(NvramFault("full", times=1))
    with pytest.raises(StorageError):
        await machine.changes.delete("a")
    new = machine.changes.create("a", 4).profile
    assert (new.number, new.uuid == gone.uuid) == (1, False)
    assert await machine.encryptor.flush()
    assert partition_name(gone.uuid) not in world.nvram.records
    assert world.start(SETTINGS).system.find("a").profile.uuid == new.uuid


async def test_a_power_on_that_waits_for_its_count_fails() -> None:
    """R-04: If a partition is deleted while its power-on waits for NVRAM, the power-on fails.

    The record is not written again.
    """
    world, worker = World(), ParkedWorker()
    machine = world.start(worker=worker)
    uuid = machine.system.find("a").profile.uuid
    caught: list[StorageError] = []

    async def power_on() -> None:
        try:
            await machine.counted_power_on("a")
        except StorageError as error:
            caught.append(error)

    async with trio.open_nursery() as nursery:
        # The second power-on waits for the first.
        for _ in range(2):
            nursery.start_soon(power_on)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(machine.changes.delete, "a")
        await trio.testing.wait_all_tasks_blocked()
        while machine.encryptor.pending:
            worker.let_go()
            await trio.testing.wait_all_tasks_blocked()
    assert [each.rule for each in caught] == [console.POWER_COUNTED] * 2
    assert partition_name(uuid) not in world.nvram.records


async def test_a_rename_is_one_commit() -> None:
    """R-47: A rename is one commit. It writes the partition's new name into its record and the roster.

    In NVRAM the record stays under the same record name.
    """
    world = World()
    machine = world.start()
    assert await machine.encryptor.flush()
    before, commits = set(world.nvram.records), world.nvram.commits
    await machine.changes.change("a", new_name="b")
    assert world.nvram.commits == commits + 1
    assert set(world.nvram.records) == before
    assert names(world) == ["b"]


async def test_a_change_that_is_not_durable_is_retried() -> None:
    """If NVRAM refuses a change, the answer has the rule.

    The same request again waits until it is durable.
    """
    world = World()
    machine = world.start()
    machine.set_nvram_fault(NvramFault("full", times=1))
    with pytest.raises(StorageError) as caught:
        await machine.changes.change("a", auto_start=False)
    assert caught.value.rule is console.PARTITION_STORED
    await machine.changes.change("a", auto_start=False)
    assert not machine.encryptor.pending
    assert world.start().system.find("a").auto_start is False


def test_records_that_were_left_at_level_1_are_removed(tmp_path: Path) -> None:
    """R-02: A refused partition of level 1 has two records under its number. Its deletion removes both."""
    state = old_state(tmp_path / "state", "89ecc72", "stopped")
    damage(state, "partition/00001/image")
    with assembled(state) as machine:
        assert machine.system.find("alpha").refused
        assert records_of(machine.system.find("alpha").profile.uuid) == (
            "partition/00001/profile",
            "partition/00001/image",
        )
        trio.run(partial(machine.changes.delete, "alpha", destroy=True))
    with assembled(state) as machine:
        assert sorted(machine.system.partitions) == ["beta", "gamma"]


def damage(state: Path, name: str) -> None:
    """Change the last byte of a record."""
    with closing(sqlite3.connect(database_of(state))) as nvram, nvram:
        (blob,) = nvram.execute("SELECT blob FROM record WHERE name = ?", [name]).fetchone()
        changed = blob[:-1] + bytes([blob[-1] ^ 1])
        nvram.execute("UPDATE record SET blob = ? WHERE name = ?", [changed, name])
