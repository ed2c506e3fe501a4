"""Profile backups with machines: restored contents, losses, and kills at every request (R-46)."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import trio

from hcall_abi.errors import OperatorError
from hcall_abi.requests import (
    change_partition,
    create_partition,
    delete_partition,
    restore_copy,
    set_trusted_key,
    show_copy,
    show_system,
    show_trusted_key,
)
from hcall_abi.rules import hmc as rules
from hcall_server.console.jobs import Job
from hcall_server.console.profile_format import ProfileBackup, decode_profiles, encode_profiles
from hcall_server.console.profile_plan import RestoreLevel
from hcall_server.service.settings import Settings
from tests.console.rig import CANARY, Rig, Site, running
from tests.console.test_recovery import disarm, interrupt, lost, started_alone

KEY = bytes(range(32))


async def saved(rig: Rig) -> ProfileBackup:
    """Return a backup of a system with objects in its two stores, after a round trip through its file."""
    await rig.write("a", CANARY)
    await rig.write("b", b"of b")
    return decode_profiles(encode_profiles(await rig.console.save_profiles(rig.system)))


async def restored(
    rig: Rig, level: RestoreLevel, backup: ProfileBackup | None, *, force: bool = False
) -> Job:
    """Carry out a restore to its end."""
    plan = await rig.console.plan_profiles(rig.system, level, backup)
    job = await rig.ended(rig.console.restore_profiles(rig.system, plan, force=force))
    assert job.state == "done", job.lines
    return job


async def names(rig: Rig) -> list[str]:
    return [each.name for each in (await rig.ask(show_system())).partitions]


async def test_contents_go_back_and_counters_never(autojump_clock) -> None:
    """R-46: the loss of later updates is announced first; without --forcekeystore nothing is changed."""
    async with running(Site()) as rig:
        backup = await saved(rig)
        await rig.write("a", b"a later update")
        before = rig.site.machine.system.find("a").profile
        plan = await rig.console.plan_profiles(rig.system, 2, backup)
        assert len(plan.forced) == 1
        assert "a: back to " in plan.forced[0]
        assert "later updates are lost" in plan.forced[0]
        with pytest.raises(OperatorError) as caught:
            rig.console.restore_profiles(rig.system, plan)
        assert caught.value.rule is rules.HMC_PROFILE_FORCED
        assert rig.data("a") == b"a later update"
        await restored(rig, 2, backup, force=True)
        assert rig.data("a") == CANARY
        after = rig.site.machine.system.find("a").profile
        assert after.restores == before.restores + 1
        assert after.image_generation > before.image_generation
        assert after.ipl_count > before.ipl_count
        await rig.copied()


async def test_a_deleted_store_that_comes_back_outranks_all_copies_of_before(autojump_clock) -> None:
    """R-45, R-46: After a deletion and a restore, a recovery takes a copy from after the restore."""
    async with running(Site()) as rig:
        backup = await saved(rig)
        uuid = rig.uuid("a")
        await restored(rig, 2, backup)
        for number in range(5):
            await rig.write("a", b"deleted %d" % number)
        await rig.copied()
        newest = max(each.rank for each in rig.system.copies if each.uuid == uuid)
        count = rig.site.machine.system.find("a").ipl_count
        await rig.ask(delete_partition("a", destroy=True))
        await rig.until(lambda: uuid in rig.store.forgotten(rig.system.key))
        await restored(rig, 3, backup)
        profile = rig.site.machine.system.find("a").profile
        assert profile.restores == newest[0] + 1
        assert profile.image_generation == newest[1] + 1
        assert profile.ipl_count > count
        await rig.write("a", b"after")
        await rig.copied()
        await lost(rig)
        await rig.until(lambda: rig.console.jobs.all[-1].kind == "recover")
        assert (await rig.ended()).state == "done"
        assert rig.data("a") == b"after"


async def test_counters_are_those_of_all_systems_also_of_a_forwarded_restore(autojump_clock) -> None:
    """R-45: To a restore that an operator sends, the console adds the largest counters of all systems."""
    async with running(Site("lab"), Site("other", "")) as rig:
        other = rig.sites["/other"]
        for site in rig.sites.values():
            await rig.ask(set_trusted_key("change", key=KEY), site)
        await rig.write("a", CANARY)
        copy = (await rig.ask(show_copy("a"))).copy
        for number in range(3):
            await rig.write("a", b"later %d" % number)
        await rig.copied()
        before = rig.site.machine.system.find("a").profile
        await rig.ask(delete_partition("a", destroy=True))
        rig.console.find("lab").wake()
        view = await rig.console.find("other").call(restore_copy(copy))
        assert (view.restores, view.generation) == (before.restores + 1, before.image_generation + 1)
        assert view.ipl_count > before.ipl_count - 1
        assert rig.data("a", other) == CANARY


async def test_a_full_restore_makes_the_system_as_it_was(autojump_clock) -> None:
    """Level 1 restores deleted partitions with their UUIDs, deletes new ones, and sets names again."""
    async with running(Site()) as rig:
        backup = await saved(rig)
        uuids = {name: rig.uuid(name) for name in "ab"}
        await rig.ask(delete_partition("a", destroy=True))
        await rig.ask(change_partition("b", new_name="renamed"))
        await rig.ask(create_partition("c", 16))
        await restored(rig, 1, backup)
        assert await names(rig) == ["a", "b"]
        assert {name: rig.uuid(name) for name in "ab"} == uuids
        assert (rig.data("a"), rig.data("b")) == (CANARY, b"of b")
        assert rig.store.forgotten(rig.system.key) & set(uuids.values()) == set()


async def test_level_4_leaves_no_partition(autojump_clock) -> None:
    async with running(Site()) as rig:
        await saved(rig)
        plan = await rig.console.plan_profiles(rig.system, 4, None)
        assert len(plan.forced) == 2
        await restored(rig, 4, None, force=True)
        assert await names(rig) == []


async def test_a_running_partition_refuses_the_whole_restore(autojump_clock) -> None:
    async with running(Site()) as rig:
        backup = await saved(rig)
        rig.site.machine.power_on("b")
        plan = await rig.console.plan_profiles(rig.system, 1, backup)
        with pytest.raises(OperatorError) as caught:
            rig.console.restore_profiles(rig.system, plan, force=True)
        assert caught.value.rule is rules.HMC_PROFILE_IDLE
        assert rig.console.jobs.all == []


async def test_a_partition_that_another_system_has_is_skipped(autojump_clock) -> None:
    """A partition of another system is skipped, also after that system has deleted it."""
    lab, other = Site("lab"), Site("other", "")
    async with running(lab, other) as rig:
        for site in (lab, other):
            await rig.ask(set_trusted_key("change", key=KEY), site)
        backup = await saved(rig)
        known = rig.console.find("other")
        plan = await rig.console.plan_profiles(known, 3, backup)
        assert plan.steps == []
        assert plan.lines[0] == "a: skipped: the system lab has this partition"
        await rig.ask(delete_partition("a", destroy=True))
        await rig.until(lambda: len(rig.console.find("lab").view.partitions) == 1)  # type: ignore[union-attr]
        plan = await rig.console.plan_profiles(known, 3, backup)
        assert plan.steps == []
        serial = rig.console.find("lab").type_model_serial
        assert plan.lines[0] == f"a: skipped: it is one of the system lab ({serial})"
        await restored(rig, 3, backup)
        assert rig.data("a") == CANARY


async def test_partitions_of_a_system_that_is_away_are_its_own(autojump_clock) -> None:
    """R-46: A restore skips the partition of another system, also while that system is away."""
    lab, other = Site("lab"), Site("other", "")
    async with running(lab, other) as rig:
        backup = await saved(rig)
        await rig.copied()
        known, away = rig.console.find("other"), rig.console.find("lab")
        away.view = away.view and msgspec.structs.replace(away.view, partitions=[])
        lab.kill()
        await rig.until(lambda: not away.connected)
        plan = await rig.console.plan_profiles(known, 3, backup)
        assert plan.lines[0] == "a: skipped: the system lab has this partition"
        await rig.restart_console()
        plan = await rig.console.plan_profiles(rig.console.find("other"), 3, backup)
        assert plan.lines[0] == "a: skipped: the system lab has this partition"


async def test_a_backup_of_the_predecessor_comes_back(autojump_clock) -> None:
    """R-46: After the loss of card and processor, the operator's key restores the old system's backup."""
    async with running(Site()) as rig:
        await rig.ask(set_trusted_key("change", key=KEY))
        backup = await saved(rig)
        before = rig.system.system_id
        rig.site.kill()
        rig.site.lose_card_and_service_processor()
        await rig.site.start(rig.nursery, Settings(name="lab"))
        await rig.until(lambda: rig.system.system_id != before and rig.system.connected)
        assert rig.system.former_ids == {before}
        await rig.ask(set_trusted_key("restore", key=KEY))
        await rig.restart_console()
        await restored(rig, 3, backup)
        assert rig.data("a") == CANARY


async def test_copies_of_an_old_key_go_back_and_the_present_key_stays(autojump_clock) -> None:
    async with running(Site()) as rig:
        backup = await saved(rig)
        await rig.ask(set_trusted_key("change", key=KEY))
        present = (await rig.ask(show_trusted_key())).id
        await restored(rig, 1, backup)
        assert (await rig.ask(show_trusted_key())).id == present
        assert rig.data("a") == CANARY


async def test_copies_that_this_system_can_not_open_change_nothing(autojump_clock) -> None:
    """The key in a backup opens only under its system's root key, so another system changes nothing."""
    async with running(Site()) as rig:
        backup = await saved(rig)
        await rig.copied()
        rig.site.kill()
        rig.site.lose_card_and_service_processor()
        await rig.site.start(rig.nursery)
        before = rig.system.system_id
        await rig.until(lambda: rig.system.system_id != before and rig.system.connected)
        plan = await rig.console.plan_profiles(rig.system, 1, backup)
        job = await rig.ended(rig.console.restore_profiles(rig.system, plan, force=True))
        assert job.state == "failed"
        assert job.lines[-1].endswith("nothing was changed")
        assert await names(rig) == ["a", "b"]


