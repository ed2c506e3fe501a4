"""A partition that was deleted, or restored at another system, still has one owner (R-54)."""

from __future__ import annotations

import shlex

import pytest
import trio

from hcall_abi.errors import OperatorError
from hcall_abi.requests import delete_partition, power_off, restore_copy, show_copy
from hcall_abi.rules import console as console_rules
from hcall_abi.rules import migration as rules
from hcall_server.console.lines.run import run_line
from hcall_server.platform.custody import Mode
from tests.console.moving import Moving, moving
from tests.console.stand import StandCaller


async def copy_at(world: Moving, name: str) -> bytes:
    """Return a copy of x as it is at a site."""
    return (await world.known(name).call(show_copy("x"))).copy


async def deleted_at(world: Moving, name: str) -> None:
    """Delete x as an operator, and wait until the console has noted it."""
    if world.site(name).machine.system.find("x").running:
        await world.known(name).call(power_off("x"))
    await world.known(name).call(delete_partition("x", destroy=True))
    await world.rig.until(lambda: world.uuid not in world.known(name).stores)
    entry = world.rig.console.registry.of
    await world.rig.until(lambda: not (found := entry(world.uuid)) or not found.owner)


async def restored_at(world: Moving, name: str, copy: bytes) -> None:
    """Restore a copy through the console, as an operator."""
    await world.rig.console.restore(world.known(name), restore_copy(copy))


async def dead_source(world: Moving) -> bytes:
    """Kill system a, restart x at b, delete it there; return a copy of it."""
    world.power("a", on=True)
    await world.kill("a")
    job = await world.migrations.restart(world.known("a"), world.known("b"), "x")
    assert (await world.ended(job)).state == "done"
    await world.rig.until(lambda: world.rig.store.copies_of(world.uuid))
    copy = await copy_at(world, "b")
    await deleted_at(world, "b")
    return copy


async def back_and_asked(world: Moving) -> None:
    """Start system a again, with time to repeat its question."""
    await world.start("a")
    await trio.sleep(30)


async def test_a_copy_is_not_restored_beside_its_partition(autojump_clock) -> None:
    """R-54: While a system has a partition, no copy of it is restored at another system."""
    async with moving("a", "b", "c") as world:
        copy = await copy_at(world, "a")
        for away in (False, True):
            if away:
                await world.kill("a")
            with pytest.raises(OperatorError, match="a has it: delete it there") as caught:
                await restored_at(world, "c", copy)
            assert caught.value.rule is rules.CUSTODY_OWNED
        await world.rig.console.remove_system("a")
        await restored_at(world, "c", copy)
        assert world.serving() == ["c"]


async def test_a_partition_that_was_restored_past_the_console_waits(autojump_clock) -> None:
    """R-54: A system that restored a store without the console waits while another system has the store."""
    async with moving() as world:
        copy = await copy_at(world, "a")
        restored = await world.rig.ask(restore_copy(copy), world.site("b"))
        await trio.sleep(30)
        assert (restored.mode, world.serving()) == ("asking", ["a"])
        assert await waits(world, "a") == ""
        assert await waits(world, "b") == (
            "a shows its store; delete one of the two, such as by `swpks hmc delete x -m a`; "
            "if a is lost: `swpks hmc remove-system a`"
        )
        await deleted_at(world, "a")
        await world.rig.until(lambda: world.serving() == ["b"])


async def waits(world: Moving, system: str) -> str:
    """Return the attribute `waits` that lslparmigr lists for the partition on a system."""
    caller = StandCaller()
    line = shlex.split(f"lslparmigr -r lpar -m {system} -F waits")
    assert await run_line(world.rig.console, line, caller) == 0
    return "" if caller.lines == ["null"] else caller.lines[0].strip('"')


async def test_a_dead_source_is_fenced_after_a_deletion(autojump_clock) -> None:
    """R-54: A source that returns does not serve a partition that was deleted at its last owner."""
    async with moving() as world:
        await dead_source(world)
        await back_and_asked(world)
        assert world.serving() == []
        assert await world.custody("a") == ("released", 1)


@pytest.mark.parametrize("place", ["b", "c"])
async def test_a_restored_partition_serves_where_it_was_restored(autojump_clock, place: str) -> None:
    """R-54: A deleted partition serves at the system where an operator restores it.

    The dead source is fenced.
    """
    async with moving("a", "b", "c") as world:
        copy = await dead_source(world)
        await restored_at(world, place, copy)
        await back_and_asked(world)
        await world.demand_at(place, b"first")
        assert await world.custody("a") == ("released", 1)
        job = await world.migrate(place, "b" if place == "c" else "c")
        assert (await world.ended(job)).state == "done", job.lines


async def test_a_restored_partition_that_does_not_ask_has_an_owner(autojump_clock) -> None:
    """R-54: After a restore without the console, the register takes the owner from the view of the system."""
    async with moving("a", "b", "c") as world:
        copy = await dead_source(world)
        await world.rig.ask(restore_copy(copy), world.site("b"))
        await world.rig.until(lambda: world.serving() == ["b"])
        assert world.rig.console.registry.name_of(world.entry.owner) == "b"
        with pytest.raises(OperatorError, match="it belongs to b"):
            await restored_at(world, "c", copy)


async def test_a_refused_restore_gives_nothing(autojump_clock) -> None:
    """R-54: After a refused restore the partition has no owner.

    After a lost answer, the restoring system owns it.
    """
    async with moving("a", "b", "c") as world:
        copy = await dead_source(world)
        refused = world.refuse("c", "restoreCopy")
        with pytest.raises(OperatorError, match="no room"):
            await restored_at(world, "c", copy)
        refused.clear()
        assert world.entry.owner == ""
        perform = world.site("c").link.call

        async def lost(request):
            answer = await perform(request)
            if request.verb.operation == "restoreCopy":
                raise OperatorError(console_rules.CONSOLE_SERVED, "the answer was lost")
            return answer

        world.site("c").link.call = lost  # type: ignore[method-assign]
        with pytest.raises(OperatorError, match="lost"):
            await restored_at(world, "c", copy)
        await world.demand_at("c", b"first")


async def test_a_recovery_brings_nothing_back_that_was_deleted(autojump_clock) -> None:
    """R-45, R-54: an old copy and a lost system do not bring a deleted partition back."""
    async with moving() as world:
        store, key = world.rig.store, world.known("a").key
        *_, facts = store.copies(key)
        blob = store.blob(facts.number)
        await dead_source(world)
        store.keep_copy(key, facts, blob, [facts.uuid], 1)
        world.site("a").lose_service_processor()
        await back_and_asked(world)
        assert world.serving() == []
        job = world.rig.console.jobs.all[-1]
        assert any("it has moved, and was deleted" in line for line in job.lines), job.lines
        assert all(each.mode is not Mode.SERVING for each in world.site("a").machine.system.places.values())
