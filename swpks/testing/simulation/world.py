"""A simulated world: two systems, a console, a partition with its guests, and the story of a seed.

    outcome = simulate(7)
    print(*outcome.trace, sep=", ")        # always the same lines

All parts are those of the product; the seams and the clock are simulated.  One seed is one history.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import trio

from hcall_abi.requests import set_trusted_key
from hcall_server.service.settings import PartitionSettings, Settings
from swpks.testing.console_link import MachineLink
from swpks.testing.simulation.desk import Desk
from swpks.testing.simulation.journal import journal
from swpks.testing.simulation.linear import NotLinearizable
from swpks.testing.simulation.migrants import Migrant
from swpks.testing.simulation.plan import THREE, Step, plan
from swpks.testing.simulation.seeds import Entropy, run_seeded
from swpks.testing.simulation.sites import Site, Surroundings
from swpks.testing.simulation.watch import Watch

NAME, SECOND = "lpar1", "lpar2"
THIRD = THREE[-1]
CALM = 40.0
"""Seconds after the last fault, or after the operator's next order, until which one owner is waited for."""


class Simulated(NamedTuple):
    """The end of a simulation: its trace, its figures, and its failure, "" for none."""

    seed: int
    trace: list[str]
    figures: dict[str, int]
    failure: str = ""


class World:
    """The world of one seed."""

    def __init__(self, seed: int, nursery: trio.Nursery, *, traced: bool) -> None:
        self.around = around = Surroundings(seed, nursery, traced=traced)
        self._plan = plan(seed)
        systems = self._plan.systems
        homes = {NAME: "a", **({SECOND: "b"} if self._plan.beside else {})}
        self.sites = {
            name: Site(name, n, _settings(name, homes, self._plan.stranger), around)
            for n, name in enumerate(systems, 1)
        }
        self.watch = Watch(list(self.sites.values()), around.trace)
        self.desk = Desk(self.sites, around, self.watch.decisions.entered)
        self.migrants = [
            Migrant(name, home, sites=self.sites, desk=self.desk, watch=self.watch, around=around)
            for name, home in homes.items()
        ]
        self._nursery = nursery

    async def play(self) -> None:
        """Play the story of the seed to its end, or to its first failure."""
        trace = self.around.trace
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._play, nursery.cancel_scope)
            await trace.failed.wait()
            nursery.cancel_scope.cancel()

    async def _play(self, scope: trio.CancelScope) -> None:
        await self._set_up()
        async with trio.open_nursery() as guests:
            for number, each in zip((2, 1), self.migrants, strict=False):
                each.visit(guests, self._plan, number)
            await self._story()
            await self._calm()
            await trio.sleep(1.5)
            for each in self.migrants:
                each.leave()
        for each in self.migrants:
            await each.end()
        scope.cancel()

    @property
    def figures(self) -> dict[str, int]:
        """The figures of the world so far."""
        return {
            "calls": sum(each.guests.calls for each in self.migrants),
            "moves": self.watch.moves,
            "restarts": self.watch.restarts,
            "moves followed": sum(each.follower.moves for each in self.migrants),
            "orders done": sum(each.operator.done for each in self.migrants),
            "orders refused": sum(each.operator.refused for each in self.migrants),
            "crashes": sum(site.lives - 1 for site in self.sites.values()) + self.desk.lives - 1,
            "bytes heard": self.around.tap.heard,
        }

    # The beginning

    async def _set_up(self) -> None:
        """Start all parts; the systems have one trusted system key, and the console knows them."""
        keys = Entropy(self.around.seed, "trusted key")
        key, other = keys(32), keys(32)
        stranger = self._plan.stranger
        for name, site in self.sites.items():
            await site.start()
            if name != THIRD or stranger != "level":
                own = other if (name, stranger) == (THIRD, "key") else key
                await MachineLink(site.machine).call(set_trusted_key("change", key=own))
                self.around.tap.forbid(own)
            site.line.background = self._nursery
        await self.desk.start()
        for name in self.sites:
            await self.desk.running.add_system(name)
        for each in self.migrants:
            each.find()

    # The story

    async def _story(self) -> None:
        begins = trio.current_time()
        story = self._plan
        self.around.network.slowest, self.around.slow_answers = story.slowest, story.slow_answers
        for site in self.sites.values():
            site.line.slowest = story.slowest
        async with trio.open_nursery() as nursery:
            ends = begins + story.length
            for migrant, steps in zip(self.migrants, (story.steps, story.beside), strict=False):
                nursery.start_soon(_performed, migrant, steps, begins, ends)
            await trio.sleep_until(begins + story.length)

    # The end

    async def _calm(self) -> None:
        """End all faults, start all parts, and wait until there is exactly one owner."""
        self.around.trace.note("story", "all faults end")
        self.around.network.cut_one_in, self.around.network.slowest = 0, 0.01
        for site in self.sites.values():
            site.line.away, site.line.bad, site.line.slowest = False, 0.0, 0.01
            site.life.crash_at = None
            if site.machine:
                site.machine.set_nvram_fault(None)
            await site.start()
        self.desk.life.crash_at = None
        await self.desk.start()
        for seconds in (5.0, CALM, CALM):
            if await self._settles(seconds):
                return
            await self._restart_fenced()
            for name in self.sites:
                for each in self.migrants:
                    await each.operator.order("recover", name)
        standings = "; ".join(each.standings() for each in self.migrants)
        self.around.trace.fail(f"no single owner: {standings}")

    async def _restart_fenced(self) -> None:
        """Restart a system that serves a partition which was restarted elsewhere: then it asks (R-54)."""
        for fenced in sorted(self.watch.fenced, key=lambda each: each.site):
            self.sites[fenced.site].life.end()
            await trio.sleep(1.0)
            await self.sites[fenced.site].start()

    async def _settles(self, seconds: float) -> bool:
        """Wait until there is exactly one owner; return whether there is one in time."""
        with trio.move_on_after(seconds):
            while not self._settled():  # noqa: ASYNC110 - any change of any part may make it true
                await trio.sleep(0.25)
            return True
        return False

    def _settled(self) -> bool:
        """Whether each partition has one owner, and nothing is under way."""
        if self.watch.fenced or any(job.state == "running" for job in self.desk.running.jobs.all):
            return False
        return all(each.settled() for each in self.migrants)


