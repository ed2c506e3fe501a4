"""Failed, repeated and late restores leave one owner, and the operator can go on (R-45, R-54)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.requests import ConsoleRequest, change_partition, restore_copy, show_system
from hcall_abi.rules import console as console_rules
from hcall_abi.rules import migration as rules
from tests.console.moving import Moving, moving
from tests.console.test_restored_elsewhere import copy_at, dead_source, deleted_at, restored_at

Perform = Callable[[ConsoleRequest[Any]], Awaitable[Any]]


def between(world: Moving, name: str, call: Callable[[Perform, ConsoleRequest[Any]], Awaitable[Any]]) -> None:
    """Call a function before each request to a site."""
    link = world.site(name).link
    perform = link.call

    async def put(request: ConsoleRequest[Any]) -> Any:
        return await call(perform, request)

    link.call = put  # type: ignore[method-assign]


async def lost(perform: Perform, request: ConsoleRequest[Any]) -> Any:
    """Lose the answer to a restore."""
    answer = await perform(request)
    if request.verb.operation == "restoreCopy":
        raise OperatorError(console_rules.CONSOLE_SERVED, "the answer was lost")
    return answer


async def never_asks(world: Moving) -> bytes:
    """Make a partition x that serves without a question to its console, and delete it.

    Return the copy of x that was made before.
    """
    without = change_partition("x", attributes={"simplified_remote_restart_capable": 0})
    await world.known("a").call(without)
    copy = await copy_at(world, "a")
    await deleted_at(world, "a")
    return copy


async def owned_elsewhere(world: Moving, name: str, copy: bytes, owner: str) -> None:
    """Assert that a restore is refused, because another system owns the partition."""
    with pytest.raises(OperatorError, match=f"it belongs to {owner}") as caught:
        await restored_at(world, name, copy)
    assert caught.value.rule is rules.CUSTODY_OWNED


async def test_two_restores_at_once(autojump_clock) -> None:
    """R-54: Of two restores at the same time the second is refused, also if the partition never asks."""
    async with moving("a", "b", "c") as world:
        copy = await never_asks(world)
        refused: list[str] = []

        async def order(name: str) -> None:
            try:
                await restored_at(world, name, copy)
            except OperatorError as error:
                refused.append(error.rule.id)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(order, "b")
            nursery.start_soon(order, "c")
        assert (refused, len(world.serving())) == ([rules.CUSTODY_OWNED.id], 1)


async def test_a_lost_answer_keeps_the_owner(autojump_clock) -> None:
    """R-54: If the answer to a restore is lost, the system stays the owner: it may have the store."""
    async with moving("a", "b", "c") as world:
        copy = await never_asks(world)
        between(world, "b", lost)
        with pytest.raises(SwpksError, match="lost"):
            await restored_at(world, "b", copy)
        await owned_elsewhere(world, "c", copy, "b")
        assert world.serving() == ["b"]


async def test_a_system_that_is_away_gets_nothing(autojump_clock) -> None:
    """R-54: A restore at an absent system fails before the register names this system as owner."""
    async with moving("a", "b", "c") as world:
        copy = await dead_source(world)
        await world.kill("c")
        with pytest.raises(SwpksError):
            await restored_at(world, "c", copy)
        await restored_at(world, "b", copy)
        await world.demand_at("b", b"first")


async def test_a_store_that_the_last_view_shows(autojump_clock) -> None:
    """R-54: If the last view of an absent system has a store, no other system can restore it.

    That also holds if the console restarted and has no copy of the store.
    """
    async with moving("a", "b", "c") as world:
        copy = await never_asks(world)
        await world.rig.ask(restore_copy(copy), world.site("b"))
        await world.rig.until(lambda: world.uuid in world.known("b").stores)
        world.rig.kill_console()
        for each in world.rig.store.copies(world.known("b").key):
            world.rig.store.forget(world.known("b").key, [each.uuid])
        world.site("b").link.away = True
        await world.rig.restart_console()
        with pytest.raises(OperatorError, match="b has it"):
            await restored_at(world, "c", copy)


async def test_a_restart_beside_a_store_elsewhere(autojump_clock) -> None:
    """R-54: A partition of a removed system was restored elsewhere.

    When that system returns, no restart begins.
    """
    async with moving("a", "b", "c") as world:
        copy = await copy_at(world, "a")
        await world.kill("a")
        where = world.known("a").where
        await world.rig.console.remove_system("a")
        await restored_at(world, "c", copy)
        await world.site("a").start(world.rig.nursery)
        await world.rig.console.add_system(where)
        await world.rig.until(lambda: world.known("a").connected)
        await world.kill("a")
        with pytest.raises(OperatorError) as caught:
            await world.migrations.restart(world.known("a"), world.known("b"), "x")
        assert caught.value.rule is rules.CUSTODY_OWNED
        await world.kill("c")
        await world.start("c")
        await world.demand_at("c", b"first")


async def test_an_owner_that_was_removed_does_not_count(autojump_clock) -> None:
    """R-45: With `remove-system` the operator promises that the system never serves again.

    It owns nothing then.
    """
    async with moving("a", "b", "c") as world:
        assert (await world.ended(await world.migrate())).state == "done"
        copy = await copy_at(world, "b")
        await world.kill("b")
        await world.rig.console.remove_system("b")
        await restored_at(world, "c", copy)
        await world.demand_at("c", b"first")


async def test_a_profile_restore_that_fails_gives_nothing(autojump_clock) -> None:
    """R-46, R-54: a partition that was not restored gets no owner."""
    async with moving("a", "b", "c") as world:
        console = world.rig.console
        assert (await world.ended(await world.migrate())).state == "done"
        copy = await copy_at(world, "b")
        backup = await console.save_profiles(world.known("b"))
        await deleted_at(world, "b")
        world.refuse("b", "restoreCopy")
        plan = await console.plan_profiles(world.known("b"), 1, backup)
        job = await world.ended(console.restore_profiles(world.known("b"), plan, force=True))
        assert (job.state, world.entry.owner) == ("failed", "")
        await restored_at(world, "c", copy)
        await world.demand_at("c", b"first")


async def test_a_view_of_before_a_deletion_comes_late(autojump_clock) -> None:
    """R-54: The console asks for a new view before a restore.

    So an old view with a deleted store blocks nothing.
    """
    async with moving("a", "b", "c") as world:
        copy = await copy_at(world, "a")
        held, free = trio.Event(), trio.Event()

        async def slow(perform: Perform, request: ConsoleRequest[Any]) -> Any:
            answer = await perform(request)
            if request.verb.operation == "showSystem" and not held.is_set():
                held.set()
                await free.wait()
            return answer

        between(world, "a", slow)
        world.rig.nursery.start_soon(world.known("a").call, show_system())
        await held.wait()
        await deleted_at(world, "a")
        free.set()
        await trio.sleep(1)
        await restored_at(world, "c", copy)
        await world.demand_at("c", b"first")