async def test_profiles_of_a_system_in_recovery_are_refused(autojump_clock) -> None:
    async with running(Site("lab", ""), manual_recovery=True) as rig:
        await rig.site.machine.recovery.begin()
        with pytest.raises(OperatorError) as caught:
            await rig.console.save_profiles(rig.system)
        assert caught.value.rule is rules.HMC_PROFILE_STATE


async def test_a_system_that_loses_its_data_meanwhile_is_recovered(autojump_clock) -> None:
    """R-45, R-46: If the system loses its data in a restore, the job fails and a recovery begins."""
    async with running(Site()) as rig:
        backup = await saved(rig)
        await rig.copied()
        plan = await rig.console.plan_profiles(rig.system, 1, backup)
        rig.site.kill()
        rig.site.lose_service_processor()
        job = rig.console.restore_profiles(rig.system, plan, force=True)
        await rig.site.start(rig.nursery)
        assert (await rig.ended(job)).state == "failed"
        assert "recover it, then restore the profiles again" in job.lines[-1]
        await rig.until(lambda: rig.console.jobs.all[-1].kind == "recover")
        assert (await rig.ended()).state == "done"
        assert rig.data("a") == CANARY


async def test_a_system_without_a_keystore_has_facts_alone(autojump_clock) -> None:
    """The backup of a system without a trusted key has attributes only, and no copies."""
    async with running(Site("lab", "")) as rig:
        await rig.ask(create_partition("a", 0, number=7, attributes={"secure_boot": 2}))
        backup = await rig.console.save_profiles(rig.system)
        assert [each.copy for each in backup.partitions] == [None]
        await rig.ask(delete_partition("a"))
        await restored(rig, 1, backup)
        (partition,) = (await rig.ask(show_system())).partitions
        assert (partition.name, partition.number, partition.secure_boot) == ("a", 7, "enforce")


