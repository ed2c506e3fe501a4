"""A simulated world: two systems, a console, a partition with its guests, and the story of a seed.

    outcome = simulate(7)
    print(*outcome.trace, sep=", ")        # always the same lines

All parts are those of the product; the seams and the clock are simulated.  One seed is one history.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import trio

from hcall_abi.errors import SwpksError
from hcall_abi.faults import NvramFault
from hcall_abi.requests import set_trusted_key
from hcall_server.platform.custody import LEFT, Custody, Mode
from hcall_server.service.settings import PartitionSettings, Settings
from swpks.testing.console_link import MachineLink
from swpks.testing.simulation.desk import Desk
from swpks.testing.simulation.guests import Guests
from swpks.testing.simulation.histories import check
from swpks.testing.simulation.journal import journal
from swpks.testing.simulation.linear import NotLinearizable
from swpks.testing.simulation.operators import Operator
from swpks.testing.simulation.plan import ENDS, LENGTH, SYSTEMS, Step, plan
from swpks.testing.simulation.seeds import Entropy, run_seeded
from swpks.testing.simulation.sites import Site, Surroundings
from swpks.testing.simulation.watch import Watch

NAME = "lpar1"
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
        self.sites = {name: Site(name, n, _settings(name), around) for n, name in enumerate(SYSTEMS, 1)}
        self.desk = Desk(self.sites, around)
        self.watch = Watch(list(self.sites.values()), around.trace)
        self.operator = Operator(self.desk, NAME, around.trace, self._restart_ordered)
        self.guests = Guests(NAME, list(self.sites.values()), around)
        self._nursery = nursery
        self._chance = around.chance("world")
        self._plan = plan(seed)

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
            for number in range(2):
                guests.start_soon(self.guests.run, number, self._plan.pace)
            await self._story()
            await self._calm()
            await trio.sleep(1.5)
            self.guests.over = True
        await self._end()
        scope.cancel()

    @property
    def figures(self) -> dict[str, int]:
        """The figures of the world so far."""
        return {
            "calls": self.guests.calls,
            "moves": self.watch.moves,
            "restarts": self.watch.restarts,
            "orders done": self.operator.done,
            "orders refused": self.operator.refused,
            "crashes": sum(site.lives - 1 for site in self.sites.values()) + self.desk.lives - 1,
            "bytes heard": self.around.tap.heard,
        }

    # The beginning

    async def _set_up(self) -> None:
        """Start all parts; the systems have one trusted system key, and the console knows them."""
        key = Entropy(self.around.seed, "trusted key")(32)
        for site in self.sites.values():
            await site.start()
            await MachineLink(site.machine).call(set_trusted_key("change", key=key))
            site.line.background = self._nursery
            self.around.tap.forbid(key)
        await self.desk.start()
        for name in SYSTEMS:
            await self.desk.running.add_system(name)
        found = self.sites["a"].running.system.find(NAME)
        self.uuid = found.profile.uuid
        self.around.tap.forbid(found.access_key)
        self.guests.key = found.access_key

    # The story

    async def _story(self) -> None:
        begins = trio.current_time()
        story = self._plan
        self.around.network.slowest, self.around.slow_answers = story.slowest, story.slow_answers
        for site in self.sites.values():
            site.line.slowest = story.slowest
        async with trio.open_nursery() as nursery:
            for step in story.steps:
                await trio.sleep_until(begins + step.at)
                nursery.start_soon(self._perform, step, begins + story.length)
            await trio.sleep_until(begins + story.length)

    async def _perform(self, step: Step, ends: float) -> None:
        """Perform a step of the story, once its state is reached; nothing if that is too late."""
        with trio.move_on_at(ends) as waiting:
            if step.on:
                await self.watch.reached(step.on)
                await trio.sleep(step.soon)
        if waiting.cancelled_caught:
            return
        if step.who in ENDS:
            source = self._source()
            step = step._replace(who=source if step.who == "source" else _other(source))
        self.around.trace.note("story", str(step))
        if step.what.startswith(("migrate", "restart-dead", "cut-off")):
            await self._moved(step)
        elif step.what in ("crash", "crash-at", "console-crash-at"):
            await self._crashed(step)
        elif step.what in _DISTURBED:
            await self._disturbed(step)
        elif step.what == "lost-source":
            await self._lost_source(step)
        elif step.what == "late-force":
            await self._late_force(step)
        else:
            await self.operator.order(step.what, step.who)

    def _restart_ordered(self) -> Callable[[], None]:
        return self.watch.ordered(self.uuid, self.desk.copied(self.uuid))

    def _owner(self) -> str:
        """Return the system where the partition is served, or was last."""
        owners = self.watch.owners(self.uuid)
        return owners[0].name if owners else self._chance.choice(SYSTEMS)

    async def _moved(self, step: Step) -> None:
        """Order a move from the system that owns the partition, rightly; some conditions are set up first."""
        owner = self._owner()
        if step.what == "migrate":
            await self.operator.order("migrate", owner)
        elif step.what == "migrate-off":
            await self.operator.order("power-off", owner)
            await self.operator.order("migrate", owner)
            await self.operator.order("power-on", self._owner())
        elif step.what == "restart-dead":
            self.sites[owner].life.end()
            await trio.sleep(0.5)
            await self.operator.order("restart", owner)
            await self._revived(owner, step.seconds)
        else:  # the source lives, but the console has lost it
            site = self.sites[owner]
            site.line.away = True
            site.line.break_stream()
            await trio.sleep(0.5)
            await self.operator.order("restart", owner)
            await trio.sleep(step.seconds)
            site.line.away = False

    async def _crashed(self, step: Step) -> None:
        """End a life, now or at a durable step, and begin another one some time later."""
        name = "console" if step.what.startswith("console") else step.who
        life = self.desk.life if name == "console" else self.sites[name].life
        if step.what == "crash":
            life.end()
        else:
            life.crash_at = life.steps + step.number, step.late
            with trio.move_on_after(LENGTH):
                await life.over.wait()
            life.crash_at = None
        await self._revived(name, step.seconds)

    async def _revived(self, name: str, seconds: float) -> None:
        await trio.sleep(seconds)
        await (self.desk if name == "console" else self.sites[name]).start()

    async def _disturbed(self, step: Step) -> None:
        """Disturb lines, a disk or the network for a time."""
        network, site = self.around.network, self.sites[step.who]
        all_lines = [each.line for each in self.sites.values()]
        lines = {"silence": all_lines, "island": [site.line], "away": [site.line]}.get(step.what, [])
        for line in lines:
            line.away = True
            line.break_stream()
        if step.what == "bad-line":
            site.line.bad = 0.3
        if step.what in ("cut", "silence", "island"):
            network.cut_one_in = step.number or 1
        if step.what == "nvram" and site.machine:
            site.machine.set_nvram_fault(NvramFault("io", times=step.number, after=step.late))
        await trio.sleep(step.seconds)
        for line in lines:
            line.away = False
        site.line.bad, network.cut_one_in = 0.0, 0

    async def _lost_source(self, step: Step) -> None:
        """Lose the source of a migration, and force its target, which the operator may do then."""
        source = self._source()
        if step.late:
            self.sites[source].life.end()
        else:
            self.sites[source].line.away = True
            self.sites[source].line.break_stream()
        await trio.sleep(0.3)
        await self.operator.order("force", source)
        await self._revived(source, step.seconds)
        self.sites[source].line.away = False

    async def _late_force(self, step: Step) -> None:
        """Force the target by a word that is late, while the console restarts, and the source asks it.

        The new console has heard of the target's copy if `step.number` is 1.
        """
        source, target = self.sites[step.who], self.sites[_other(step.who)]
        self.around.network.cut_one_in = 1
        source.line.away = True
        source.line.break_stream()
        if step.late:
            source.life.end()
        else:
            await self.watch.reached("in-doubt")
        target.line.delays["tellCustody"] = step.seconds
        target.line.delayed = trio.Event()
        await trio.sleep(0.3)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.operator.order, "force", source.name)
            with trio.move_on_after(LENGTH):
                await target.line.delayed.wait()
            self.desk.life.end()
            nursery.cancel_scope.cancel()
        target.line.delays.clear()
        target.line.away = not step.number
        await self.desk.start()
        await trio.sleep(0.2)
        target.line.away = True
        target.line.break_stream()
        await source.start()
        source.line.away = False
        await trio.sleep(step.seconds)
        target.line.away = False
        self.around.network.cut_one_in = 0

    def _source(self) -> str:
        """Return the system that a partition is leaving, any if there is none."""
        at = {name: self.watch.standing(site, self.uuid) for name, site in self.sites.items()}
        found = [
            name for name in SYSTEMS if at[name].custody is Custody.FROZEN or at[name].mode is Mode.COPYING
        ]
        arrives = [_other(name) for name in SYSTEMS if at[name].custody is Custody.PREPARED]
        leaves = [name for name in SYSTEMS if at[name].custody is Custody.RELEASED]
        return next(iter([*found, *arrives, *leaves]), self._owner())

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
            for name in SYSTEMS:
                await self.operator.order("recover", name)
        self.around.trace.fail(f"no single owner: {self._standings()}")

    async def _restart_fenced(self) -> None:
        """Restart a system that serves a partition which was restarted elsewhere: then it asks (R-54)."""
        for fenced in list(self.watch.fenced.values()):
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
        """Whether one system owns the partition, no other one may get it, and nothing is under way."""
        if self.operator.busy or any(job.state == "running" for job in self.desk.running.jobs.all):
            return False
        machines = [site.machine for site in self.sites.values() if site.machine]
        standings = [machine.custodian.standing(self.uuid) for machine in machines]
        restful = [each.custody for each in standings if each.custody in (*LEFT, Custody.RELEASED)]
        owners = self.watch.owners(self.uuid)
        return len(owners) == 1 and len(restful) == len(standings) - 1 and not self.watch.fenced

    def _standings(self) -> str:
        found = {name: site.machine for name, site in self.sites.items()}
        return ", ".join(f"{n}: {m.custodian.standing(self.uuid) if m else 'dead'}" for n, m in found.items())

    async def _end(self) -> None:
        """Begin an IPL, read everything, and judge the history."""
        (site,) = self.watch.owners(self.uuid)
        machine = site.running
        partition = machine.system.find(NAME)
        try:
            if partition.running:
                await self.guests.greet(site)
            await (machine.counted_ipl if partition.running else machine.counted_power_on)(NAME)
            await self.guests.look(site)
        except SwpksError as error:
            self.around.trace.fail(f"{site.name} owns the partition, and does not serve it: {error}")
            return
        check([each.known() for each in self.guests.sessions], self.watch.events[self.uuid])


_DISTURBED = ("bad-line", "away", "cut", "nvram", "silence", "island")


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


def _other(name: str) -> str:
    return SYSTEMS[1 - SYSTEMS.index(name)]


def _settings(name: str) -> Settings:
    partitions = (PartitionSettings.of(NAME, 16),) if name == "a" else ()
    return Settings(name=name, flush_delay_ms=20, copy_interval_s=4.0, partition=partitions)
