"""The job `migrate`: live and inactive, with kills and lost answers at each request (R-50, R-51, R-52)."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from hcall_abi.errors import OperatorError, StorageError
from hcall_abi.requests import create_partition, set_trusted_key
from hcall_abi.rules import console, service
from hcall_abi.rules import migration as rules
from hcall_server.console.jobs import Job
from hcall_server.console.migration import MigrationPlan
from hcall_server.platform.custody import Custody
from tests.console.moving import Moving, Trouble, moving


async def test_a_running_partition_moves(autojump_clock) -> None:
    """R-51: A running partition moves, and the job's lines name the rows of the state table."""
    async with moving() as world:
        world.power("a", on=True)
        job = await world.ended(await world.migrate())
        assert job.state == "done", job.lines
        await world.demand_at("b", b"first")
        assert job.lines[0] == "row 1: OPEN(1) at the console"
        assert job.lines[:5] == [
            "row 1: OPEN(1) at the console",
            "row 4: FROZEN(1) at a",
            "row 5: PREPARED(1) at b",
            "row 6: RELEASED(1) at a",
            "row 7: ARRIVED(1) at b",
        ]
        assert job.lines[-1] == "x is at b now, by the attempt 1"
        assert job.done == job.total == len(job.lines)
        await world.rig.until(lambda: world.entry.decision.value == "done")
        assert await world.custody("a") == ("gone", 1)


async def test_a_partition_that_is_off_moves(autojump_clock) -> None:
    """R-52: an inactive partition moves by its copy; the console drops the copy once the target has it."""
    async with moving() as world:
        job = await world.ended(await world.migrate())
        assert job.state == "done", job.lines
        await world.demand_at("b", b"first")
        assert world.entry.final == b""
        await world.rig.until(lambda: True)
        assert await world.custody("b") == ("arrived", 1)
        assert job.lines[:2] == ["row 1: OPEN(1) at the console", "row 15: RELEASED(1) at a"]
        assert "row 16: ARRIVED(1) at b" in job.lines


@pytest.mark.parametrize("number", range(1, 11))
@pytest.mark.parametrize("act", ["lost", "before", "after"])
@pytest.mark.parametrize("live", [True, False], ids=["live", "inactive"])
async def test_a_trouble_at_each_request_delays_a_migration(autojump_clock, act, number, live) -> None:
    """R-51, R-52: After a lost answer or a kill of the console, the migration still moves the partition."""
    async with moving() as world:
        if live:
            world.power("a", on=True)
        await trio.sleep(1)
        job = await world.migrate()
        trouble = Trouble(world, number, act)
        await trouble.over()
        ended = await world.ended(job)
        assert ended.state == "done", (trouble.hit, ended.lines)
        await world.demand_at("b", b"first")
        await world.rig.until(lambda: not world.site("a").machine.system.partitions)


@pytest.mark.parametrize("number", range(1, 11))
@pytest.mark.parametrize("victim", ["a", "b"])
@pytest.mark.parametrize("live", [True, False], ids=["live", "inactive"])
async def test_a_crash_of_a_system_ends_with_one_owner(autojump_clock, number, victim, live) -> None:
    """R-51: After a crash of source or target at any request, one system owns the partition."""
    async with moving() as world:
        if live:
            world.power("a", on=True)
        await trio.sleep(1)
        job = await world.migrate()
        trouble = Trouble(world, number, f"crash {victim}")
        await trouble.over()
        ended = await world.ended(job)
        await trio.sleep(60)
        owner = "b" if ended.state == "done" else "a"
        await world.demand_at(owner, b"first")


async def test_what_does_not_fit_is_refused_before_anything(autojump_clock) -> None:
    """R-50: Validation and migration refuse a partition that does not fit the target, and change nothing."""
    async with moving() as world:
        source, target = world.known("a"), world.known("b")
        await world.migrations.validate(source, target, "x")
        with pytest.raises(OperatorError) as caught:
            await world.migrations.validate(source, source, "x")
        assert caught.value.rule is rules.MIGRATION_SYSTEMS
        with pytest.raises(OperatorError) as caught:
            await world.migrations.validate(source, target, "unknown")
        assert caught.value.rule is console.NAME_EXISTS
        await world.rig.ask(create_partition("x"), world.site("b"))
        for order in world.migrations.validate, world.migrations.migrate:
            with pytest.raises(OperatorError) as caught:
                await order(source, target, "x")
            assert caught.value.rule is rules.ARRIVAL_NAME
        world.power("a", on=True)
        world.site("b").machine.peers = None
        with pytest.raises(OperatorError) as caught:
            await world.migrate()
        assert caught.value.rule is rules.MOBILITY_LISTENS
        assert world.rig.console.registry.of(world.uuid) is None
        assert world.serving() == ["a"]