REQUESTS = 22
"""More than the requests of a whole restore."""


async def changed(rig: Rig) -> ProfileBackup:
    """Change the system in each way after a backup; return the backup."""
    backup = await saved(rig)
    await rig.ask(delete_partition("a", destroy=True))
    await rig.ask(change_partition("b", new_name="renamed"))
    await rig.ask(create_partition("c", 16))
    await rig.copied()
    return backup


async def demand_restored(rig: Rig) -> None:
    assert rig.console.jobs.all[-1].state == "done", rig.console.jobs.all[-1].lines
    assert await names(rig) == ["a", "b"]
    assert (rig.data("a"), rig.data("b")) == (CANARY, b"of b")


@pytest.mark.usefixtures("not_measured")
@pytest.mark.parametrize("at", range(REQUESTS))
async def test_a_restore_survives_a_kill_of_the_console(at: int, autojump_clock, tmp_path: Path) -> None:
    """After a kill at any request the job continues with the announced plan."""
    async with running(Site(), path=tmp_path / "console.sqlite") as rig:
        backup = await changed(rig)
        plan = await rig.console.plan_profiles(rig.system, 1, backup)
        killed = trio.Event()

        def kill() -> None:
            rig.kill_console()
            killed.set()

        interrupt(rig, at, kill)
        rig.console.restore_profiles(rig.system, plan)
        with trio.move_on_after(20):
            await killed.wait()
        if killed.is_set():
            await rig.start_console()
        await rig.ended()
        await demand_restored(rig)


