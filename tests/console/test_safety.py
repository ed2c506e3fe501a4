"""No interleaving lets two systems serve, or leaves a partition without an owner (R-51, R-52, R-54)."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from hcall_abi.errors import OperatorError, StorageError
from hcall_abi.faults import NvramFault
from hcall_abi.requests import ConsoleRequest, set_nvram_fault
from hcall_abi.rules import console
from hcall_abi.rules import migration as rules
from hcall_server.console.entries import Entry, answered, begun
from hcall_server.console.migration_tools import barred
from hcall_server.platform.custody import Custody, Decision
from tests.console.moving import Moving, moving
from tests.console.test_migrate import frozen_without_end, released
from tests.console.test_restart import restarted


class Held:
    """Holds requests of one operation, or with one word, before they reach their site."""

    def __init__(self, world: Moving, name: str, wanted: str, *, checks: bool = True) -> None:
        self._wanted, self._checks = wanted, checks
        self.reached, self.free = trio.Event(), trio.Event()
        link = world.site(name).link
        self._perform = link.call
        link.call = self._call  # type: ignore[method-assign]

    async def _call(self, request: Any) -> Any:
        held = self._wanted in (request.verb.operation, getattr(request.body, "word", ""))
        if held and (self._checks or not getattr(request.body, "check", False)):
            self.reached.set()
            await self.free.wait()
        return await self._perform(request)


async def test_an_answer_does_not_outlive_a_restart_of_its_system(autojump_clock) -> None:
    """R-51, R-52: A late RESUME has no effect if its source died and the partition restarted elsewhere."""
    async with moving("a", "b", "c") as world:
        world.deafen("a", "prepared")
        await frozen_without_end(world)
        held = Held(world, "a", "resume")
        world.rig.nursery.start_soon(_quietly, world.migrations.stop, world.known("a"), "x")
        with trio.fail_after(60):
            await held.reached.wait()
        await world.kill("a")
        await restarted(world, "c")
        await trio.sleep(60)
        await world.site("a").start(world.rig.nursery)
        held.free.set()
        await trio.sleep(60)
        assert len(world.serving()) == 1


async def _quietly(order: Any, *arguments: object) -> None:
    with suppress(OperatorError):
        await order(*arguments)


async def test_a_console_that_has_just_started_asks_the_source_before_a_restart(autojump_clock) -> None:
    """R-52: Before a restart the console asks the source, also without its stream.

    A source that serves stays.
    """
    async with moving() as world:
        await world.kill("a")
        held = Held(world, "b", "showTrustedKey")
        world.rig.nursery.start_soon(_quietly, restarted, world)
        await held.reached.wait()
        await world.start("a")
        await world.rig.until(lambda: world.serving() == ["a"])
        # The console has not yet opened the system's event stream.
        world.known("a").connected = False
        held.free.set()
        await trio.sleep(60)
        assert world.serving() == ["a"]


async def test_a_migration_begins_only_at_the_owner(autojump_clock) -> None:
    """R-51: If the source dies after validation and its partition restarts elsewhere, no migration begins."""
    async with moving("a", "b", "c") as world:
        held = Held(world, "b", "checkArrival")
        world.rig.nursery.start_soon(_quietly, world.migrate)
        await held.reached.wait()
        await world.kill("a")
        assert (await world.ended(await restarted(world, "c"))).state == "done"
        held.free.set()
        await trio.sleep(30)
        await world.start("a")
        await trio.sleep(60)
        assert world.serving() == ["c"]
        assert world.entry.owner == world.known("c").system_id


async def test_every_target_of_an_open_attempt_is_barred(autojump_clock) -> None:
    """R-52: A restart bars every earlier target, also an absent one: the source may have released to it."""
    async with moving("a", "b", "c", "d") as world:
        await frozen_released(world)
        registry = world.rig.console.registry
        ids = world.known("a").system_id, world.known("c").system_id
        registry.enter(begun(world.entry, "live", registry.next_epoch(world.uuid), *ids))
        await world.kill("a")
        await world.kill("b")
        await world.rig.restart_console()
        await world.rig.until(lambda: world.known("c").connected and world.known("d").connected)
        with pytest.raises(OperatorError) as caught:
            await restarted(world, "d")
        assert caught.value.rule is rules.RESTART_TARGET
        await world.start("b")
        job = await world.ended(await restarted(world, "d"))
        assert job.state == "done", job.lines
        assert (await world.custody("b"))[0] == "none"
        await world.start("a")
        await trio.sleep(60)
        assert world.serving() == ["d"]


async def frozen_released(world: Moving) -> set[str]:
    """Bring the source to RELEASED and its target to PREPARED; all later words are lost."""
    deaf = world.deafen("b", "activate")
    world.power("a", on=True)
    partition = world.site("a").machine.system.find("x")
    world.network.deaf = {"target": lambda: partition.profile.custody is Custody.RELEASED}
    await world.migrate()
    await world.rig.until(lambda: partition.profile.custody is Custody.RELEASED, 30)
    await trio.sleep(1)
    assert (await world.custody("b"))[0] == "prepared"
    return deaf


async def test_a_copy_that_only_its_target_knows_is_barred(autojump_clock, tmp_path: Path) -> None:
    """R-51, R-52: A restart bars a target that has a copy.

    The console's store may be older than the attempt.
    """
    async with moving("a", "b", "c", path=tmp_path / "console.sqlite") as world:
        deaf = await frozen_released(world)
        world.rig.kill_console()
        with world.rig.store._database.changes() as change:
            change.execute("DELETE FROM register")
            change.execute("DELETE FROM job")
        world.site("a").kill()
        await world.rig.start_console()
        await world.rig.until(lambda: world.known("b").connected and world.known("c").connected)
        held = Held(world, "c", "takePartition", checks=False)
        job = await restarted(world, "c")
        with trio.fail_after(60):
            await held.reached.wait()
        deaf.clear()
        await world.start("a")
        await trio.sleep(60)
        assert world.serving() == []
        held.free.set()
        assert (await world.ended(job)).state == "done", job.lines
        assert world.serving() == ["c"]
        assert (await world.custody("b"))[0] == "none"


async def test_a_restart_goes_on_when_its_source_comes_back_released(autojump_clock) -> None:
    """R-52: A source that returns as RELEASED never serves this store.

    So the restart goes on after the bars.
    """
    async with moving("a", "b", "c") as world:
        await frozen_released(world)
        # The moved partition has newer data than its last copy.
        with pytest.raises(OperatorError) as caught:
            await restarted(world, "c")
        assert caught.value.rule is rules.RESTART_SOURCE
        await world.kill("a")
        await barred(world.migrations._tools, world.entry)
        await world.start("a")
        await trio.sleep(30)
        assert world.serving() == []
        job = await world.ended(await restarted(world, "c"))
        assert job.state == "done", job.lines
        assert world.serving() == ["c"]


async def test_a_store_older_than_its_final_copy_is_not_served(autojump_clock) -> None:
    """R-45, R-54: A source with records from before its release asks, and is not allowed to serve."""
    async with moving() as world:
        await released(world)
        entry = world.entry
        asks = msgspec.structs.replace(await world.fact("a"), custody="own", mode="asking", epoch=0)
        assert entry.final
        assert answered(entry, entry.source, asks, []) is None


async def test_what_has_left_keeps_its_present_owner(autojump_clock) -> None:
    """R-51: GONE names the system that has the partition now, not the target of an older attempt."""
    async with moving("a", "b", "c") as world:
        await frozen_released(world)
        await world.kill("a")
        job = await world.ended(await restarted(world, "c"))
        assert job.state == "done", job.lines
        await world.start("a")
        await trio.sleep(20)
        await world.migrations.cleanup(world.known("a"), "x")
        fact = await world.fact("a")
        assert (fact.custody, fact.peer_id) == ("gone", world.known("c").system_id)


async def test_a_stop_waits_for_a_release_under_way(autojump_clock) -> None:
    """R-52: While NVRAM has not stored RELEASED, a stop is refused. Afterwards the partition arrives."""
    async with moving() as world:
        await world.rig.ask(set_nvram_fault("io", 1000), world.site("a"))
        job = await world.migrate()
        await world.rig.until(
            lambda: world.site("a").machine.system.find("x").profile.custody is Custody.RELEASED, 30
        )
        with pytest.raises(StorageError) as caught:
            await world.migrations.stop(world.known("a"), "x")
        assert caught.value.rule is rules.CUSTODY_STORED
        assert world.entry.decision is Decision.OPEN
        await world.rig.ask(set_nvram_fault("none"), world.site("a"))
        assert (await world.ended(job)).state == "done", job.lines
        await world.demand_at("b", b"first")


async def test_a_release_that_comes_after_its_stop_is_brought_to_the_end(autojump_clock) -> None:
    """R-52: If a release reaches the source after its stop was decided, the migration still completes.

    Meanwhile the console was killed and NVRAM failed.
    """
    async with moving() as world:
        link, sent, arrives = world.site("a").link, trio.Event(), trio.Event()
        perform = link.call

        async def late(request: ConsoleRequest[Any]) -> None:
            await arrives.wait()
            with suppress(StorageError):
                await perform(request)

        async def call(request: ConsoleRequest[Any]) -> Any:
            if request.verb.operation == "releasePartition" and not sent.is_set():
                sent.set()
                world.rig.nursery.start_soon(late, request)
                await trio.sleep_forever()
            return await perform(request)

        link.call = call  # type: ignore[method-assign]
        job = await world.migrate()
        await sent.wait()
        await world.migrations.stop(world.known("a"), "x")
        assert world.entry.decision is Decision.ABORTED
        world.rig.kill_console()
        world.site("a").machine.set_nvram_fault(NvramFault("io", times=None))
        arrives.set()
        await world.rig.restart_console()
        await trio.sleep(30)
        assert world.rig.console.jobs.find(job.number).waiting
        world.site("a").machine.set_nvram_fault(None)
        assert (await world.ended(job)).state == "done"
        await world.demand_at("b", b"first")


async def test_a_refused_ipl_count_delays_a_restart(autojump_clock) -> None:
    """R-52: If the target can't count the IPL, the restart waits and goes on.

    The target already owns the partition.
    """
    async with moving() as world:
        await world.kill("a")
        refused = world.refuse("b", "powerOn", StorageError(console.POWER_COUNTED, "a disk I/O error"))
        job = await restarted(world)
        await world.rig.until(lambda: "I/O error" in job.waiting)
        refused.clear()
        assert (await world.ended(job)).state == "done", job.lines
        assert world.site("b").machine.system.find("x").running


def test_a_copy_that_waits_is_not_forgotten() -> None:
    """R-52: While the console has a copy for the target of the last attempt, no new attempt begins."""
    entry = begun(Entry("u", "x"), "inactive", 1, "a", "b")._replace(final=b"copy")
    with pytest.raises(OperatorError) as caught:
        begun(entry, "inactive", 2, "a", "b")
    assert caught.value.rule is rules.CUSTODY_IDLE


async def test_an_attribute_that_the_console_does_not_know_counts_from_its_copy_on(autojump_clock) -> None:
    """R-54: If the console knows no newer value of an attribute, the value in the last copy decides."""
    async with moving() as world:
        world.rig.kill_console()
        machine = world.site("a").machine
        machine.set_attributes("x", {"simplified_remote_restart_capable": 0})
        assert await machine.encryptor.flush()
        world.site("a").kill()
        await world.rig.start_console()
        await world.rig.until(lambda: world.known("b").connected)
        job = await world.ended(await restarted(world))
        assert job.state == "done", job.lines
        await world.start("a")
        await trio.sleep(60)
        assert world.serving() == ["b"]
