"""Rules about custody, broken by requests to a machine: wrong order, number, identity, power, or NVRAM.

A custody says which system owns a partition.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import trio

from hcall_abi.bounds import MAX_BARRED
from hcall_abi.faults import NvramFault
from hcall_abi.requests import ConsoleRequest, release_partition, tell_custody
from hcall_abi.rules.rule import Rule
from hcall_server.platform.custody import Custody, Word
from hcall_server.platform.departed import Departed
from tests.custody.world import WITH_A, A, E, Home
from tests.rules.breaking import Break, Breaks, refused_late, run

TARGET = "ee" * 16
NEVER_HERE = "0d1d5f52-5b2a-4d0c-9d9a-0a3c1a4b9f11"


def at_home(wrong: Callable[[Home], Awaitable[Rule]]) -> Break:
    """Return a function that breaks a rule: `wrong` makes a request to a system whose partition `a` runs."""

    async def broken() -> Rule:
        async with trio.open_nursery() as nursery:
            home = Home(nursery, WITH_A, b"s")
            await home.run(home.machine)
            rule = await wrong(home)
            home.stop()
        return rule

    return lambda _: run(broken)


def released(home: Home, uuid: object = None, epoch: int = E) -> Awaitable[Rule]:
    """Order a release of `a`; return the rule in the refusal."""
    request = release_partition(A, str(uuid or home.uuid), epoch, TARGET)
    asked = home.link.call(request)
    return refused_late(asked)


async def _while_another_runs(home: Home) -> Rule:
    await home.take(home.uuid, Word.BEGIN)
    home.machine.power_off(A)
    return await released(home, epoch=E + 1)


async def _old_number(home: Home) -> Rule:
    home.machine.power_off(A)
    home.a.set_custody(home.a.profile.custody, E, b"")
    return await released(home)


async def _another_uuid(home: Home) -> Rule:
    home.machine.changes.create("b")
    return await released(home, home.machine.system.find("b").profile.uuid)


async def _not_stored(home: Home) -> Rule:
    home.machine.nvram.set_faults(NvramFault("io", times=99))
    request = tell_custody(NEVER_HERE, E, "bar")
    asked = home.link.call(request)
    rule = await refused_late(asked)
    home.machine.nvram.set_faults()
    return rule


async def _one_too_many(home: Home) -> Rule:
    departed = home.machine.system.departed
    for number in range(MAX_BARRED):
        uuid = UUID(int=number)
        departed[uuid] = Departed(uuid, "", Custody.NONE, E)
    request: ConsoleRequest[Any] = tell_custody(NEVER_HERE, E, "bar")
    return await refused_late(home.link.call(request))


BREAKS: Breaks = {
    "custody.barred": at_home(_one_too_many),
    "custody.idle": at_home(_while_another_runs),
    "custody.epoch": at_home(_old_number),
    "custody.uuid": at_home(_another_uuid),
    "custody.stored": at_home(_not_stored),
    "migration.power": at_home(released),
}