@pytest.mark.parametrize("at", range(REQUESTS))
async def test_a_restore_survives_a_kill_of_the_system(at: int, autojump_clock) -> None:
    """After a kill of the system at any request, the job waits for it and continues."""
    async with running(Site()) as rig:
        backup = await changed(rig)
        plan = await rig.console.plan_profiles(rig.system, 1, backup)
        rig.site.settings = Site("lab", "").settings
        interrupt(rig, at, rig.site.kill)
        job = rig.console.restore_profiles(rig.system, plan)
        with trio.move_on_after(20):
            await rig.ended(job)
        disarm(rig)
        if rig.site.link.machine is None:
            await rig.site.start(rig.nursery)
        await rig.ended(job)
        await demand_restored(rig)


@pytest.mark.parametrize("at", range(REQUESTS))
async def test_a_restore_survives_a_lost_answer(at: int, autojump_clock) -> None:
    async with running(Site()) as rig:
        backup = await changed(rig)
        plan = await rig.console.plan_profiles(rig.system, 1, backup)
        interrupt(rig, at, lambda: setattr(rig.site.link, "lost_answers", 1))
        await rig.ended(rig.console.restore_profiles(rig.system, plan))
        await demand_restored(rig)


async def test_a_step_waits_for_a_partition_that_runs_again(autojump_clock) -> None:
    """A restart of the system also starts its partitions; the step waits until they are off."""
    async with running(Site()) as rig:
        backup = await changed(rig)
        plan = await rig.console.plan_profiles(rig.system, 1, backup)
        rig.site.settings = Site("lab", "").settings
        link = rig.site.link
        interrupt(rig, lambda: link.asked[-1:] == ["deletePartition"], rig.site.kill)
        job = rig.console.restore_profiles(rig.system, plan)
        await rig.until(lambda: link.machine is None)
        await started_alone(rig)
        rig.site.machine.power_on("renamed")
        await rig.until(lambda: "power it off" in job.waiting)
        assert "renamed" in job.waiting
        await trio.sleep(100)
        assert job.state == "running"
        rig.site.machine.power_off("renamed")
        await rig.ended(job)
        assert job.waiting == ""
        await demand_restored(rig)


@pytest.mark.parametrize("at", range(0, REQUESTS, 2))
async def test_a_restore_survives_a_restart_with_partitions_that_run(at: int, autojump_clock) -> None:
    """After a restart of the system, the job waits until the partitions that run are off."""
    async with running(Site()) as rig:
        backup = await changed(rig)
        await rig.ask(set_trusted_key("change", key=KEY))
        await rig.copied()
        plan = await rig.console.plan_profiles(rig.system, 1, backup)
        rig.site.settings = Site("lab", "").settings
        interrupt(rig, at, rig.site.kill)
        job = rig.console.restore_profiles(rig.system, plan)
        with trio.move_on_after(20):
            await rig.ended(job)
        disarm(rig)
        if rig.site.link.machine is None:
            system = await started_alone(rig)
            for name in ("renamed", "b"):
                if name in system.partitions:
                    rig.site.machine.power_on(name)
            await rig.until(lambda: "power it off" in job.waiting or job.state != "running")
            for name, partition in system.partitions.items():
                if partition.running:
                    rig.site.machine.power_off(name)
        await rig.ended(job)
        if job.state == "done":
            await demand_restored(rig)
        else:  # the restore was refused before its first step
            assert "nothing was changed" in job.lines[-1]
            assert "renamed" in await names(rig)
