"""A simulated world: systems, a console, partitions with guests, and the story of a seed.

    outcome = simulate(7)
    print(*outcome.trace, sep=", ")        # always the same lines

All parts are those of the product; only the seams and the clock are simulated.  One seed is one history.
"""

# The simulation: one seed is one history
#
# A fault of a migration needs an order of events in several programs. Examples are a crash behind a commit, a
# lost answer, and an operator who forces the wrong target. The simulation makes such orders by the thousand,
# and repeats each of them. It must guarantee three things:
#
#   1. One seed is one history. Two processes with different hashes of Python have the same trace.
#   2. The code that runs is the product's: machine, console, clients. Only the seams below differ.
#   3. A broken promise ends the history at once, and the report names the seed.
#
# For guarantee 1, everything that chance or the kernel decides comes from the seed:
#
#   time              `VirtualClock`: it jumps to the next deadline when all tasks wait.
#   order of tasks    Trio shuffles the tasks that are ready. Its generator is replaced by one of the seed.
#   disks             NVRAM in memory. `SlowWorker` runs each commit as a task, at a drawn time: no thread.
#   etcd              With `nvram="etcd"`: a model of a cluster. Its faults, and the tasks that keep leases,
#                     are in virtual time (`etcd_plan`, `tenures`). The story is the same as over memory.
#   console's store   SQLite in memory, in the loop.
#   connections       `pipes` in memory. `wires`, `links` and `sites` delay, cut and lose their bytes.
#   random bytes      `Entropy`, for keys, ids and nonces.
#   crashes           `Life`: an end of all ways to the outside, at a drawn time or at a durable step.
#
# Each purpose has a generator of its own (`choices`). So a further draw in one part does not change the draws
# of the others. A loop must not run over a set of objects: its order does not come from the seed.
#
# The checks, and their moments:
#
#   watch       after each commit, change of custody and batch of calls: at most one system serves
#   records     at each view and each word: the system had stored its state before it sent it
#   decisions   at each entry that the console stores: it follows from the records of that moment
#   followers   at each answer to a guest that is alone with its label
#   trace, tap  at each byte on a wire: no secret
#   commits     at each commit to etcd: it is there when it returns, and no older one comes later
#               (`commit_judge`)
#   journal     at each line of the log: no bug of the server
#   histories   at the end: the answers to all guests have one order (`linear`)
#   world       at the end: the faults are over, and each partition has exactly one owner
#
# The first version checked effects only: owners, histories and secrets. `records` and `decisions` were added
# later. A wrong decision may break a promise much later, or only by a further fault. These two report it at
# the step where it is made. tests/simulation/test_bugs.py puts mistakes into the product, and states the
# seeds within which each one is found.
#
# Not used, and dropped:
#
#   - Faults at any time. A migration is short beside a story of 6 s, so a fault would hardly ever meet one.
#     Most steps wait for a state of custody instead (`plan`).
#   - Trio's MockClock. It takes two more rounds of the loop for each deadline, and asks the real clock.
#   - A check of SERVE and FENCED against any entry that the console had ever stored. A SERVE to a former
#     owner was then found only when two systems served (seed 7). Now the last entry counts
#     (docs/track-record.md).
#   - A check of a restarted copy by its generation alone. After a restart, generations come again. So a right
#     restart was reported (seed 502095). `lineage` begins anew at each restart.
#
# Not here: sockets, real disks and processes. tests/migration_processes kills real processes. The model of a
# disk in the soak loses bytes that were not synced. A seed keeps its history only while code and stories do
# not change. So each fault that a seed has found gets a test of its own.

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

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

if TYPE_CHECKING:
    from swpks.testing.simulation.etcd_world import SimulatedEtcd

Nvrams = Literal["memory", "etcd"]
"""The kinds of NVRAM that a world may have."""
NAME, SECOND = "lpar1", "lpar2"
THIRD = THREE[-1]
CALM = 40.0
"""After the last fault and each further order: most seconds until each partition has one owner."""


class Simulated(NamedTuple):
    """The result of a simulation: its trace, its figures, and its failure ("" if all promises were kept)."""

    seed: int
    trace: list[str]
    figures: dict[str, int]
    failure: str = ""


