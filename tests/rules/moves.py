"""Rules of the console's orders about migrations and remote restarts, broken with real machines."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from hcall_abi.requests import set_attributes
from hcall_abi.rules.catalogue import RULES
from hcall_abi.rules.rule import Rule
from hcall_server.console.jobs import Job
from tests.console.moving import Moving, moving
from tests.console.test_migrate import frozen_without_end, released
from tests.console.test_restart import opened
from tests.rules.breaking import Break, Breaks, refused_late, run

Step = Callable[[Moving], Awaitable[Rule]]


def met(step: Step, *names: str, one_key: bool = True) -> Break:
    """Return a function that breaks a rule: `step` gives an order to a console with these systems."""

    async def performed() -> Rule:
        async with moving(*names, one_key=one_key) as world:
            return await step(world)

    return lambda _: run(performed)


async def _failed(world: Moving, job: Job) -> Rule:
    return RULES[(await world.ended(job)).rule_id]


async def _one_system(world: Moving) -> Rule:
    return await refused_late(world.migrate("a", "a"))


async def _nothing_runs(world: Moving) -> Rule:
    return await refused_late(world.migrations.stop(world.known("a"), "x"))


async def _released(world: Moving) -> Rule:
    await released(world)
    return await refused_late(world.migrations.stop(world.known("a"), "x"))


async def _no_copy_to_force(world: Moving) -> Rule:
    await frozen_without_end(world, arrives=False)
    await world.kill("a")
    return await refused_late(world.migrations.recover(world.known("a"), "x", force=True))


async def _not_reached(world: Moving) -> Rule:
    world.power("a", on=True)
    world.network.cut = True
    return await _failed(world, await world.migrate())


async def _restarted(world: Moving, target: str = "b") -> Rule:
    return await refused_late(world.migrations.restart(world.known("a"), world.known(target), "x"))


async def _not_capable(world: Moving) -> Rule:
    await world.rig.ask(set_attributes("x", {"simplified_remote_restart_capable": 0}), world.site("a"))
    await world.rig.write("x", b"second", world.site("a"))
    await world.rig.copied()
    await world.kill("a")
    return await _restarted(world)


async def _no_copy(world: Moving) -> Rule:
    await world.kill("a")
    return await refused_late(world.migrations.restart(world.known("a"), world.known("b"), "unknown"))


async def _other_key(world: Moving) -> Rule:
    await world.kill("a")
    return await _restarted(world)


async def _not_barred(world: Moving) -> Rule:
    await opened(world)
    await world.kill("b")
    await world.kill("a")
    return await refused_late(world.migrations.restart(world.known("a"), world.known("c"), "x"))


async def _nothing_stands(world: Moving) -> Rule:
    return await refused_late(world.migrations.cleanup(world.known("a"), "x"))


BREAKS: Breaks = {
    "migration.systems": met(_one_system),
    "migration.running": met(_nothing_runs),
    "migration.decided": met(_released),
    "migration.force": met(_no_copy_to_force),
    "migration.failed": met(_not_reached),
    "restart.capable": met(_not_capable),
    "restart.source": met(_restarted),
    "restart.copy": met(_no_copy),
    "restart.key": met(_other_key, one_key=False),
    "restart.target": met(_not_barred, "a", "b", "c"),
    "restart.cleanup": met(_nothing_stands),
}
