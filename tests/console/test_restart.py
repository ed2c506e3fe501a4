"""The job `restart`: a partition of a dead system starts elsewhere (R-52, R-54)."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import trio

from hcall_abi.control_views import CustodyView
from hcall_abi.errors import OperatorError
from hcall_abi.requests import ConsoleRequest, set_trusted_key
from hcall_abi.rules import console
from hcall_abi.rules import migration as rules
from hcall_server.console.entries import heard
from tests.console.moving import KEY, Moving, Trouble, moving


async def restarted(world: Moving, target: str = "b"):
    """Order a restart of x, while its system a is down."""
    return await world.migrations.restart(world.known("a"), world.known(target), "x")


async def test_a_partition_of_a_dead_system_starts_elsewhere(autojump_clock) -> None:
    """R-52, R-54: The partition starts at the target. `cleanup` removes the store of the fenced source."""
    async with moving() as world:
        await world.kill("a")
        job = await world.ended(await restarted(world))
        assert job.state == "done", job.lines
        assert job.lines[0] == "row 20: FORCED(1) at the console"
        assert job.lines[-1] == "x runs at b"
        await world.demand_at("b", b"first")
        await world.start("a")
        await world.rig.until(lambda: world.entry.decision.value == "done")
        await trio.sleep(30)
        assert world.serving() == ["b"]
        assert await world.custody("a") == ("released", 1)
        partition = (await world.view("a")).partitions[0]
        status = world.migrations.remote_restart_status(world.known("a"), partition)
        assert status == "Remote Restarted"
        output = await world.migrations.cleanup(world.known("a"), "x")
        assert output == "x is removed from a: b has it"
        assert await world.custody("a") == ("gone", 1)
        with pytest.raises(OperatorError) as caught:
            await world.migrations.cleanup(world.known("a"), "x")
        assert caught.value.rule is rules.RESTART_CLEANUP


@pytest.mark.parametrize(
    "operation, at", [("showTrustedKey", 1), ("showTrustedKey", 2), ("takePartition", 2)]
)
async def test_a_newer_copy_drops_the_chosen_one(autojump_clock, operation: str, at: int) -> None:
    """R-52: If a newer copy arrives after the order has chosen one, the job restarts from the newer copy.

    Seed 95 of the simulation found this: the source came back during the bars, served, and died again.
    """
    async with moving() as world:
        await world.kill("a")
        store, key = world.rig.store, world.known("a").key
        *_, facts = store.copies(key)
        newer = facts._replace(generation=facts.generation + 1)
        perform, asked = world.site("b").link.call, 0

        async def call(request: ConsoleRequest[Any]) -> Any:
            nonlocal asked
            asked += request.verb.operation == operation
            if asked == at and request.verb.operation == operation:
                store.keep_copy(key, newer, store.blob(store.copies(key)[-1].number), [facts.uuid], 1)
            return await perform(request)

        world.site("b").link.call = call  # type: ignore[method-assign]
        job = await world.ended(await restarted(world))
        assert job.state == "done", job.lines
        assert job.lines[1].endswith(f"generation {newer.generation}")
        await world.demand_at("b", b"first")


async def test_a_source_that_lives_is_not_left(autojump_clock) -> None:
    """A partition is not restarted elsewhere while its system is connected."""
    async with moving() as world:
        with pytest.raises(OperatorError) as caught:
            await restarted(world)
        assert caught.value.rule is rules.RESTART_SOURCE
        with pytest.raises(OperatorError) as caught:
            await restarted(world, "a")
        assert caught.value.rule is rules.MIGRATION_SYSTEMS


@pytest.mark.parametrize("key", [None, bytes(32)], ids=["missing", "different"])
async def test_another_trusted_key_is_a_refusal(autojump_clock, key) -> None:
    """R-52: If the target's trusted key is missing or different, a restart is refused; no copy is sent."""
    async with moving(one_key=False) as world:
        await world.rig.ask(set_trusted_key("change", key=bytes(range(32))), world.site("a"))
        if key:
            await world.rig.ask(set_trusted_key("change", key=key), world.site("b"))
        await world.rig.write("x", b"second", world.site("a"))
        await world.rig.copied()
        await world.kill("a")
        before = len(world.site("b").link.asked)
        for attempt in world.migrations.validate_restart, world.migrations.restart:
            with pytest.raises(OperatorError) as caught:
                await attempt(world.known("a"), world.known("b"), "x")
            assert caught.value.rule is rules.RESTART_KEY
        assert set(world.site("b").link.asked[before:]) <= {"showTrustedKey", "showSystem"}
        assert world.rig.console.registry.of(world.uuid) is None


