"""The table "Abort and recover at each step" of spec/migration.md: each cell is tested (R-51)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio

import hcall_abi
from hcall_abi.errors import OperatorError
from hcall_abi.requests import ConsoleRequest
from hcall_abi.rules import console
from hcall_abi.rules import migration as rules
from hcall_abi.rules.rule import Rule
from hcall_server.platform.custody import Custody
from tests.console.moving import Moving, moving
from tests.console.test_migrate import frozen_without_end
from tests.console.test_restored_elsewhere import deleted_at
from tests.console.test_safety import frozen_released

Deaf = list[set[str]]
"""Words that systems do not receive until the order is made."""
PAGE = Path(hcall_abi.__file__).parents[1] / "migration.md"


async def copying(world: Moving) -> Deaf:
    world.power("a", on=True)
    world.network.silent = True
    await world.migrate()
    await trio.sleep(1)
    return []


async def waiting(world: Moving) -> Deaf:
    await frozen_without_end(world, arrives=False)
    return []


async def waiting_prepared(world: Moving) -> Deaf:
    deaf = world.deafen("a", "prepared")
    await frozen_without_end(world)
    await world.rig.until(lambda: world.known("b").view.custody)  # type: ignore[union-attr]
    return [deaf]


async def in_doubt(world: Moving) -> Deaf:
    """Bring the source into doubt, and break its stream to the console.

    So the source can't ask the console what to do.
    """
    deaf = world.deafen("a", "prepared")
    await frozen_without_end(world)
    link = world.site("a").link
    link.away = True
    link.break_stream()
    await trio.sleep(15)
    assert world.site("a").machine.system.find("x").mode.value == "in-doubt"
    return [deaf]


async def in_doubt_again(world: Moving) -> Deaf:
    """Bring the source into doubt as `in_doubt` does. Then its link works again, but RESUME is lost."""
    deaf = [*await in_doubt(world), world.deafen("a", "resume")]
    world.site("a").link.away = False
    return deaf


async def frozen_dead(world: Moving) -> Deaf:
    deaf = await waiting_prepared(world)
    await world.kill("a")
    return deaf


async def released(world: Moving) -> Deaf:
    return [await frozen_released(world)]


async def released_dead(world: Moving) -> Deaf:
    deaf = await released(world)
    await world.kill("a")
    return deaf


async def released_unseen(world: Moving) -> Deaf:
    """Kill the source before the console could see that the source has released the partition."""
    deaf = world.deafen("b", "activate")
    world.power("a", on=True)
    link, partition = world.site("a").link, world.site("a").machine.system.find("x")

    def lost() -> bool:
        if partition.profile.custody is Custody.FROZEN and not link.away:
            link.away = True
            link.break_stream()
        return partition.profile.custody is Custody.RELEASED

    world.network.deaf = {"target": lost}
    await world.migrate()
    await world.rig.until(lambda: partition.profile.custody is Custody.RELEASED, 30)
    await world.kill("a")
    return [deaf]


async def arrived(world: Moving) -> Deaf:
    deaf = world.deafen("a", "active")
    world.power("a", on=True)
    partition = world.site("a").machine.system.find("x")
    world.network.deaf = {"source": lambda: partition.profile.custody is Custody.RELEASED}
    job = await world.migrate()
    await world.ended(job)
    assert (await world.custody("a"))[0] == "released"
    return [deaf]


async def resumed(world: Moving) -> Deaf:
    deaf = [world.deafen("a", "prepared"), world.deafen("b", "aborted")]
    job = await frozen_without_end(world)
    world.network.deaf, world.network.cut = {"source": lambda: True, "target": lambda: True}, True
    await world.migrations.stop(world.known("a"), "x")
    await world.ended(job)
    assert (await world.custody("b"))[0] == "prepared"
    return deaf


class Cell(NamedTuple):
    """One order in one state: the rule of its refusal (None: accepted), and the owner at the end."""

    source: str
    target: str
    state: Callable[[Moving], Awaitable[Deaf]]
    order: str
    refused: Rule | None
    owner: str
    end: tuple[str, str]
    """The custody of both systems."""
    job: bool = True
    """Whether a job follows the attempt when the order comes; another error may have ended the job."""


EITHER = "NONE or PREPARED"
CELLS = (
    Cell("OWN, copying", "NONE", copying, "s", None, "a", ("own", "none")),
    Cell("OWN, copying", "NONE", copying, "r", None, "b", ("gone", "arrived")),
    Cell("FROZEN, waiting", EITHER, waiting, "s", None, "a", ("own", "none")),
    Cell("FROZEN, waiting", EITHER, waiting_prepared, "s", None, "a", ("own", "none")),
    Cell("FROZEN, waiting", EITHER, waiting, "r", None, "a", ("own", "none")),
    Cell("FROZEN, in doubt", EITHER, in_doubt_again, "s", None, "a", ("own", "none")),
    Cell("FROZEN, in doubt", EITHER, in_doubt_again, "r", None, "b", ("gone", "arrived")),
    Cell("FROZEN, in doubt", EITHER, in_doubt, "r --force", None, "b", ("gone", "arrived")),
    Cell("FROZEN, dead", "PREPARED", frozen_dead, "s", console.CONSOLE_SERVED, "", ("", "prepared")),
    Cell("FROZEN, dead", "PREPARED", frozen_dead, "r --force", None, "b", ("", "arrived")),
    Cell("RELEASED", "PREPARED", released, "s", rules.MIGRATION_DECIDED, "b", ("gone", "arrived")),
    Cell("RELEASED", "PREPARED", released, "r", None, "b", ("gone", "arrived")),
    Cell("RELEASED, dead", "PREPARED", released_dead, "s", rules.MIGRATION_DECIDED, "b", ("", "arrived")),
    Cell("RELEASED, dead", "PREPARED", released_dead, "r", None, "b", ("", "arrived")),
    Cell("RELEASED, dead", "PREPARED", released_unseen, "s", console.CONSOLE_SERVED, "", ("", "prepared")),
    Cell("RELEASED, dead", "PREPARED", released_unseen, "r --force", None, "b", ("", "arrived")),
    Cell("RELEASED", "ARRIVED", arrived, "s", rules.MIGRATION_RUNNING, "b", ("gone", "arrived")),
    Cell("RELEASED", "ARRIVED", arrived, "r", rules.MIGRATION_RUNNING, "b", ("gone", "arrived")),
    Cell("OWN", "PREPARED", resumed, "s", rules.MIGRATION_RUNNING, "a", ("own", "none")),
    Cell("OWN", "PREPARED", resumed, "r", rules.MIGRATION_RUNNING, "a", ("own", "none")),
)


WITHOUT_JOB = tuple(each._replace(job=False) for each in CELLS if each.order != "s")


def _name(cell: Cell) -> str:
    return f"{cell.state.__name__}-{cell.order}{'' if cell.job else '-no job'}"


def test_every_row_of_the_page_is_walked() -> None:
    """Each of the eight rows of the page's table has cells here, for both orders."""
    text = PAGE.read_text()
    table = text.partition("**Abort and recover at each step:**")[2].partition("\n\n")[2].partition("\n\n")[0]
    rows = [re.split(r" *\| *", line)[1:3] for line in table.splitlines()[2:]]
    assert len(rows) == 8
    for row in rows:
        orders = {cell.order[0] for cell in CELLS if [cell.source, cell.target] == row}
        assert orders == {"s", "r"}, row