async def test_an_inactive_migration_needs_one_trusted_key(autojump_clock) -> None:
    """R-52: a missing or different trusted key is refused before the partition is released."""
    async with moving(one_key=False) as world:
        for key in (None, bytes(32)):
            if key:
                await world.rig.ask(set_trusted_key("change", key=key), world.site("b"))
            with pytest.raises(OperatorError) as caught:
                await world.migrate()
            assert caught.value.rule is rules.RESTART_KEY
        assert world.serving() == ["a"]


async def test_a_target_that_is_not_reached_ends_the_attempt(autojump_clock) -> None:
    """R-51: If the target is not reached, the source keeps the partition; the next attempt succeeds."""
    async with moving() as world:
        world.power("a", on=True)
        world.network.cut = True
        job = await world.ended(await world.migrate())
        assert (job.state, job.rule_id) == ("failed", rules.MIGRATION_FAILED.id), job.lines
        await world.demand_at("a", b"first")
        assert world.entry.decision.value == "aborted"
        world.network.cut = False
        job = await world.ended(await world.migrate())
        assert job.state == "done", job.lines
        assert world.entry.epoch == 2
        await world.demand_at("b", b"first")
        job = await world.ended(await world.migrate("b", "a"))
        assert job.state == "done", job.lines
        assert world.entry.epoch == 3
        await world.demand_at("a", b"first")


async def test_a_migration_is_stopped(autojump_clock) -> None:
    """R-51: An operator can stop a migration before its point of no return, and not after it."""
    async with moving() as world:
        world.power("a", on=True)
        with pytest.raises(OperatorError) as caught:
            await world.migrations.stop(world.known("a"), "x")
        assert caught.value.rule is rules.MIGRATION_RUNNING
        world.network.silent = True
        job = await world.migrate()
        await trio.sleep(1)
        assert job.state == "running", job.lines
        assert world.migrations.status()[0].state == "Migration In Progress"
        output = await world.migrations.stop(world.known("a"), "x")
        assert output == "the attempt 1 of x is stopped: a serves it"
        assert (await world.ended(job)).state == "failed"
        await world.demand_at("a", b"first")
        assert world.migrations.status()[0].state == "Aborted"
        world.network.silent = False
        assert (await world.ended(await world.migrate())).state == "done"
        with pytest.raises(OperatorError) as caught:
            await world.migrations.stop(world.known("a"), "x")
        assert caught.value.rule is rules.MIGRATION_RUNNING


async def test_a_target_is_forced_when_its_source_is_dead(autojump_clock) -> None:
    """R-51, row 14: If the source is dead, the target can be forced. The source is fenced when it returns."""
    async with moving() as world:
        world.deafen("a", "prepared")
        await frozen_without_end(world)
        await world.kill("a")
        job = await world.migrations.recover(world.known("a"), "x", force=True)
        assert (await world.ended(job)).state == "done", job.lines
        await world.demand_at("b", b"first")
        await world.start("a")
        await world.rig.until(lambda: not world.site("a").machine.system.partitions)
        await world.demand_at("b", b"first")


async def frozen_without_end(world: Moving, *, arrives: bool = True) -> Job:
    """Begin a migration whose frozen source receives nothing from its target.

    With `arrives`, the target still receives the final message of the source. Otherwise the target receives
    nothing either.
    """
    world.power("a", on=True)
    partition = world.site("a").machine.system.find("x")

    def frozen() -> bool:
        return partition.profile.custody is Custody.FROZEN

    def decided() -> bool:
        return partition.profile.custody is Custody.RELEASED

    world.network.deaf = {"source": frozen, "target": decided if arrives else frozen}
    job = await world.migrate()
    await world.rig.until(lambda: partition.profile.custody is not Custody.OWN, 5)
    return job


