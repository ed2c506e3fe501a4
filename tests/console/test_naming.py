"""Messages have the names of systems and partitions in place of their ids, if the console knows them."""

from __future__ import annotations

import pytest

from hcall_abi.errors import OperatorError
from hcall_abi.requests import power_on, show_system
from hcall_abi.rules import console as control
from hcall_abi.rules import migration as rules
from tests.console.moving import Moving, moving

FOREIGN = "0123456789abcdef" * 2


async def refusal(world: Moving, system: str) -> str:
    """Return the refusal of a power-on of x by a system."""
    with pytest.raises(OperatorError) as caught:
        await world.known(system).call(power_on("x"))
    assert caught.value.message == str(caught.value.args[0])
    return caught.value.message


async def test_a_refusal_of_a_system_names_the_other_one(autojump_clock) -> None:
    """The console names the other system of a move; the system that refuses knows only its id."""
    async with moving() as world:
        world.refuse("b", "takePartition")
        await world.ended(await world.migrate())
        message = await refusal(world, "a")
        assert message == (
            "x is RELEASED (settled) since attempt 1, with the system b: "
            "it is released to its target, and its store is still here; use it at its owner; "
            "at the console: swpks hmc --store DIR lslparmigr -r lpar -m SYSTEM -F name,owner_sys_name; "
            "the other system has to run; "
            "after a remote restart remove this store: "
            "swpks hmc --store DIR rrstartlpar -o cleanup -m SYSTEM -p x"
        )
        assert world.known("b").system_id not in message


async def test_texts(autojump_clock) -> None:
    """A message gets the name for a known id. An unknown id stays, and so does an id in parentheses.

    The messages of two rules that compare UUIDs stay as they are.
    """
    async with moving() as world:
        names, b = world.rig.console.registry.names, world.known("b").system_id
        other = world.uuid.translate(str.maketrans("0123456789abcdef", "123456789abcdef0"))
        assert names.named(f"{world.uuid} moves to {b}.") == "x moves to b."
        assert names.named(f"{other} moves to {FOREIGN}") == f"{other} moves to {FOREIGN}"
        assert (
            names.named(f"this one is b ({b}), x ({world.uuid})") == f"this one is b ({b}), x ({world.uuid})"
        )
        assert names.named(f"{b}0") == f"{b}0"
        assert (names.partition(world.uuid), names.partition(other)) == ("x", f"the partition {other}")
        for rule in (rules.CUSTODY_UUID, control.CONSOLE_COPY):
            error = OperatorError(rule, f"x is {world.uuid}, not {other}")
            names.put(error)
            assert error.message == f"x is {world.uuid}, not {other}"


async def test_a_system_that_is_away_leaves_its_names(autojump_clock) -> None:
    """Names of a system that is away come from its last view and from copies of its stores."""
    async with moving() as world:
        await world.rig.ask(show_system(), world.site("a"))
        await world.kill("a")
        assert world.rig.console.registry.names.of(world.uuid) == "x"
        assert world.rig.console.registry.names.of(world.known("a").system_id) == "a"
        with pytest.raises(OperatorError) as caught:
            world.migrations._tools.entry(world.uuid)
        assert caught.value.message == "x takes part in no migration"