async def test_without_a_copy_nothing_is_restarted(autojump_clock) -> None:
    """A restart without a copy is refused before any request."""
    async with moving() as world:
        await world.kill("a")
        with world.rig.store._database.changes() as change:
            change.execute("DELETE FROM copy")
        with pytest.raises(OperatorError) as caught:
            await restarted(world)
        assert caught.value.rule is rules.RESTART_COPY
        with pytest.raises(OperatorError) as caught:
            await world.migrations.restart(world.known("a"), world.known("b"), "unknown")
        assert caught.value.rule is rules.RESTART_COPY


@pytest.mark.parametrize("number", range(1, 11))
@pytest.mark.parametrize("act", ["lost", "before", "after"])
async def test_a_trouble_at_each_request_delays_a_restart(autojump_clock, act, number) -> None:
    """R-52: After a lost answer or a kill at any request, the restart ends, and the source is fenced."""
    async with moving() as world:
        await world.kill("a")
        job = await restarted(world)
        trouble = Trouble(world, number, act)
        await trouble.over()
        ended = await world.ended(job)
        assert ended.state == "done", (trouble.hit, ended.lines)
        await world.demand_at("b", b"first")
        assert world.site("b").machine.system.find("x").running
        await world.start("a")
        await trio.sleep(20)
        assert world.serving() == ["b"]


async def test_the_target_of_an_unfinished_attempt_is_barred(autojump_clock) -> None:
    """An earlier target must be barred before a restart, because the dead source may have released to it.

    If that target can't be reached, the restart is refused.
    """
    async with moving("a", "b", "c") as world:
        world.power("a", on=True)
        world.network.cut = True
        entry = await opened(world)
        await world.kill("b")
        await world.kill("a")
        with pytest.raises(OperatorError) as caught:
            await restarted(world, "c")
        assert caught.value.rule is rules.RESTART_TARGET
        assert world.entry.owner == world.known("a").system_id
        await world.start("b")
        job = await world.ended(await restarted(world, "c"))
        assert job.state == "done", job.lines
        assert await world.custody("b") == ("none", world.entry.epoch - 1)
        assert world.entry.epoch > entry.epoch
        await world.demand_at("c", b"first")


async def test_a_target_without_a_stream_is_barred_by_its_answer(autojump_clock) -> None:
    """A target that answers requests but has no event stream is barred by its answer."""
    async with moving("a", "b", "c") as world:
        world.power("a", on=True)
        await opened(world)
        await world.kill("a")
        link = world.site("b").link

        def closed(console_id: str) -> Any:
            raise OperatorError(console.CONSOLE_SERVED, "no stream")

        link.events = closed  # type: ignore[method-assign]
        link.break_stream()
        await world.rig.until(lambda: not world.known("b").connected)
        job = await world.ended(await restarted(world, "c"))
        assert job.state == "done", job.lines
        await world.demand_at("c", b"first")


async def test_an_attempt_that_ends_while_its_target_is_asked_is_not_opened_again(autojump_clock) -> None:
    """If the earlier target already serves, the register keeps it as owner, and the restart fails."""
    async with moving("a", "b", "c") as world:
        world.power("a", on=True)
        world.network.cut = True
        entry = await opened(world)
        await world.kill("a")
        registry, link, asked = world.rig.console.registry, world.site("b").link, 0
        target, perform = world.known("b").system_id, link.call
        shown = CustodyView(world.uuid, "x", "arrived", "serving", entry.epoch, 1, entry.source)

        async def call(request: ConsoleRequest[Any]) -> Any:
            nonlocal asked
            asked += request.verb.operation == "showSystem"
            answer = await perform(request)
            now = heard(registry.of(world.uuid), target, shown)
            if asked == 2 and now:  # the first request is one of the checks before the order
                registry.enter(now)
            return answer

        link.call = call  # type: ignore[method-assign]
        job = await world.ended(await restarted(world, "c"))
        assert (job.state, world.entry.owner) == ("failed", target), job.lines
        assert (world.entry.moved, world.entry.decision.value) == (entry.epoch, "done")
        assert job.lines[-1] == "x belongs to b: attempt 1 moved it"


