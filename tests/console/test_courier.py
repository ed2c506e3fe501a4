"""The courier and the register of a running console: answers to questions, late messages, recoveries.

R-45, R-51 and R-54 have the rules.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from hcall_abi.errors import OperatorError, StorageError
from hcall_abi.requests import delete_partition, set_nvram_fault
from hcall_abi.rules import hmc
from hcall_abi.rules import migration as rules
from tests.console.moving import Moving, moving
from tests.console.test_migrate import frozen_without_end, released


async def moved(world: Moving, *, live: bool = True) -> None:
    """Move x from a to b."""
    if live:
        world.power("a", on=True)
    assert (await world.ended(await world.migrate())).state == "done"
    await world.demand_at("b", b"first")
    await world.rig.until(lambda: not world.site("a").machine.system.partitions)


async def test_a_system_that_starts_asks_and_is_told_to_serve(autojump_clock) -> None:
    """R-54: While the console is away, no system serves the partition. Afterwards its owner serves."""
    async with moving() as world:
        world.rig.kill_console()
        world.site("a").kill()
        await trio.sleep(1)
        await world.site("a").start(world.rig.nursery)
        await trio.sleep(60)
        assert world.serving() == []
        await world.rig.start_console()
        await world.rig.until(lambda: world.serving() == ["a"])
        assert world.rig.console.registry.of(world.uuid) is None


async def test_an_answer_that_is_lost_is_given_again(autojump_clock) -> None:
    """R-54: If the answer to a system's question is lost, the system asks again and gets the answer again."""
    async with moving() as world:
        deaf = world.deafen("a", "serve")
        world.site("a").kill()
        await trio.sleep(1)
        await world.site("a").start(world.rig.nursery)
        await trio.sleep(30)
        assert world.serving() == []
        deaf.clear()
        await world.rig.until(lambda: world.serving() == ["a"])


async def test_a_source_that_was_away_for_a_whole_migration(autojump_clock) -> None:
    """R-51, R-54: A source that was off during two moves gets FENCED with the number of the second move."""
    async with moving("a", "b", "c") as world:
        world.deafen("a", "prepared")
        await frozen_without_end(world)
        await world.kill("a")
        job = await world.migrations.recover(world.known("a"), "x", force=True)
        assert (await world.ended(job)).state == "done"
        world.network.deaf = {}
        job = await world.migrate("b", "c")
        assert (await world.ended(job)).state == "done", job.lines
        await world.demand_at("c", b"first")
        await world.start("a")
        await world.rig.until(lambda: not world.site("a").machine.system.partitions)
        await world.demand_at("c", b"first")


async def test_a_word_is_told_when_its_system_is_back(autojump_clock) -> None:
    """The target receives the word ACTIVATE when it connects again, also after a kill of the console."""
    async with moving() as world:
        deaf = world.deafen("b", "activate")
        job = await frozen_without_end(world)
        await world.rig.until(lambda: world.site("a").machine.system.find("x").profile.custody.value == 3)
        await world.kill("b")
        await world.rig.restart_console()
        await trio.sleep(30)
        assert world.serving() == []
        status = world.migrations.status()[0]
        assert (status.state, status.row) == ("Migration In Progress", "row 6: RELEASED(1) at a")
        assert world.migrations.moving(world.known("a"), (await world.view("a")).partitions[0])
        deaf.clear()
        await world.start("b")
        assert (await world.ended(job)).state == "done"
        await world.demand_at("b", b"first")
        status = world.migrations.status(world.known("b"))[0]
        assert (status.state, status.owner, status.job) == ("Not Moving", "b", 0)
        assert world.migrations.status(world.known("a"))[0].state == "Moved"


async def test_nothing_is_said_before_it_is_durable(autojump_clock) -> None:
    """R-51: a source in doubt waits while the console's disk is full."""
    async with moving() as world:
        store = world.rig.store
        enter, room = store.enter, trio.Event()

        def full(entry):
            if not room.is_set() and entry.decision.value == "aborted":
                raise StorageError(hmc.HMC_STORE_WRITTEN, "the disk is full")
            enter(entry)

        store.enter = full  # type: ignore[method-assign]
        await frozen_without_end(world, arrives=False)
        await trio.sleep(120)
        assert world.serving() == []
        assert world.known("a").connected
        room.set()
        await world.demand_at("a", b"first")