@pytest.mark.parametrize("cell", [*CELLS, *WITHOUT_JOB], ids=_name)
async def test_a_cell(autojump_clock, cell: Cell) -> None:
    """R-51: the order is accepted or refused as the cell says, and one system owns the partition."""
    async with moving() as world:
        deaf = await cell.state(world)
        a, found = world.known("a"), None
        if not cell.job:
            world.rig.console.jobs.end_of(a, "ended")
            await trio.sleep(1)
        if cell.order != "r --force":
            for each in deaf:
                each.clear()
        try:
            if cell.order == "s":
                await world.migrations.stop(a, "x")
            else:
                await world.migrations.recover(a, "x", force=cell.order.endswith("force"))
        except OperatorError as error:
            found = error.rule
        assert found is cell.refused
        for each in deaf:
            each.clear()
        world.network.deaf, world.network.silent, world.network.cut = {}, False, False
        if world.site("a").link.machine is not None:
            world.site("a").link.away = False
        await trio.sleep(60)
        ends = [await world.custody("a") if cell.end[0] else ("",), await world.custody("b")]
        assert tuple(each[0] for each in ends) == cell.end
        assert world.serving() == ([cell.owner] if cell.owner else [])


async def test_a_source_keeps_no_store_of_a_deleted_partition(autojump_clock) -> None:
    """R-51, R-54: A source learns of the move and of the deletion at the target, and then drops its store."""
    async with moving() as world:
        (deaf,) = await arrived(world)
        await deleted_at(world, "b")
        deaf.clear()
        world.network.deaf = {}
        await trio.sleep(60)
        assert (await world.custody("a"), world.serving()) == (("gone", 1), [])


async def on_its_way(world: Moving, operation: str) -> trio.Event:
    """Send an order of the job, and delay it until the returned event is set."""
    if operation == "beginMigration":
        world.power("a", on=True)
    link, sent, go = world.site("a").link, trio.Event(), trio.Event()
    perform = link.call

    async def call(request: ConsoleRequest[Any]) -> Any:
        if request.verb.operation == operation:
            sent.set()
            await go.wait()
        return await perform(request)

    link.call = call  # type: ignore[method-assign]
    await world.migrate()
    await sent.wait()
    return go


@pytest.mark.parametrize("operation", ["beginMigration", "releasePartition"])
async def test_a_stop_overtakes_an_order(autojump_clock, operation: str) -> None:
    """R-51: the ABORT of a stop overtakes an order.  The partition moves, so the stop is refused."""
    async with moving() as world:
        go = await on_its_way(world, operation)

        async def later() -> None:
            await world.rig.until(lambda: world.entry.decision.value == "aborted")
            go.set()

        world.rig.nursery.start_soon(later)
        with pytest.raises(OperatorError) as caught:
            await world.migrations.stop(world.known("a"), "x")
        assert caught.value.rule is rules.MIGRATION_DECIDED
        assert (await world.ended()).state == "done"
        await world.demand_at("b", b"first")


@pytest.mark.parametrize("operation", ["beginMigration", "releasePartition"])
async def test_a_stop_tells_of_a_job_that_has_not_ended(autojump_clock, operation: str) -> None:
    """R-51: A stop waits only some seconds for a request of the job.

    If the request takes longer, the stop reports that this request may still arrive.
    """
    async with moving() as world:
        go = await on_its_way(world, operation)
        output = await world.migrations.stop(world.known("a"), "x")
        late = "job 1 has not ended, and an order of it may still arrive there"
        assert output == f"the attempt 1 of x is stopped: a serves it; {late}"
        go.set()
        assert (await world.ended()).state == "done"
        await world.demand_at("b", b"first")