async def test_an_inactive_one_goes_back_to_its_source(autojump_clock) -> None:
    """R-52: A released partition returns to its source only after its target was reached and barred."""
    async with moving() as world:
        job = await released(world)
        with pytest.raises(OperatorError) as caught:
            await world.migrations.recover(world.known("a"), "x", force=True)
        assert caught.value.rule is rules.RESTART_TARGET
        await world.rig.restart_console()
        await trio.sleep(1)
        refuses = world.refuse("b", "takePartition")
        world.site("b").link.away = False
        await world.rig.until(lambda: world.known("b").connected)
        recovered = await world.migrations.recover(world.known("a"), "x", force=True)
        ended = await world.ended(recovered)
        assert (ended.state, ended.rule_id) == ("failed", rules.MIGRATION_FAILED.id), ended.lines
        refuses.clear()
        await world.demand_at("a", b"first")
        assert job.number <= ended.number
        assert (await world.custody("b"))[0] == "none"
        assert (await world.ended(await world.migrate())).state == "done"
        await world.demand_at("b", b"first")


async def released(world: Moving):
    """Begin an inactive migration whose target goes down while the source releases the partition."""
    job = await world.migrate()
    site = world.site("b")
    perform = world.site("a").link.call

    async def last(request):
        if request.verb.operation == "releasePartition" and request.body.epoch == 1:
            site.link.away = True
            site.link.break_stream()
        return await perform(request)

    world.site("a").link.call = last  # type: ignore[method-assign]
    await world.rig.until(lambda: "row 15: RELEASED(1) at a" in job.lines)
    assert job.state == "running"
    return job


async def test_an_inactive_one_waits_for_its_target(autojump_clock) -> None:
    """R-52: The copy of an inactive partition is in the console's store, so a killed console can go on."""
    async with moving() as world:
        job = await released(world)
        await world.rig.restart_console()
        await trio.sleep(60)
        assert world.serving() == []
        assert world.entry.final
        await world.kill("a")
        world.site("b").link.away = False
        assert (await world.ended(job)).state == "done", job.lines
        await world.demand_at("b", b"first")
        await world.start("a")
        await world.rig.until(lambda: not world.site("a").machine.system.partitions)


@pytest.mark.parametrize(
    "site, operation", [("a", "releasePartition"), ("b", "takePartition")], ids=["source", "target"]
)
async def test_a_disk_that_fails_delays_an_inactive_one(autojump_clock, site, operation) -> None:
    """R-52: If the disk of source or target is full, the job waits, and then moves the partition."""
    async with moving() as world:
        fails = world.refuse(site, operation, StorageError(service.SCARCE_SPACE, "the disk is full"))
        job = await world.migrate()
        await world.rig.until(lambda: "the disk is full" in job.waiting)
        fails.clear()
        assert (await world.ended(job)).state == "done", job.lines
        await world.demand_at("b", b"first")


async def test_a_job_of_an_inactive_one_that_is_done(autojump_clock) -> None:
    """R-52: When the target has the partition, another job does not release the store again (seed 1840)."""
    async with moving() as world:
        missed = world.deafen("a", "active")
        assert (await world.ended(await world.migrate())).state == "done"
        assert (await world.custody("a"))[0] == "released"
        plan = MigrationPlan(world.uuid, "x", world.known("b").system_id, live=False, epoch=1)
        job = world.rig.console.jobs.start("migrate", world.known("a"), plan)
        assert (await world.ended(job, 60)).state == "done", job.lines
        assert not world.entry.final
        missed.clear()
        await world.rig.until(lambda: not world.site("a").machine.system.partitions)
        await world.demand_at("b", b"first")


async def test_the_console_carries_what_the_channel_has_lost(autojump_clock) -> None:
    """R-51: the console carries PREPARED to the source, ACTIVATE to the target, and ACTIVE back."""
    async with moving() as world:
        job = await frozen_without_end(world)
        assert (await world.ended(job)).state == "done", job.lines
        await world.demand_at("b", b"first")
        await world.rig.until(lambda: not world.site("a").machine.system.partitions)