class World:
    """The systems, console, partitions and guests of one seed."""

    def __init__(self, seed: int, nursery: trio.Nursery, *, traced: bool, nvram: Nvrams) -> None:
        self.around = around = Surroundings(seed, nursery, traced=traced)
        self._plan = plan(seed)
        systems = self._plan.systems
        homes = {NAME: "a", **({SECOND: "b"} if self._plan.beside else {})}
        self.sites = {
            name: Site(name, n, _settings(name, homes, self._plan.stranger), around)
            for n, name in enumerate(systems, 1)
        }
        self._etcd = self._on_etcd(seed) if nvram == "etcd" else None
        self.watch = Watch(list(self.sites.values()), around.trace)
        self.desk = Desk(self.sites, around, self.watch.decisions.entered)
        self.migrants = [
            Migrant(name, home, sites=self.sites, desk=self.desk, watch=self.watch, around=around)
            for name, home in homes.items()
        ]
        self._nursery = nursery

    def _on_etcd(self, seed: int) -> SimulatedEtcd:
        """Return a cluster that has the NVRAM of all systems."""
        from swpks.testing.simulation.etcd_plan import etcd_plan
        from swpks.testing.simulation.etcd_world import SimulatedEtcd

        etcd = SimulatedEtcd(self.around, etcd_plan(seed, self._plan.systems))
        for name, site in self.sites.items():
            site.nvram = place = etcd.place(name)
            place.on_lost, place.on_crash = site.nvram_lost, site.crash_comes
        return etcd

    async def play(self) -> None:
        """Play the story of the seed to its end, or to its first failure."""
        # A failure sets an event and raises nothing: the product might catch an exception. The first failure
        # cancels the story: after a broken promise, later events prove nothing.
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
            # The guests go on for a while. So the history also has calls on the last owner.
            await trio.sleep(1.5)
            for each in self.migrants:
                each.leave()
        for each in self.migrants:
            await each.end()
        scope.cancel()

    @property
    def figures(self) -> dict[str, int]:
        """The figures so far, such as the numbers of calls, moves and crashes."""
        return {
            "calls": sum(each.guests.calls for each in self.migrants),
            "moves": self.watch.moves,
            "restarts": self.watch.restarts,
            "moves followed": sum(each.follower.moves for each in self.migrants),
            "orders done": sum(each.operator.done for each in self.migrants),
            "orders refused": sum(each.operator.refused for each in self.migrants),
            "crashes": sum(site.lives - 1 for site in self.sites.values()) + self.desk.lives - 1,
            "bytes heard": self.around.tap.heard,
            **(self._etcd.figures if self._etcd else {}),
        }

    # The beginning

    async def _set_up(self) -> None:
        """Start all systems and the console.

        All systems get the same trusted system key, except a third system that the story makes a stranger.
        """
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
            if self._etcd:
                nursery.start_soon(self._etcd.trouble)
            for migrant, steps in zip(self.migrants, (story.steps, story.beside), strict=False):
                nursery.start_soon(_performed, migrant, steps, begins, ends)
            # If the state of a step never comes, the step gives up at the end of the story. A step that has
            # begun may take longer, and this nursery waits for it.
            await trio.sleep_until(begins + story.length)

    # The end

    async def _calm(self) -> None:
        """End all faults, start all systems and the console, and wait until each partition has one owner."""
        self.around.trace.note("story", "all faults end")
        self.around.network.cut_one_in, self.around.network.slowest = 0, 0.01
        if self._etcd:
            await self._etcd.calm()
        for site in self.sites.values():
            site.line.away, site.line.bad, site.line.slowest = False, 0.0, 0.01
            # A step may still wait for a crash that it has set. The crash must not come any more.
            site.life.crash_at = None
            if site.machine:
                site.machine.set_nvram_fault(None)
            await site.start()
        self.desk.life.crash_at = None
        await self.desk.start()
        # The systems get 5 s without help. After that a fenced system may need a restart, and an attempt
        # without a job needs `recover`. A restart that has failed needs another one: its source has released
        # the partition already. The operator gives these orders up to three times. If a partition still has
        # not exactly one owner, that is the failure.
        for seconds in (5.0, CALM, CALM):
            if await self._settles(seconds):
                return
            await self._restart_fenced()
            for name in self.sites:
                for each in self.migrants:
                    await each.operator.order("recover", name)
            for each in self.migrants:
                if each.operator.open_restart:
                    await each.operator.order("restart", each.operator.open_restart)
        standings = "; ".join(each.standings() for each in self.migrants)
        self.around.trace.fail(f"no single owner: {standings}")

    async def _restart_fenced(self) -> None:
        """Restart each system that serves a partition which another system has restarted.

        After its start, the system asks the console, which fences it (R-54).
        """
        # `fenced` is a set, and its order does not depend on the seed alone. So it is sorted.
        for fenced in sorted(self.watch.fenced, key=lambda each: each.site):
            self.sites[fenced.site].life.end()
            await trio.sleep(1.0)
            await self.sites[fenced.site].start()

    async def _settles(self, seconds: float) -> bool:
        """Wait until each partition has one owner; return whether that happens in time."""
        with trio.move_on_after(seconds):
            while not self._settled():  # noqa: ASYNC110 - any change of any part may make it true
                await trio.sleep(0.25)
            return True
        return False

    def _settled(self) -> bool:
        """Whether each partition has one owner, each system its NVRAM, and no job or order is under way."""
        if self._etcd and (self._etcd.troubled or not all(map(_is_healthy, self.sites.values()))):
            return False
        if self.watch.fenced or any(job.state == "running" for job in self.desk.running.jobs.all):
            return False
        return all(each.settled() for each in self.migrants)


