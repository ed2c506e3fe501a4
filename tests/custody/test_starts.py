"""How starts, settings, copies and Recovery work with custody (R-52, R-53, R-54)."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
import trio.testing

from hcall_abi.control_views import EventView
from hcall_abi.errors import OperatorError, StorageError
from hcall_abi.faults import NvramFault
from hcall_abi.requests import (
    release_partition,
    show_system,
    tell_custody,
)
from hcall_abi.rules import backup, storage
from hcall_abi.rules import migration as rules
from hcall_server.control_channel.views import health_view
from hcall_server.platform.custody import Custody, Mode, Word
from hcall_server.platform.departed import Departed
from hcall_server.sealing import system
from hcall_server.service.settings import PartitionSettings, Settings
from tests.custody.conftest import Stage
from tests.custody.world import HMC, WITH_A, A, E, Home

AGAIN = Settings(partition=(PartitionSettings.of(A, 64), PartitionSettings.of("b", 8)))


def lines(capsys: pytest.CaptureFixture[str], event: str) -> list[dict[str, Any]]:
    """Return the log lines with this event."""
    found = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    return [each for each in found if each["event"] == event]


# Names of partitions that are elsewhere


async def test_settings_make_no_partition_that_has_moved(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    """R-51: if the partition has moved, `serve --partition NAME` makes none, and logs where it is."""
    await stage.released()
    capsys.readouterr()
    for step in ("released", "gone"):
        after = stage.s.cut(settings=AGAIN)
        (line,) = lines(capsys, "partition.moved")
        assert (line["partition"], line["uuid"]) == (A, str(stage.uuid))
        assert (line["target"], line["epoch"]) == (stage.t.id.hex(), E)
        order = "rrstartlpar -o cleanup" if step == "released" else f"swpks hmc create {A}"
        assert order in line["advice"]
        assert ("create" in line["advice"]) is (step == "gone"), "the name is refused while the store is here"
        assert sorted(after.machine.system.partitions) == ([A, "b"] if step == "released" else ["b"])
        assert await after.starts() == ["b"]
        if step == "released":
            assert after.machine.system.find(A).kbytes == 16
            assert await stage.t.take(stage.uuid, Word.ACTIVATE)
            assert await stage.s.take(stage.uuid, Word.ACTIVE)


@pytest.mark.parametrize("home", ["s", "t"])
async def test_a_release_without_migrations_refuses_a_system_whose_partitions_moved(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    """R-55: once a partition has moved, an older release without migrations refuses the state.

    Otherwise it would make a second partition of that name.
    """
    nvram = getattr(stage, home).nvram
    before = nvram.copy()
    nvram.states.clear()
    await stage.gone()
    states = list(nvram.states)
    assert states
    monkeypatch.setattr(system, "SYSTEM_TAGS", frozenset({1}))
    assert getattr(stage, home).cut(before)
    for state in states:
        with pytest.raises(StorageError, match="unknown tag 2"):
            getattr(stage, home).cut(state)


async def test_a_target_that_was_only_barred_is_refused_by_it_too(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-55: a bar stores an epoch, so an older release refuses this state too."""
    assert await stage.t.take(stage.uuid, Word.BAR)
    monkeypatch.setattr(system, "SYSTEM_TAGS", frozenset({1}))
    with pytest.raises(StorageError, match="unknown tag 2"):
        stage.t.cut()


async def test_a_new_partition_frees_the_name_and_nothing_else(stage: Stage) -> None:
    """R-51: if a new partition takes the name of one that left, the old partition's record stays.

    The old partition can come back when the name is free.
    """
    await stage.gone()
    created = stage.s.machine.changes.create(A, 8)
    assert created.profile.uuid != stage.uuid
    assert await stage.s.machine.encryptor.flush()
    for settings in (WITH_A, AGAIN):
        machine = stage.s.cut(settings=settings).machine
        departed = machine.system.departed[stage.uuid]
        assert departed == Departed(stage.uuid, A, Custody.GONE, E, stage.t.id, reserves_name=False)
        assert machine.system.find(A).profile.uuid == created.profile.uuid
    await stage.t.take(stage.uuid, Word.BEGIN, E + 1)
    await stage.t.take(stage.uuid, Word.AGREED, E + 1, peer=stage.s.id)
    traveller = stage.t.machine.custodian.traveller_of(stage.t.a)
    with pytest.raises(OperatorError):
        await stage.s.take(stage.uuid, Word.FINAL, E + 1, traveller=traveller)
    await stage.s.machine.changes.delete(A)
    assert await stage.s.take(stage.uuid, Word.FINAL, E + 1, traveller=traveller, peer=stage.t.id)
    assert await stage.s.take(stage.uuid, Word.ACTIVATE, E + 1)
    assert stage.s.machine.system.departed == {}
    assert "custody" not in stage.s.nvram.records