async def test_a_source_in_doubt_is_told_to_resume(autojump_clock) -> None:
    """R-51, row 10: If the target has no copy, a source in doubt resumes; no order forces the target."""
    async with moving() as world:
        job = await frozen_without_end(world, arrives=False)
        ended = await world.ended(job)
        assert (ended.state, ended.rule_id) == ("failed", rules.MIGRATION_FAILED.id)
        await world.demand_at("a", b"first")
        assert (world.entry.decision.value, world.entry.over) == ("aborted", True)
        with pytest.raises(OperatorError) as caught:
            await world.migrations.recover(world.known("a"), "x", force=True)
        assert caught.value.rule is rules.MIGRATION_RUNNING


async def test_a_target_without_the_copy_is_not_forced(autojump_clock) -> None:
    """R-51, row 14: A target without the copy can't be forced. A remote restart uses the last copy."""
    async with moving() as world:
        job = await frozen_without_end(world, arrives=False)
        await world.kill("a")
        with pytest.raises(OperatorError) as caught:
            await world.migrations.recover(world.known("a"), "x", force=True)
        assert caught.value.rule is rules.MIGRATION_FORCE
        assert (await world.migrations.recover(world.known("a"), "x")) is job
        restart = await world.migrations.restart(world.known("a"), world.known("b"), "x")
        assert (await world.ended(restart)).state == "done", restart.lines
        assert job.state == "failed"
        await world.demand_at("b", b"first")
        await world.start("a")
        await trio.sleep(30)
        assert world.serving() == ["b"]
        assert await world.custody("a") == ("released", 1)
        await world.migrations.cleanup(world.known("a"), "x")
        assert (await world.custody("a"))[0] == "gone"


async def test_a_frozen_one_is_stopped(autojump_clock) -> None:
    """R-51: A frozen migration can be stopped, and a target that already has the copy drops it."""
    async with moving() as world:
        deaf = world.deafen("a", "prepared")
        job = await frozen_without_end(world)
        await world.migrations.stop(world.known("a"), "x")
        assert (await world.ended(job)).state == "failed"
        await world.demand_at("a", b"first")
        deaf.clear()
        await world.rig.until(lambda: not world.site("b").machine.system.partitions)
        assert await world.custody("b") == ("none", 1)


async def test_a_job_is_begun_anew_for_an_attempt_that_has_none(autojump_clock) -> None:
    """Recover starts a new job for an attempt whose job has ended."""
    async with moving() as world:
        job = await released(world)
        world.rig.console.jobs.end_of(world.known("a"), "ended")
        assert job.state == "failed"
        world.site("b").link.away = False
        again = await world.migrations.recover(world.known("a"), "x")
        assert again.number > job.number
        assert (await world.ended(again)).state == "done"
        await world.demand_at("b", b"first")


@pytest.mark.parametrize("named", ["a", "b"])
async def test_a_live_migration_is_followed_at_its_source(autojump_clock, named) -> None:
    """An order to recover may name either end; the job is followed at the source."""
    async with moving() as world:
        deaf = world.deafen("a", "prepared")
        await frozen_without_end(world)
        world.rig.console.jobs.end_of(world.known("a"), "ended")
        again = await world.migrations.recover(world.known(named), "x")
        assert again.system == "a"
        deaf.clear()
        ended = await world.ended(again)
        assert ended.state in ("done", "failed")
        await world.demand_at("b" if ended.state == "done" else "a", b"first")


async def test_a_token_is_kept_nowhere(autojump_clock, tmp_path: Path) -> None:
    """R-51: each attempt has its own token, which is in neither the store nor a line of the job."""
    path = tmp_path / "console.sqlite"
    async with moving(path=path) as world:
        tokens = list[bytes]()
        perform = world.site("b").link.call

        async def call(request):
            if request.verb.operation == "expectPartition":
                tokens.append(request.body.token)
                assert request.body.token.hex() not in repr(request)
            return await perform(request)

        world.site("b").link.call = call  # type: ignore[method-assign]
        world.power("a", on=True)
        world.network.cut = True
        await world.ended(await world.migrate())
        world.network.cut = False
        job = await world.ended(await world.migrate())
        assert job.state == "done"
        assert len(set(tokens)) == 2
        for token in tokens:
            assert token not in path.read_bytes()
            assert token.hex() not in str(job.lines)