def _is_healthy(site: Site) -> bool:
    """Whether the last commit of a system has not failed.  Otherwise a partition may wait for its start."""
    return site.machine is not None and site.machine.encryptor.health.ok


async def _performed(migrant: Migrant, steps: Sequence[Step], begins: float, ends: float) -> None:
    """Start the steps of a partition, each at its time; return when all steps have ended."""
    async with trio.open_nursery() as nursery:
        for step in steps:
            await trio.sleep_until(begins + step.at)
            nursery.start_soon(migrant.acts.perform, step, ends)


def simulate(seed: int, *, traced: bool = True, nvram: Nvrams = "memory") -> Simulated:
    """Simulate the world of a seed, and return its outcome, which has the failure if there is one.

    Without `traced`, the trace of the outcome is empty.  `nvram` is the place of the records of all systems:
    `memory`, or one `etcd` in memory whose requests are late, lost and repeated.  The story is the same.
    """
    if nvram == "etcd":
        # The modules are loaded here: with NVRAM in memory they are not needed. They are loaded before the
        # run, because a first import in it could draw from its chance.
        from swpks.testing.simulation import etcd_world  # noqa: F401
    return run_seeded(seed, partial(_simulated, seed, traced=traced, nvram=nvram))


async def _simulated(seed: int, *, traced: bool, nvram: Nvrams) -> Simulated:
    worlds: list[World] = []
    failures: list[str] = []
    with journal(failures.append):
        try:
            async with trio.open_nursery() as nursery:
                worlds.append(World(seed, nursery, traced=traced, nvram=nvram))
                await worlds[0].play()
                nursery.cancel_scope.cancel()
        except* Exception as errors:
            failures.append(_explained(errors))
        finally:
            for each in worlds:
                each.desk.close()
    (world,) = worlds
    # Broken promises come first. A bug in the log, or an exception, may only be the effect of a broken
    # promise.
    failures[:0] = world.around.trace.failures
    return Simulated(seed, world.around.trace.lines, world.figures, failures[0] if failures else "")


def _explained(errors: BaseException) -> str:
    """Return the text of the first error of a group.

    It has the traceback, unless the checker of a history raised it.
    """
    while isinstance(errors, BaseExceptionGroup):
        errors = errors.exceptions[0]
    if isinstance(errors, NotLinearizable):
        return f"the history is not linearizable:\n{errors}"
    return "".join(traceback.format_exception(errors))


def _settings(name: str, homes: Mapping[str, str], stranger: str) -> Settings:
    level = "FW940" if (name, stranger) == (THIRD, "level") else None
    wanted = tuple(PartitionSettings.of(each, 16) for each, home in homes.items() if home == name)
    return Settings(name=name, flush_delay_ms=20, copy_interval_s=4.0, partition=wanted, firmware=level)