async def test_nvram_that_stores_nothing_delays_a_word(autojump_clock) -> None:
    """If the target's NVRAM fails at ACTIVATE, the courier sends ACTIVATE again.

    The target does not ask for it.
    """
    async with moving() as world:
        deaf = world.deafen("b", "activate")
        job = await frozen_without_end(world)
        await trio.sleep(1)
        await world.rig.ask(set_nvram_fault("io", 3), world.site("b"))
        deaf.clear()
        assert (await world.ended(job)).state == "done"
        await world.demand_at("b", b"first")


async def test_a_console_with_a_new_store_takes_the_highest_epoch(autojump_clock, tmp_path: Path) -> None:
    """R-51: A console with a new store learns the attempts from the systems.

    Its next attempt has a larger number.
    """
    async with moving(path=tmp_path / "console.sqlite") as world:
        await moved(world)
        world.rig.kill_console()
        world.rig.path = tmp_path / "new.sqlite"
        world.rig.store.close()
        await world.rig.start_console()
        for where in world.rig.sites:
            await world.rig.console.add_system(where)
        await world.rig.until(lambda: world.rig.console.registry.of(world.uuid))
        assert (world.entry.epoch, world.entry.decision.value) == (1, "done")
        job = await world.migrate("b", "a")
        assert (await world.ended(job)).state == "done", job.lines
        assert world.entry.epoch == 2
        await world.demand_at("a", b"first")


async def test_a_source_in_doubt_and_a_console_with_a_new_store(autojump_clock, tmp_path: Path) -> None:
    """R-51: the source is answered once the target was reached, not before."""
    async with moving(path=tmp_path / "console.sqlite") as world:
        await frozen_without_end(world, arrives=False)
        world.rig.kill_console()
        world.rig.path = tmp_path / "new.sqlite"
        world.rig.store.close()
        await world.rig.start_console()
        await world.rig.console.add_system("/a")
        await trio.sleep(60)
        assert world.serving() == []
        await world.rig.console.add_system("/b")
        await world.demand_at("a", b"first")


# Restores


async def replaced(world: Moving, name: str) -> None:
    """Replace the service processor of a site; its settings name no partitions."""
    site = world.site(name)
    site.kill()
    site.lose_service_processor()
    await site.start(world.rig.nursery, world.site("b").settings)
    await world.rig.until(lambda: world.known(name).connected)


async def test_a_recovery_leaves_a_moved_store_where_it_is(autojump_clock) -> None:
    """R-45, R-51: A recovery of the old system ignores the console's copy from before the move."""
    async with moving() as world:
        await moved(world, live=False)
        await replaced(world, "a")
        await trio.sleep(30)
        assert world.serving() == ["b"]
        job = world.rig.console.recover(world.known("a"), give_up=True)
        assert (await world.ended(job)).state == "done", job.lines
        assert world.serving() == ["b"]
        assert not world.site("a").machine.system.partitions


async def test_a_recovery_ends_an_attempt_that_the_loss_has_left_open(autojump_clock) -> None:
    """R-45, R-51: If a frozen source loses its records, the recovery first bars the target.

    Then it restores the last copy at the source.
    """
    async with moving() as world:
        world.deafen("a", "prepared")
        await frozen_without_end(world)
        world.network.deaf = {}
        epoch = world.entry.epoch
        await replaced(world, "a")
        await world.rig.until(lambda: "x" in world.site("a").machine.system.partitions)
        await world.rig.until(lambda: not world.rig.console.jobs.running(world.known("a")))
        assert (await world.custody("b"))[0] == "none"
        assert world.entry.over
        await world.demand_here("a", b"first")
        job = await world.migrate()
        assert (await world.ended(job)).state == "done", job.lines
        assert world.entry.epoch > epoch + 1
        await world.demand_at("b", b"first")


async def test_a_recovery_waits_for_the_target_of_an_open_attempt(autojump_clock) -> None:
    """R-45, R-51: while the target is away, the owner is unknown, so the recovery waits."""
    async with moving() as world:
        world.deafen("a", "prepared")
        await frozen_without_end(world)
        world.network.deaf = {}
        await world.kill("b")
        await replaced(world, "a")
        job = await world.ended(world.rig.console.recovery(world.known("a")))
        assert (job.state, job.rule_id) == ("failed", hmc.HMC_RECOVERY_COPIES.id), job.lines
        assert world.serving() == []
        await world.start("b")
        job = await world.ended(world.rig.console.recover(world.known("a")))
        assert job.state == "done", job.lines
        await world.demand_here("a", b"first")


