"""Loads of snapshots: contents go back, counters never, all partitions or none."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from hcall_abi.errors import OperatorError, StorageError
from hcall_abi.rules import console
from hcall_abi.rules import snapshot as rules
from hcall_server.platform.custody import Custody, Mode
from hcall_server.platform.departed import Departed
from hcall_server.platform.system_state import SystemState
from hcall_server.sealing.snapshots import Passphrase
from hcall_server.service.settings import Settings
from tests.snapshots.world import EMPTY, SETTINGS, WORDS, World, filled, labels, write


async def test_contents_go_back_and_counters_never(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-83: a load puts objects and attributes back, with larger counters, in one durable commit."""
    world = World(tmp_path)
    commit, machine = world.nvram.commit, world.start()
    filled(machine)
    await world.of(machine).save("base")
    for name in ("a", "b"):
        machine.power_on(name)
        write(machine, name, b"new")
        machine.power_off(name)
    machine.set_attributes("a", {"secure_boot": 2})
    before = {name: machine.system.find(name).profile for name in ("a", "b")}
    await machine.encryptor.flush()
    commits: list[object] = []

    def counted(changes: Mapping[str, bytes | None]) -> None:
        commits.append(changes)
        commit(changes)

    monkeypatch.setattr(world.nvram, "commit", counted)
    loaded = await world.of(machine).load("base")
    assert [made for _, made in loaded.partitions] == [False, False]
    # The machine is dropped here: a power cut between commit and answer leaves the loaded state.
    again = world.start(EMPTY)
    assert len(commits) == 1
    for name in ("a", "b"):
        profile = again.system.find(name).profile
        assert labels(again, name) == {b"old"}
        assert profile.image_generation > before[name].image_generation
        assert profile.ipl_count > before[name].ipl_count
        assert profile.restores == 1
        assert profile.access_key == before[name].access_key
        assert not again.system.find(name).running
    assert again.system.find("a").attributes.secure_boot == "off"


async def test_running_partitions_are_named_together(tmp_path: Path) -> None:
    """R-83: a load is refused while its partitions run.  All of them are named, with the remedy."""
    world = World(tmp_path)
    machine = world.start()
    await world.of(machine).save("base")
    machine.start()
    with pytest.raises(OperatorError) as caught:
        await world.of(machine).load("base")
    assert caught.value.rule is rules.SNAPSHOT_IDLE
    assert "a, b" in caught.value.message
    assert "swpks hmc power b off" in caught.value.message


async def test_deleted_renamed_and_new_partitions(tmp_path: Path) -> None:
    """R-83: a deleted partition is made again with its UUID; a renamed one keeps its name; new ones stay."""
    world = World(tmp_path)
    machine = world.start()
    filled(machine)
    uuids = {name: machine.system.find(name).profile.uuid for name in ("a", "b")}
    await world.of(machine).save("base")
    await machine.changes.delete("b", destroy=True)
    await machine.changes.change("a", new_name="z")
    machine.changes.create("c", 4, number=2)
    machine.system.set_name("renamed")
    loaded = await world.of(machine).load("base")
    assert {each.name: made for each, made in loaded.partitions} == {"z": False, "b": True}
    assert loaded.plan.untouched == ("c",)
    again = world.start(EMPTY).system
    assert again.find("z").profile.uuid == uuids["a"]
    assert again.find("b").profile.uuid == uuids["b"]
    assert (again.find("b").number, again.find("c").number) == (3, 2)
    assert world.keys["b"] == again.find("b").access_key


async def test_a_taken_name_refuses_the_whole_load(tmp_path: Path) -> None:
    """R-83: if another partition has a name of the snapshot now, nothing is changed."""
    world = World(tmp_path)
    machine = world.start()
    filled(machine)
    await world.of(machine).save("base")
    await machine.changes.delete("b", destroy=True)
    machine.changes.create("b", 4)
    with pytest.raises(OperatorError) as caught:
        await world.of(machine).load("base")
    assert caught.value.rule is console.NAME_NEW
    assert machine.system.find("a").profile.restores == 0


async def test_sizes_are_checked_together(tmp_path: Path) -> None:
    """R-83: all keystores after the load have to fit the total, before any of them changes."""
    world = World(tmp_path)
    machine = world.start(Settings(system_total_kbytes=20, partition=SETTINGS.partition))
    await world.of(machine).save("base")
    await machine.changes.delete("b", destroy=True)
    machine.changes.create("c", 8)
    with pytest.raises(OperatorError) as caught:
        await world.of(machine).load("base")
    assert caught.value.rule is console.SIZE_TOTAL
    assert "24 KiB" in caught.value.message
    await machine.changes.delete("c", destroy=True)
    await world.of(machine).load("base")