async def test_a_copy_that_was_dropped_keeps_the_name_reserved(stage: Stage) -> None:
    """R-51: if a copy was dropped on its way back, its name stays reserved.

    So no start makes another partition of that name.
    """
    await stage.gone()
    back = Stage(stage.t, stage.s)
    await back.prepared(E + 1)
    machine = stage.s.cut(settings=AGAIN).machine
    assert machine.system.find(A).profile.custody is Custody.PREPARED
    assert machine.system.find(A).kbytes == 16
    await stage.t.take(stage.uuid, Word.ABORT, E + 1)
    await stage.t.take(stage.uuid, Word.RESUME, E + 1)
    assert await stage.s.take(stage.uuid, Word.ABORTED, E + 1)
    machine = stage.s.cut(settings=AGAIN).machine
    assert sorted(machine.system.partitions) == ["b"]
    assert machine.system.departed[stage.uuid].epoch == E + 1


async def test_a_deleted_partition_keeps_its_last_attempt(stage: Stage) -> None:
    """R-51: after a deletion, words of older attempts have no effect on the UUID. The name is free."""
    await stage.gone()
    stage.t.machine.power_off(A)
    await stage.t.machine.changes.delete(A, destroy=True)
    machine = stage.t.cut(settings=AGAIN).machine
    assert machine.system.departed == {stage.uuid: Departed(stage.uuid, A, Custody.NONE, E)}
    assert sorted(machine.system.partitions) == [A, "b"]


async def test_partitions_that_are_not_owned_are_not_changed(stage: Stage) -> None:
    """R-51: requests of an operator are refused for prepared and released partitions."""
    await stage.prepared()
    await stage.s.take(stage.uuid, Word.ABORT)
    for home in (stage.s, stage.t):
        changes = home.machine.changes
        for refused in (
            lambda: home.machine.set_attributes(A, {"keystore_kbytes": 32}),  # noqa: B023 - called at once
            lambda: changes.rotate_key(A),  # noqa: B023
            lambda: home.machine.system.demand_deletable(A, destroy=True),  # noqa: B023
            lambda: home.machine.power_on(A),  # noqa: B023
        ):
            with pytest.raises(OperatorError) as caught:
                refused()
            assert caught.value.rule is rules.CUSTODY_OWNED
        with pytest.raises(OperatorError) as caught:
            await home.machine.backups.copy_of(A)
        assert caught.value.rule in (rules.CUSTODY_OWNED, backup.TRUSTED_KEY_SET)


async def test_a_contradiction_refuses_the_start(stage: Stage) -> None:
    """R-02: a start is refused if a partition has a record, and another record says that it left."""
    await stage.in_doubt()
    stage.s.machine.system.departed[stage.uuid] = Departed(stage.uuid, A, Custody.GONE, E, stage.t.id)
    stage.s.machine.encryptor.departed_changed(stage.s.machine.system)
    assert await stage.s.machine.encryptor.flush()
    with pytest.raises(StorageError) as caught:
        stage.s.cut()
    assert caught.value.rule is rules.CUSTODY_RECORD
    del stage.s.nvram.records["custody"]
    with pytest.raises(StorageError) as caught:
        stage.s.cut()
    assert caught.value.rule is storage.RECORDS_COMMITTED


# Asking


class Reader:
    """A console that reads the event stream of a system."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.events: list[EventView] = []

    async def read(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read events forever."""
        async with self.home.link.events(HMC.hex()) as stream:
            task_status.started()
            async for event in stream:
                self.events.append(event)

    def asked(self) -> list[str]:
        """Return the partitions that have asked for their custody since the last call."""
        found = [each.partition for each in self.events if each.kind == "ask-custody"]
        self.events.clear()
        return found


async def test_a_partition_asks_before_it_is_served(stage: Stage, nursery: trio.Nursery) -> None:
    """R-54: if there is a console, a partition asks it after each start.

    Health shows that until the answer.
    """
    s = stage.s
    assert stage.s.cut().at(stage.uuid)[1] is Mode.SERVING
    await s.machine.attachment.attach(HMC, "hmc")
    await s.start()
    assert (s.a.running, s.a.mode) == (False, Mode.ASKING)
    view = await s.link.call(show_system())
    assert [(each.custody, each.mode, each.epoch) for each in view.custody] == [("own", "asking", 0)]
    assert "partition a: it waits for its console (asking)" in health_view(s.machine).reasons
    with pytest.raises(OperatorError, match="serve --without-console") as caught:
        await s.machine.counted_power_on(A)
    assert caught.value.rule is rules.CUSTODY_CONFIRMED
    # If this change were permitted, the partition could start without the question to the console.
    with pytest.raises(OperatorError) as caught:
        s.machine.set_attributes(A, {"simplified_remote_restart_capable": 0})
    assert caught.value.rule is rules.CUSTODY_CONFIRMED
    reader = Reader(s)
    await nursery.start(reader.read)
    await trio.testing.wait_all_tasks_blocked()
    assert reader.asked() == [A]
    view = await s.link.call(tell_custody(str(stage.uuid), 0, "serve"))
    assert view.custody == []
    assert await s.machine.encryptor.flush()
    await trio.testing.wait_all_tasks_blocked()
    assert (s.a.running, s.a.ipl_count, s.machine.waiting) == (True, 2, [])
    assert health_view(s.machine).ok