async def test_a_target_that_lost_its_records_gets_the_store_back(autojump_clock) -> None:
    """R-45, R-51: If the owner after a move loses its records, it gets its last copy back.

    The next attempt has a larger number.
    """
    async with moving() as world:
        await moved(world, live=False)
        world.rig.site = world.site("b")
        await world.rig.write("x", b"second", world.site("b"))
        copies = world.rig.store.copies_of
        key = world.known("b").key
        site = world.site("b")
        wanted = site.machine.system.find("x").profile.image_generation
        await world.rig.until(lambda: copies(world.uuid)[0][1].generation >= wanted)
        assert {each[0] for each in copies(world.uuid)} == {key}
        site.kill()
        site.lose_service_processor()
        await site.start(world.rig.nursery)
        await world.rig.until(lambda: "x" in site.machine.system.partitions)
        await world.rig.until(lambda: not world.rig.console.jobs.running(world.known("b")))
        await world.demand_at("b", b"second")
        site.kill()
        await world.rig.until(lambda: not world.known("b").connected)
        await world.start("b")
        await world.demand_at("b", b"second")
        job = await world.migrate("b", "a")
        assert (await world.ended(job)).state == "done", job.lines
        assert world.entry.epoch == 2
        await world.demand_at("a", b"second")


async def test_a_profile_restore_leaves_a_moved_partition_where_it_is(autojump_clock) -> None:
    """R-46, R-51: a profile restore leaves a moved partition alone, also while the present owner is away."""
    async with moving() as world:
        backup = await world.rig.console.save_profiles(world.known("a"))
        await moved(world, live=False)
        await world.kill("b")
        await world.rig.restart_console()
        await world.rig.until(lambda: world.known("a").connected)
        plan = await world.rig.console.plan_profiles(world.known("a"), 1, backup)
        assert plan.skipped == ["x"]
        assert plan.steps == []


async def test_the_owner_of_a_deleted_partition_is_forgotten(autojump_clock) -> None:
    """After a deletion the register has no owner, so a profile restore may choose another system."""
    async with moving() as world:
        await moved(world, live=False)
        site = world.site("b")
        await world.rig.until(lambda: world.rig.store.copies_of(world.uuid))
        await world.rig.ask(delete_partition("x", destroy=True), site)
        await world.rig.until(lambda: world.entry.owner == "")


async def test_a_copy_of_the_old_system_stays_until_the_new_one_has_its_own(autojump_clock) -> None:
    """R-52: The console keeps the old system's copy of a store until the new system has sent one.

    If the new system is lost before that, a restart uses the old copy.
    """
    async with moving("a", "b", "c") as world:
        job = await released(world)
        world.site("b").link.away = False
        assert (await world.ended(job)).state == "done"
        assert world.rig.store.copies_of(world.uuid)
        await world.kill("b")
        job = await world.migrations.restart(world.known("b"), world.known("c"), "x")
        assert (await world.ended(job)).state == "done", job.lines
        await world.demand_at("c", b"first")
        before = world.site("c").machine.system.find("x").profile
        assert before.restores >= 0
        await world.start("b")
        await trio.sleep(20)
        assert world.serving() == ["c"]


async def test_orders_need_an_attempt(autojump_clock) -> None:
    """Stop, recover, cleanup and cancel are refused without an attempt."""
    async with moving() as world:
        a = world.known("a")
        for order, rule in (
            (world.migrations.stop(a, "x"), rules.MIGRATION_RUNNING),
            (world.migrations.recover(a, "x"), rules.MIGRATION_RUNNING),
            (world.migrations.cleanup(a, "x"), rules.RESTART_CLEANUP),
            (world.migrations.cancel(a, "x"), rules.MIGRATION_RUNNING),
        ):
            with pytest.raises(OperatorError) as caught:
                await order
            assert caught.value.rule is rule
        assert world.migrations.status() == []
        partition = (await world.view("a")).partitions[0]
        assert not world.migrations.moving(a, partition)
        assert world.migrations.remote_restart_status(a, partition) == "Remote Restartable"
