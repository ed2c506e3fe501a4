"""A partition of a simulated world, with its guests and its operator, and the checks at its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import trio

from hcall_abi.errors import SwpksError
from hcall_server.platform.custody import LEFT, Custody
from swpks.testing.simulation.acts import Performance
from swpks.testing.simulation.followers import Follower
from swpks.testing.simulation.guests import Guests
from swpks.testing.simulation.histories import check
from swpks.testing.simulation.operators import Operator, Ways

if TYPE_CHECKING:
    from uuid import UUID

    from swpks.testing.simulation.desk import Desk
    from swpks.testing.simulation.plan import Story
    from swpks.testing.simulation.sites import Site, Surroundings
    from swpks.testing.simulation.watch import Watch


class Migrant:
    """The partition `name`, which starts on the system `home`; `uuid` is set by `find`."""

    def __init__(
        self,
        name: str,
        home: str,
        *,
        sites: Mapping[str, Site],
        desk: Desk,
        watch: Watch,
        around: Surroundings,
    ) -> None:
        self.name = name
        self.home = home
        self.uuid: UUID
        self._sites = sites
        self._desk = desk
        self._watch = watch
        self._around = around
        ways = Ways(tuple(sites), around.chance(f"ways {name}"))
        self.operator = Operator(desk, name, ways, around.trace, self._restart_ordered)
        self.acts = Performance(sites, desk, watch, self.operator, ways, around)
        self.guests = Guests(name, list(sites.values()), around)
        self.follower = Follower(name, desk, sites, around)

    def __repr__(self) -> str:
        return f"Migrant({self.name!r})"

    def find(self) -> None:
        """Read UUID and access key of the partition from its first system.

        The key is registered as a secret that no wire may show.
        """
        found = self._sites[self.home].running.system.find(self.name)
        self.uuid = self.acts.uuid = found.profile.uuid
        self._around.tap.forbid(found.access_key)
        self.guests.key = self.follower.key = found.access_key

    def visit(self, nursery: trio.Nursery, story: Story, guests: int) -> None:
        """Start `guests` guests, and a guest that follows the partition if the story has one."""
        for number in range(guests):
            nursery.start_soon(self.guests.run, number, story.pace)
        if story.follows:
            nursery.start_soon(self.follower.run, story.pace)

    def leave(self) -> None:
        """Make the guests stop after their present calls."""
        self.guests.over = self.follower.over = True

    def _restart_ordered(self) -> Callable[[], None]:
        return self._watch.ordered(self.uuid, self._desk.copied(self.uuid))

    # The end of the simulation

    def settled(self) -> bool:
        """Whether exactly one system owns the partition, no other has a claim, and no order is under way."""
        others = [site for site in self._sites.values() if site.machine and not self._owns(site)]
        owners = self._watch.owners(self.uuid)
        return not self.operator.busy and len(owners) == 1 and all(map(self._has_left, others))

    def _owns(self, site: Site) -> bool:
        return site in self._watch.owners(self.uuid)

    def _has_left(self, site: Site) -> bool:
        """Whether a system has no claim to the partition any more.

        That is so if the system has no store of the partition.  It is also so if its store is RELEASED
        because another system has restarted the partition (R-54).
        """
        at = site.running.custodian.standing(self.uuid)
        if at.custody is not Custody.RELEASED:
            return at.custody in LEFT
        entry = self._desk.running.registry.of(str(self.uuid))
        return entry is not None and (entry.kind, entry.source) == ("restart", site.system_id)

    def standings(self) -> str:
        """Return the state of the partition on each system, as text."""
        found = {name: self._watch.standing(site, self.uuid) for name, site in self._sites.items()}
        return f"{self.name}: {', '.join(f'{name}: {at}' for name, at in found.items())}"

    async def end(self) -> None:
        """Make an IPL, read all objects, and check the history."""
        # The last read comes after an IPL. If a password or a TRANSIENT object survives the IPL, the read
        # finds it.
        (site,) = self._watch.owners(self.uuid)
        machine = site.running
        partition = machine.system.find(self.name)
        try:
            # An owner must serve: a call in the present IPL has to work before the next IPL begins.
            if partition.running:
                await self.guests.greet(site)
            await (machine.counted_ipl if partition.running else machine.counted_power_on)(self.name)
            await self.guests.look(site)
        except SwpksError as error:
            text = f"{site.name} owns {self.name}, and does not serve it: {error}"
            self._around.trace.fail(text)
            return
        check([each.known() for each in self.guests.sessions], self._watch.events[self.uuid])
