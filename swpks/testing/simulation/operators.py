"""The operator of a simulated console: orders may be wrong, and the console may crash during an order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import trio

from hcall_abi.control_views import PartitionView
from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.requests import ConsoleRequest, ipl, power_off, power_on
from hcall_abi.rules import hmc as rules
from swpks.testing.simulation.desk import Desk
from swpks.testing.simulation.trace import Trace

if TYPE_CHECKING:
    from random import Random

    from hcall_server.console.console import ManagementConsole
    from hcall_server.console.jobs import Job
    from hcall_server.console.systems import KnownSystem

T = TypeVar("T")
PATIENCE = 8.0
"""Seconds for which an operator follows a job."""


class Ways:
    """The names of the systems, and for each system the target of the last order."""

    def __init__(self, systems: Sequence[str], chance: Random) -> None:
        self.systems = tuple(systems)
        self._chance = chance
        self._last: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Ways({self._last!r})"

    def choose(self, source: str) -> str:
        """Draw the target of a new order at `source`, store it as the last one, and return it."""
        others = [each for each in self.systems if each != source]
        self._last[source] = target = self._chance.choice(others)
        return target

    def last(self, source: str) -> str:
        """Return the target of the last order at a source; without an order, return another system."""
        return self._last.get(source) or next(each for each in self.systems if each != source)


class Operator:
    """Gives orders about the partition `name`; a refusal is counted and not raised."""

    def __init__(
        self, desk: Desk, name: str, ways: Ways, trace: Trace, restarts: Callable[[], Callable[[], None]]
    ) -> None:
        self._desk = desk
        self.name = name
        self._ways = ways
        self._trace = trace
        self._restarts = restarts
        """Called before each order of a remote restart; it returns the function that withdraws the order."""
        self.busy = 0
        """The number of orders without an answer."""
        self.done = 0
        self.refused = 0
        self.open_restart: str | None = None
        """The system of the last order of a restart, if that order has failed: it has to be given again."""

    def __repr__(self) -> str:
        return f"Operator({self.done} orders done, {self.refused} refused)"

    async def order(self, what: str, where: str) -> bool:
        """Give an order about the partition on a system; return whether it was carried out in time."""
        console = self._desk.console
        if console is None:
            return False
        text = "no answer"
        self.busy += 1
        # `_restarts` is called before the order. The console chooses its newest copy at some moment after
        # this one. So the restart may not bring an older copy than the newest one now.
        refused = self._restarts() if what == "restart" else _nothing
        try:
            with trio.move_on_after(PATIENCE):
                await self._perform(console, what, where)
                text = "done"
        except SwpksError as error:
            text = f"{error.rule.id}: {error.message[:90]}"
            refused()
        finally:
            self.busy -= 1
        if what == "restart":
            self.open_restart = None if text == "done" else where
        self.done += text == "done"
        self.refused += text != "done"
        self._trace.note("operator", f"{what} {self.name} of {where}: {text}")
        return text == "done"

    async def _perform(self, console: ManagementConsole, what: str, where: str) -> None:
        here = _known(console, where)
        there = _known(console, self._ways.choose(where) if what in _MOVES else where)
        migrations, name = console.migrations, self.name
        if what in _POWER:
            await here.call(_POWER[what](name))
        elif what == "migrate":
            await _followed(console, await migrations.migrate(here, there, name))
        elif what == "stop":
            await migrations.stop(here, name)
        elif what in ("recover", "force"):
            await _followed(console, await migrations.recover(here, name, force=what == "force"))
        elif what == "restart":
            await _followed(console, await migrations.restart(here, there, name))
        elif what == "cleanup":
            await migrations.cleanup(here, name)
        elif what == "cancel":
            await migrations.cancel(here, name)
        else:
            raise ValueError(what)


_MOVES = frozenset({"migrate", "restart"})
_POWER: dict[str, Callable[[str], ConsoleRequest[PartitionView]]] = {
    "ipl": ipl,
    "power-off": power_off,
    "power-on": power_on,
}


def _known(console: ManagementConsole, where: str) -> KnownSystem:
    found = next((each for each in console.systems if each.where == where), None)
    if found is None:
        raise OperatorError(rules.HMC_SYSTEM_KNOWN, f"the console does not know {where}")
    return found


async def _followed(console: ManagementConsole, job: Job | str) -> None:
    """Wait for the end of a job; OperatorError if the job fails.

    If `job` is a text, no job was needed.
    """
    if isinstance(job, str):
        return
    ended = await console.jobs.follow(job, _unwatched)
    if ended.state == "failed":
        raise OperatorError(rules.HMC_JOB_KNOWN, f"job {job.number} failed: {' '.join(ended.lines)[-90:]}")


def _nothing() -> None:
    pass


async def _unwatched(_: Job) -> None:
    await trio.lowlevel.checkpoint()