async def _performed(migrant: Migrant, steps: Sequence[Step], begins: float, ends: float) -> None:
    """Perform the steps of a partition, each at its time."""
    async with trio.open_nursery() as nursery:
        for step in steps:
            await trio.sleep_until(begins + step.at)
            nursery.start_soon(migrant.acts.perform, step, ends)


def simulate(seed: int, *, traced: bool = True) -> Simulated:
    """Simulate the world of a seed; any failure is in the outcome."""
    return run_seeded(seed, partial(_simulated, seed, traced=traced))


async def _simulated(seed: int, *, traced: bool) -> Simulated:
    worlds: list[World] = []
    failures: list[str] = []
    with journal(failures.append):
        try:
            async with trio.open_nursery() as nursery:
                worlds.append(World(seed, nursery, traced=traced))
                await worlds[0].play()
                nursery.cancel_scope.cancel()
        except* Exception as errors:
            failures.append(_explained(errors))
        finally:
            for each in worlds:
                each.desk.close()
    (world,) = worlds
    failures[:0] = world.around.trace.failures
    return Simulated(seed, world.around.trace.lines, world.figures, failures[0] if failures else "")


def _explained(errors: BaseException) -> str:
    """Return the first error of a group, with its trace unless it is a judgement of the simulation."""
    while isinstance(errors, BaseExceptionGroup):
        errors = errors.exceptions[0]
    if isinstance(errors, NotLinearizable):
        return f"the history is not linearizable:\n{errors}"
    return "".join(traceback.format_exception(errors))


def _settings(name: str, homes: Mapping[str, str], stranger: str) -> Settings:
    level = "FW940" if (name, stranger) == (THIRD, "level") else None
    wanted = tuple(PartitionSettings.of(each, 16) for each, home in homes.items() if home == name)
    return Settings(name=name, flush_delay_ms=20, copy_interval_s=4.0, partition=wanted, firmware=level)