async def test_a_partition_that_is_about_to_start_is_not_released(stage: Stage) -> None:
    """R-52, R-54: after SERVE and before its activation, a partition cannot be released."""
    s = stage.s
    await s.machine.attachment.attach(HMC, "hmc")
    await s.start()
    s.machine.nvram.set_faults(NvramFault("io", times=2))
    await s.link.call(tell_custody(str(stage.uuid), 0, "serve"))
    assert (s.a.running, s.machine.waiting) == (False, [s.a])
    with pytest.raises(OperatorError, match="a is about to start") as caught:
        await s.link.call(release_partition(A, str(stage.uuid), E, stage.t.id.hex()))
    assert caught.value.rule is rules.MIGRATION_POWER
    await s.machine.encryptor.stored()
    await trio.testing.wait_all_tasks_blocked()
    assert s.a.running


async def test_only_capable_partitions_ask(stage: Stage) -> None:
    """R-54: a partition without remote restart asks no question, once the console knows that setting.

    After a start on older records it asks, whatever its setting.
    """
    await stage.s.machine.attachment.attach(HMC, "hmc")
    older = stage.s.nvram.copy()
    stage.s.machine.power_off(A)
    stage.s.machine.set_attributes(A, {"simplified_remote_restart_capable": 0})
    assert await stage.s.machine.encryptor.flush()
    unknown = stage.s.nvram.copy()
    profile, attachment = stage.s.a.profile, stage.s.machine.attachment
    facts = {"restores": profile.restores, "generation": profile.image_generation, "time": 1}
    attachment.made(profile, 1)
    await attachment.keep(stage.s.a, stage.uuid, **facts)
    capable_not = stage.s.nvram.copy()
    # The console's copy may still have the value 1, so the system asks.
    assert stage.s.cut(unknown).at(stage.uuid)[1] is Mode.ASKING
    assert stage.s.cut(older).at(stage.uuid)[1] is Mode.ASKING
    assert await stage.s.cut(capable_not).starts() == [A]
    await stage.s.machine.counted_power_on(A)
    capable_not.mark = stage.s.nvram.copy().mark
    assert stage.s.cut(capable_not, accept_older=True).at(stage.uuid)[1] is Mode.ASKING


async def test_a_source_in_doubt_asks_at_once(stage: Stage, nursery: trio.Nursery) -> None:
    """R-51: a source in doubt sends its question on the event stream at once."""
    await stage.s.machine.attachment.attach(HMC, "hmc")
    reader = Reader(stage.s)
    await nursery.start(reader.read)
    await stage.frozen()
    await trio.testing.wait_all_tasks_blocked()
    assert reader.asked() == []
    await stage.s.take(stage.uuid, Word.ABORT)
    await trio.testing.wait_all_tasks_blocked()
    assert reader.asked() == [A]


async def test_without_its_console_it_starts_all_the_same(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    """R-54: with the operator's override, a partition starts without its console.

    Log and health show this.
    """
    await stage.s.machine.attachment.attach(HMC, "hmc")
    capsys.readouterr()
    after = stage.s.cut(settings=Settings(without_console=True))
    (line,) = lines(capsys, "partition.unconfirmed")
    assert line["partitions"] == [A]
    assert await after.starts() == [A]
    reasons = health_view(after.machine).reasons
    assert reasons == ["partition a: it was started without the console (--without-console)"]
    await stage.s.machine.attachment.detach(HMC)
    assert stage.s.cut(settings=Settings(without_console=True)).machine.unconfirmed == ()


async def test_a_fenced_partition_stays_off_for_ever(stage: Stage) -> None:
    """R-54: a fenced partition stays off, although this system knows no attempt that moved it."""
    s = stage.s
    await s.machine.attachment.attach(HMC, "hmc")
    await s.start()
    await s.link.call(tell_custody(str(stage.uuid), 9, "fenced", peer_id="ee" * 16))
    assert (s.a.profile.custody, s.a.profile.peer) == (Custody.RELEASED, b"\xee" * 16)
    for settings in (s.settings, Settings(without_console=True)):
        assert await s.cut(settings=settings).starts() == []
    view = await s.link.call(tell_custody(str(stage.uuid), 9, "active"))
    assert view.partitions == []
    assert await s.cut().starts() == []


async def test_copies_are_asked_of_owned_partitions_alone(stage: Stage, nursery: trio.Nursery) -> None:
    """R-52: the console is asked to copy only owned partitions, so an old store replaces no better copy."""
    for home in (stage.s, stage.t):
        await home.machine.attachment.attach(HMC, "hmc")
    await stage.prepared()
    for home in (stage.s, stage.t):
        await home.machine.backups.provide_key()
        reader = Reader(home)
        await nursery.start(reader.read)
        home.machine.attachment.look()
        await trio.testing.wait_all_tasks_blocked()
        assert "take-copy" not in [each.kind for each in reader.events]