async def opened(world: Moving):
    """Enter an attempt from a to b in the register, but send no order to a or b."""
    from hcall_server.console.entries import Entry, begun

    registry = world.rig.console.registry
    entry = registry.of(world.uuid) or Entry(world.uuid, "x")
    ids = world.known("a").system_id, world.known("b").system_id
    registry.enter(begun(entry, "live", registry.next_epoch(world.uuid), *ids))
    return registry.of(world.uuid)


async def test_a_restart_that_is_decided_goes_on_at_its_target(autojump_clock) -> None:
    """A restart goes on after a lost answer. Then a cancel and a second restart are refused."""
    async with moving("a", "b", "c") as world:
        await world.kill("a")
        site = world.site("b")
        job = await restarted(world)
        trouble = Trouble(world, 4, "lost", "b")
        await trouble.over()
        await world.ended(job)
        with pytest.raises(OperatorError) as caught:
            await world.migrations.cancel(world.known("a"), "x")
        assert caught.value.rule is rules.MIGRATION_RUNNING
        with pytest.raises(OperatorError) as caught:
            await restarted(world, "c")
        assert caught.value.rule is rules.CUSTODY_OWNED
        assert site.machine.system.find("x").running


async def test_a_decided_restart_is_not_cancelled(autojump_clock) -> None:
    """A decided restart can't be cancelled: the source is fenced, and the target gets the partition."""
    async with moving() as world:
        await world.kill("a")
        job = await restarted(world)
        await world.rig.until(lambda: world.rig.console.registry.of(world.uuid))
        world.site("b").link.away = True
        world.site("b").link.break_stream()
        if world.entry.decision.value == "forced":
            with pytest.raises(OperatorError) as caught:
                await world.migrations.cancel(world.known("a"), "x")
            assert caught.value.rule is rules.MIGRATION_DECIDED
        await world.start("a")
        await trio.sleep(20)
        assert "a" not in world.serving()
        world.site("b").link.away = False
        assert (await world.ended(job)).state == "done"
        await world.demand_at("b", b"first")


async def decided(world: Moving):
    """Decide a restart of x at b, which refuses the copy. Then start a, which releases x."""
    await world.kill("a")
    perform, checks = world.site("b").link.call, []

    async def call(request: ConsoleRequest[Any]) -> Any:
        if request.verb.operation == "takePartition" and not getattr(request.body, "check", False):
            raise OperatorError(rules.ARRIVAL_SIZE, "there is no room")
        checks.append(request)
        return await perform(request)

    world.site("b").link.call = call  # type: ignore[method-assign]
    job = await world.ended(await restarted(world))
    assert (job.state, world.entry.decision.value) == ("failed", "forced")
    await world.start("a")
    await world.rig.until(lambda: (fact := fact_at(world, "a")) and fact.custody == "released")


def fact_at(world: Moving, name: str):
    """Return the custody of x in the last view of a system."""
    custody = world.known(name).view.custody  # type: ignore[union-attr]
    return next((each for each in custody if each.uuid == world.uuid), None)


async def test_a_decided_restart_goes_back_to_its_source(autojump_clock) -> None:
    """R-52, R-54: A cancel bars the target with one epoch, and gives the copy to the source with the next."""
    async with moving() as world:
        await decided(world)
        job = await world.ended(await world.migrations.cancel(world.known("a"), "x"))
        assert job.state == "done", job.lines
        assert job.lines == ["row 16: ARRIVED(3) at a", "x runs at a"]
        await world.demand_at("a", b"first")
        assert world.site("a").machine.system.find("x").running
        assert await world.custody("b") == ("none", 2)
        with pytest.raises(OperatorError) as caught:
            await world.migrations.cancel(world.known("a"), "x")
        assert caught.value.rule is rules.MIGRATION_RUNNING
        assert (await world.ended(await world.migrate())).state == "done"
        await world.demand_at("b", b"first")