async def test_a_full_disk_at_a_key_file_changes_nothing(tmp_path: Path) -> None:
    """R-83: if the key file of a new partition can't be written, no partition changes, and no file stays."""
    world = World(tmp_path)
    machine = world.start()
    filled(machine)
    await world.of(machine).save("base")
    await machine.changes.delete("a", destroy=True)
    await machine.changes.delete("b", destroy=True)
    world.transport.full = "b"
    with pytest.raises(StorageError):
        await world.of(machine).load("base")
    assert not machine.system.partitions
    assert not world.keys
    world.transport.full = ""
    await world.of(machine).load("base")
    assert set(machine.system.partitions) == set(world.keys) == {"a", "b"}


async def test_partitions_that_are_not_owned_are_left_out(tmp_path: Path) -> None:
    """R-83: partitions that move, or have moved away, are left out of saves and loads, and named."""
    world = World(tmp_path)
    machine = world.start()
    filled(machine)
    snapshots = world.of(machine)
    await snapshots.save("base")
    moving, gone = machine.system.find("a"), machine.system.find("b")
    moving.set_custody(Custody.FROZEN, 1, b"p" * 16)
    moving.mode = Mode.IN_DOUBT
    machine.system.delete("b", destroy=True)
    uuid = gone.profile.uuid
    machine.system.departed[uuid] = Departed(uuid, "b", Custody.GONE, 2, b"q" * 16, True)
    loaded = await snapshots.load("base")
    assert [each.name for each in loaded.plan.left_out] == ["a", "b"]
    assert loaded.partitions == ()
    assert machine.system.find("a") is moving
    saved = await snapshots.save("later")
    assert [each.name for each in saved.left_out] == ["a"]
    assert saved.shown.header is not None
    assert saved.shown.header.partitions == 0


async def test_a_portable_one_makes_new_partitions_elsewhere(tmp_path: Path) -> None:
    """R-83: another system gets new UUIDs and access keys; its name stays."""
    world, other = World(tmp_path / "1"), World(tmp_path / "2")
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    machine = world.start()
    filled(machine)
    saved = await world.of(machine).save("base", Passphrase(WORDS))
    there = other.start(Settings(name="there"))
    other.files.write("copied", world.files.read("base"), portable=True)
    assert saved.file == "base.portable"
    with pytest.raises(OperatorError) as caught:
        await other.of(there).load("copied", Passphrase(WORDS), keep_uuid=True)
    assert caught.value.rule is rules.SNAPSHOT_KEEP_UUID
    await other.of(there).load("copied", Passphrase(WORDS))
    for name in ("a", "b"):
        here, made = machine.system.find(name).profile, there.system.find(name).profile
        assert (labels(there, name), made.number) == ({b"old"}, here.number)
        assert made.uuid != here.uuid
        assert made.access_key not in (here.access_key, bytes(32))
    assert there.system.name == "there"
    # on the first system the names are taken, and --keep-uuid puts its own partitions back
    with pytest.raises(OperatorError) as caught:
        await world.of(machine).load("base", Passphrase(WORDS))
    assert "--keep-uuid" in caught.value.message
    before = machine.system.find("a").profile
    await world.of(machine).load("base", Passphrase(WORDS), keep_uuid=True)
    after = machine.system.find("a").profile
    assert (after.uuid, after.access_key) == (before.uuid, before.access_key)


async def test_an_own_snapshot_of_another_system_is_refused(tmp_path: Path) -> None:
    """R-83: the own snapshot of another system, or of a root key that was destroyed, does not open."""
    world = World(tmp_path)
    await world.of(world.start()).save("base")
    world.nvram, world.card = type(world.nvram)(), type(world.card)()
    with pytest.raises(OperatorError) as caught:
        await world.of(world.start()).load("base")
    assert caught.value.rule is rules.SNAPSHOT_SYSTEM


async def test_only_an_operating_system_saves_and_loads(tmp_path: Path) -> None:
    """R-83: in the state Recovery a load would hide which stores are lost, so it is refused."""
    world = World(tmp_path)
    machine = world.start()
    await world.of(machine).save("base")
    machine.system.state = SystemState.RECOVERY
    for work in (world.of(machine).save("x"), world.of(machine).load("base")):
        with pytest.raises(OperatorError) as caught:
            await work
        assert caught.value.rule is console.SYSTEM_OPERATING
