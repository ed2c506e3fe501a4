"""Performs the steps of a story: the operator's orders, crashes, and faults of lines, disks and network."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio

from hcall_abi.faults import NvramFault
from hcall_server.platform.custody import Custody, Mode
from swpks.testing.simulation.plan import ENDS, LENGTH, Step

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from swpks.testing.simulation.desk import Desk
    from swpks.testing.simulation.operators import Operator, Ways
    from swpks.testing.simulation.sites import Site, Surroundings
    from swpks.testing.simulation.watch import Watch


class Performance:
    """Performs the steps of a story about one partition."""

    def __init__(
        self,
        sites: Mapping[str, Site],
        desk: Desk,
        watch: Watch,
        operator: Operator,
        ways: Ways,
        around: Surroundings,
    ) -> None:
        self.sites = sites
        self.desk = desk
        self.watch = watch
        self.operator = operator
        self.around = around
        self.uuid: UUID
        self._ways = ways
        self._chance = around.chance(f"world {operator.name}")

    def __repr__(self) -> str:
        return f"Performance({self.operator!r})"

    async def perform(self, step: Step, ends: float) -> None:
        """Wait for the state that a step names, then perform the step.

        Do nothing if the time `ends` comes before the state.
        """
        # The end of the story ends only this wait. A step that has begun goes on, because it must end its
        # faults.
        with trio.move_on_at(ends) as waiting:
            if step.on:
                await self.watch.reached(step.on)
                await trio.sleep(step.soon)
        if waiting.cancelled_caught:
            return
        if step.who in ENDS:
            source = self._source()
            step = step._replace(who=source if step.who == "source" else self._ways.last(source))
        self.around.trace.note("story", str(step))
        await _ACTS.get(step.what, Performance._ordered)(self, step)

    async def _ordered(self, step: Step) -> None:
        await self.operator.order(step.what, step.who)

    def _owner(self) -> str:
        """Return the system that serves the partition; if none does, return a random system."""
        owners = self.watch.owners(self.uuid)
        return owners[0].name if owners else self._chance.choice(self._ways.systems)

    async def _moved(self, step: Step) -> None:
        """Prepare a move and order it: a migration, or a remote restart after the source is lost."""
        owner = self._owner()
        if step.what == "migrate":
            await self.operator.order("migrate", owner)
        elif step.what == "migrate-off":
            await self.operator.order("power-off", owner)
            await self.operator.order("migrate", owner)
            await self.operator.order("power-on", self._owner())
        elif step.what == "restart-dead":
            # The owner crashes first: the console refuses a restart while its stream to the source is open.
            self.sites[owner].life.end()
            await trio.sleep(0.5)
            await self.operator.order("restart", owner)
            await self._revived(owner, step.seconds)
        else:  # the source runs, but the console can't reach it
            site = self.sites[owner]
            site.line.away = True
            site.line.break_stream()
            await trio.sleep(0.5)
            await self.operator.order("restart", owner)
            await trio.sleep(step.seconds)
            site.line.away = False

    async def _crashed(self, step: Step) -> None:
        """Crash a system or the console, now or at a later durable step; restart it `step.seconds` later."""
        name = "console" if step.what.startswith("console") else step.who
        life = self.desk.life if name == "console" else self.sites[name].life
        if step.what == "crash":
            life.end()
        else:
            life.crash_at = life.steps + step.number, step.late
            # If the system has no work, it makes no durable step, and does not crash. Then the wait ends
            # after LENGTH seconds.
            with trio.move_on_after(LENGTH):
                await life.over.wait()
            life.crash_at = None
        await self._revived(name, step.seconds)

    async def _revived(self, name: str, seconds: float) -> None:
        await trio.sleep(seconds)
        await (self.desk if name == "console" else self.sites[name]).start()

    async def _disturbed(self, step: Step) -> None:
        """Begin a fault of lines, a disk or the network, and end it `step.seconds` later."""
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
        """Crash or cut off the source of a migration, then give the order `force`.

        This order is right, because the console can't reach the source.
        """
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
        """Give the order `force`; its message to the target comes late, and meanwhile the console restarts.

        The source then asks the new console what to do.  If `step.number` is 1, the new console can reach
        the target and sees its copy.  If `step.late`, the source crashes.  Otherwise it is only cut off.
        """
        # This step makes one order of events. The console sends FORCE, and restarts without its memory. The
        # source asks the new console. FORCE arrives last. A console that answers from memory alone would give
        # the partition to the source. Then the target would serve it too.
        source, target = self.sites[step.who], self.sites[self._ways.last(step.who)]
        self.around.network.cut_one_in = 1
        source.line.away = True
        source.line.break_stream()
        if step.late:
            source.life.end()
        else:
            # If the source restarts meanwhile, the state may have come unseen.
            with trio.move_on_after(3 * LENGTH):
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
        """Return the source of the present attempt; if there is none, return the owner of the partition."""
        # The surest sign comes first. If the source is down or has started again, the target still names it.
        at = {name: self.watch.standing(site, self.uuid) for name, site in self.sites.items()}
        found = [name for name in at if at[name].custody is Custody.FROZEN or at[name].mode is Mode.COPYING]
        arrives = [self._peer(name) for name in at if at[name].custody is Custody.PREPARED]
        leaves = [name for name in at if at[name].custody is Custody.RELEASED]
        return next(iter([*found, *arrives, *leaves]), self._owner())

    def _peer(self, name: str) -> str:
        """Return the other system of the last attempt in which a system took part."""
        partition = self.sites[name].running.system.by_uuid(self.uuid)
        peer = partition.profile.peer.hex() if partition else ""
        return next((each.name for each in self.sites.values() if each.system_id == peer), self._owner())

    async def _force_after_resume(self, step: Step) -> None:
        """Give the order `force` twice; the console must refuse both orders.

        The first order comes before the target has a copy.  A step with `late` has no first order.  The
        second order comes after the source has resumed.  The target does not know this yet.
        """
        source, target = self.sites[step.who], self.sites[self._ways.last(step.who)]
        self.around.network.cut_one_in = 1
        if not step.late:
            await self.operator.order("force", source.name)
        target.line.away = True
        target.line.break_stream()
        source.life.end()
        await source.start()
        with trio.move_on_after(LENGTH):
            await self.watch.reached("OWN")
        source.life.end()
        target.line.away = False
        await trio.sleep(0.5)
        await self.operator.order("force", source.name)
        await trio.sleep(step.seconds)
        await source.start()
        self.around.network.cut_one_in = 0

    async def _restart_in_doubt(self, step: Step) -> None:
        """Lose the source in the middle of a migration, order a remote restart, and bring the source back.

        If `step.late`, the source is cut off.  Otherwise it crashes.
        """
        source = self.sites[step.who]
        self.around.network.cut_one_in = 1
        if step.late:
            source.line.away = True
            source.line.break_stream()
        else:
            source.life.end()
        await trio.sleep(0.3)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.operator.order, "restart", source.name)
            # The order runs in its own task, so that the source may come back at any step of the order.
            await trio.sleep(step.seconds)
            self.around.network.cut_one_in = 0
            await source.start()
        source.line.away = False


_MOVES = ("migrate", "migrate-off", "restart-dead", "cut-off-restart")
_DISTURBED = ("bad-line", "away", "cut", "nvram", "silence", "island")
_ACTS: dict[str, Callable[[Performance, Step], Awaitable[None]]] = {
    **dict.fromkeys(_MOVES, Performance._moved),
    **dict.fromkeys(("crash", "crash-at", "console-crash-at"), Performance._crashed),
    **dict.fromkeys(_DISTURBED, Performance._disturbed),
    "lost-source": Performance._lost_source,
    "late-force": Performance._late_force,
    "force-after-resume": Performance._force_after_resume,
    "restart-in-doubt": Performance._restart_in_doubt,
}
"""The functions of steps.  A step that is not listed is one order of the operator."""