async def test_a_restart_goes_back_only_with_its_target_barred(autojump_clock) -> None:
    """R-52: While the target is away, a cancel is refused, because the target may have the copy."""
    async with moving() as world:
        await decided(world)
        before = world.entry
        await world.kill("b")
        with pytest.raises(OperatorError) as caught:
            await world.migrations.cancel(world.known("a"), "x")
        assert caught.value.rule is rules.RESTART_TARGET
        assert world.entry == before
        assert world.serving() == []


async def test_a_restart_goes_back_only_to_a_source_that_takes_it(autojump_clock) -> None:
    """R-52: A cancel is refused if the source has no room or another trusted key."""
    async with moving() as world:
        await decided(world)
        before, count = world.entry, len(world.site("b").link.asked)
        await world.rig.ask(set_trusted_key("change", key=bytes(32)), world.site("a"))
        with pytest.raises(OperatorError) as caught:
            await world.migrations.cancel(world.known("a"), "x")
        assert caught.value.rule is rules.RESTART_KEY
        await world.rig.ask(set_trusted_key("change", key=KEY), world.site("a"))
        refused = world.refuse("a", "takePartition")
        with pytest.raises(OperatorError) as caught:
            await world.migrations.cancel(world.known("a"), "x")
        assert caught.value.rule is rules.ARRIVAL_SIZE
        assert world.entry == before
        assert "tellCustody" not in world.site("b").link.asked[count:]
        refused.clear()
        job = await world.ended(await world.migrations.cancel(world.known("a"), "x"))
        assert job.state == "done", job.lines
        await world.demand_at("a", b"first")


@pytest.mark.parametrize("number", range(1, 11))
@pytest.mark.parametrize("act", ["lost", "before", "after"])
async def test_a_trouble_at_each_request_of_a_cancel(autojump_clock, act, number) -> None:
    """R-52: After a fault in a cancel, one system owns the partition, and the order can be repeated."""
    async with moving() as world:
        await decided(world)
        trouble, order = Trouble(world, number, act), trio.CancelScope()
        kill = world.rig.kill_console

        def killed() -> None:
            kill()
            # The order runs in the console's process, so a kill ends it too.
            order.cancel()

        world.rig.kill_console = killed  # type: ignore[method-assign]

        async def ordered() -> None:
            with order, contextlib.suppress(OperatorError):
                await world.migrations.cancel(world.known("a"), "x")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ordered)
            await trouble.over()
        await trio.sleep(30)
        if world.entry.decision.value != "done":
            await world.ended(await world.migrations.cancel(world.known("a"), "x"))
        await world.demand_at("a", b"first")
        await trio.sleep(30)
        assert world.serving() == ["a"]


async def test_a_restart_that_waits_is_cancelled(autojump_clock) -> None:
    """A restart that waits is not decided yet. A cancel lets the source serve when it is back."""
    async with moving() as world:
        await world.kill("a")
        site = world.site("b")
        job = await restarted(world)
        site.link.away = True
        await trio.sleep(1)
        assert job.state == "running", job.lines
        output = await world.migrations.cancel(world.known("a"), "x")
        assert output == "the remote restart of x is cancelled"
        assert job.state == "failed"
        site.link.away = False
        await world.start("a")
        world.power("a", on=True) if not world.site("a").machine.system.find("x").running else None
        await world.demand_here("a", b"first")


async def test_a_partition_that_is_not_capable_is_refused(autojump_clock) -> None:
    """A partition with simplified_remote_restart_capable=0 is not restarted at another system."""
    async with moving() as world:
        from hcall_abi.requests import set_attributes

        await world.rig.ask(set_attributes("x", {"simplified_remote_restart_capable": 0}), world.site("a"))
        await world.rig.write("x", b"second", world.site("a"))
        await world.rig.copied()
        await world.kill("a")
        for _ in range(2):
            with pytest.raises(OperatorError) as caught:
                await restarted(world)
            assert caught.value.rule is rules.RESTART_CAPABLE
            await world.rig.restart_console()
            await world.rig.until(lambda: world.known("b").connected)
        assert world.rig.console.registry.of(world.uuid) is None
