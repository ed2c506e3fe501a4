"""The job `backup`: take copies of all stores of a system now (spec/console.md#copies).

The job does not wait for a system that is away, because it promises a copy of the present state.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.requests import show_system
from hcall_abi.rules import backup as copy_rules
from hcall_abi.rules import console
from hcall_server.console.jobs import JobRun
from hcall_server.console.taking import Taker

_SKIPPED = (console.NAME_EXISTS, console.POWER_STORED, copy_rules.TRUSTED_KEY_SET)
"""Rules that skip one store alone: it was deleted meanwhile, it can't be opened, or there is no key yet."""


class BackupPlan(msgspec.Struct):
    """The plan of a backup.  It has no fields: the job takes the partitions from the view when it begins."""


def backup(taker: Taker) -> Callable[[JobRun], Awaitable[None]]:
    """Return the function that performs a backup."""

    async def perform(run: JobRun) -> None:
        view = await run.system.call(show_system())
        if view.state != "Operating":
            message = f"{view.name} is in the state {view.state}: copies are made while it is Operating"
            raise OperatorError(console.SYSTEM_OPERATING, message)
        names = [each.name for each in view.partitions]
        run.expect(len(names))
        for name in names:
            if name not in run.steps:
                run.finish(name, await _line(taker, run, name))
        # A job prints one line for each step.  A system without partitions has no step, so this line is the
        # only sign that the job has ended.
        if not names:
            run.finish("", f"{view.name} has no partitions")

    return perform


async def _line(taker: Taker, run: JobRun, name: str) -> str:
    try:
        copy = await taker.take(run.system, name)
    except SwpksError as error:
        if error.rule not in _SKIPPED:
            raise
        return f"{name}: no copy: {error.message}"
    if copy is None:
        return f"{name}: no copy: the console holds newer ones, so this system is older than they are"
    return f"{name}: restores {copy.restores}, generation {copy.generation}, {copy.kbytes} KiB"
