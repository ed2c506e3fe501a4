"""Checks at every step which system owns each partition, and notes the events for its history."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

import trio

from hcall_server.platform.custody import OWNING, Custody, Mode, Standing, Word
from swpks.testing.simulation.decisions import DecisionWatch
from swpks.testing.simulation.histories import KEPT, Event, Fate, Values
from swpks.testing.simulation.lineage import Lineage
from swpks.testing.simulation.records import DurableRecords, HeardWord
from swpks.testing.simulation.trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hcall_server.platform.partition import Partition
    from swpks.testing.simulation.sites import Site

SERVES = frozenset({Mode.SERVING, Mode.COPYING})


class Fenced(NamedTuple):
    """A system's life that may serve a partition although another system owns it.

    Only a remote restart while the source still runs can cause this: the operator was wrong, and the source
    does not know of the restart yet.
    """

    uuid: UUID
    site: str
    life: int


class Watch:
    """Checks all systems after each commit, each change of custody, and each batch of answered calls."""

    def __init__(self, sites: Sequence[Site], trace: Trace) -> None:
        self.events: dict[UUID, list[Event]] = defaultdict(list)
        self.fenced: set[Fenced] = set()
        self.moves = 0
        """The number of arrivals of partitions at another system."""
        self.restarts = 0
        self._reached: dict[str, trio.Event] = defaultdict(trio.Event)
        self._sites = sites
        self._trace = trace
        self._seen: dict[tuple[str, UUID], Standing] = {}
        self._before: dict[tuple[str, UUID], Standing] = {}
        self._arrived: set[tuple[UUID, int]] = set()
        self._released_by_fence: set[tuple[str, UUID, int]] = set()
        """Systems that owned a partition until FENCED came, and the epoch of that word."""
        self._lines: dict[UUID, Lineage] = defaultdict(Lineage)
        self._ordered: dict[UUID, list[int]] = defaultdict(list)
        """The least generation that each order of a remote restart may bring."""
        self.records = DurableRecords(trace)
        self.decisions = DecisionWatch({site.name: site for site in sites}, self.records, trace)
        for site in sites:
            site.crashed, site.served, site.on_change = self._crashed, self._served, self.look
            site.started = partial(self.records.started, site.name)
            site.sealed = partial(self.records.sealed, site.name)
            site.offered = partial(self.records.offered, site.name)
            site.committed, site.heard = self._committed, self._heard
            site.line.shown = partial(self.records.shown, site.name)

    def __repr__(self) -> str:
        return f"Watch({self.moves} moves)"

    # States

    def owners(self, uuid: UUID) -> list[Site]:
        """Return the systems that serve a partition, without those that a restart has fenced."""
        return [site for site in self._sites if self._owns(site, uuid)]

    def _owns(self, site: Site, uuid: UUID) -> bool:
        """Whether this system serves a partition and no restart has fenced it."""
        at = self.standing(site, uuid)
        return at.custody in OWNING and at.mode in SERVES and not self._is_fenced(site, uuid)

    def _is_fenced(self, site: Site, uuid: UUID) -> bool:
        return Fenced(uuid, site.name, site.lives) in self.fenced

    @staticmethod
    def standing(site: Site, uuid: UUID) -> Standing:
        """Return the present state of a partition on a system; NONE if the system is down."""
        return site.machine.custodian.standing(uuid) if site.machine else Standing()

    async def reached(self, state: str) -> None:
        """Wait until any system reaches a record or a mode with this name."""
        await self._reached[state].wait()

    def ordered(self, uuid: UUID, copied: int) -> Callable[[], None]:
        """Note an order of a remote restart; `copied` is the generation of the console's newest copy.

        The restart has to bring the state of that copy or a later one.  Return a function that withdraws the
        order.
        """
        # Several orders may be open at once, and any of them may cause the restart. So the smallest bound
        # counts.
        orders, least = self._ordered[uuid], self._lines[uuid].least(copied)
        orders.append(least)

        def refused() -> None:
            if least in orders:
                orders.remove(least)

        return refused

    # Callbacks of the sites

    def _committed(self, site: Site, changes: Mapping[str, bytes | None]) -> None:
        self.records.committed(site.name, changes)
        self.look(site)

    def _heard(self, site: Site, word: HeardWord) -> None:
        self.records.heard(site.name, word)
        self.decisions.heard(site, word)
        if word.on is Word.FENCED and self.standing(site, word.uuid).custody in OWNING:
            self._released_by_fence.add((site.name, word.uuid, word.epoch))

    def look(self, site: Site) -> None:
        """Note the changes of custody on a system; two owners of one partition are a failure."""
        machine = site.machine
        if machine is None:
            return
        for partition in machine.system.partitions.values():
            uuid = partition.profile.uuid
            now, before = self.standing(site, uuid), self._seen.get((site.name, uuid), Standing())
            if (now.custody, now.mode, now.epoch) != (before.custody, before.mode, before.epoch):
                self._seen[site.name, uuid] = now
                self._changed(site, partition, before, now)

            if partition.running and now.mode is Mode.SETTLED:
                self._trace.fail(f"{site.name} runs a partition in {now.custody.name}({now.epoch})")
            self._demand_one(uuid)

    def _changed(self, site: Site, partition: Partition, before: Standing, now: Standing) -> None:
        uuid = partition.profile.uuid
        state = f"{now.custody.name}({now.epoch}) {now.mode.value}"
        self._trace.note(site.name, f"custody of {partition.name}: {state}")
        if self._is_fenced(site, uuid) and now.custody not in OWNING:
            self._lost(site.name, uuid)
        for each in {now.custody.name, now.mode.value} - {before.custody.name, before.mode.value}:
            self._reached.pop(each, trio.Event()).set()
        if now.custody is not before.custody:
            self._before[site.name, uuid] = before
        attempt = uuid, now.epoch
        if now.custody is Custody.ARRIVED and now.mode in SERVES and attempt not in self._arrived:
            self._arrived.add(attempt)
            self._arrives(site, partition, now)

    def _arrives(self, site: Site, partition: Partition, now: Standing) -> None:
        """Note that a partition has arrived at a system, by a migration or by a remote restart."""
        uuid = partition.profile.uuid
        self.moves += 1
        before = self._before[site.name, uuid]
        # If the system had the copy (PREPARED), a live migration ends here. If a bar came between PREPARED
        # and ARRIVED, the code below decides.
        if (before.custody, before.epoch) == (Custody.PREPARED, now.epoch):
            self._note(uuid, site.name, Fate.FLUSHED)
            return
        peer = partition.profile.peer.hex()
        source = next(each for each in self._sites if each.system_id == peer)
        there = self._seen.get((source.name, uuid), Standing())
        fenced = (source.name, uuid, now.epoch) in self._released_by_fence
        if there.custody is Custody.RELEASED and there.epoch == now.epoch and not fenced:
            return  # an inactive migration: the copy is the last state of the source's store
        self.restarts += 1
        values, line = values_of(partition), self._lines[uuid]
        if not line.had(values):
            self._trace.fail(f"{site.name} has restarted a store that never was")
        elif line.last(values) < min(self._ordered.pop(uuid, []), default=0):
            self._trace.fail(f"{site.name} has restarted an older copy than the console had at the order")
        line.restarted(values, partition.profile.image_generation)
        self._note(uuid, source.name, Fate.RESTARTED, values)
        if there.custody in OWNING and there.mode in SERVES and source.machine:
            self.fenced.add(Fenced(uuid, source.name, source.lives))
        else:
            self._lost(source.name, uuid)

    def _served(self, site: Site, partition: Partition) -> None:
        """Note the state after a batch of calls; it is a failure if this system may not run them."""
        uuid = partition.profile.uuid
        self.look(site)
        values, generation = values_of(partition), partition.profile.image_generation
        if self._is_fenced(site, uuid):
            generation = 0  # the later states of the owner do not come from this state
        self._lines[uuid].served(values, generation)
        standing = self.standing(site, uuid)
        if partition.gone or standing.custody not in OWNING or standing.mode not in SERVES:
            self._trace.fail(f"{site.name} runs a call in {standing.custody.name} {standing.mode.value}")

    def _crashed(self, site: Site) -> None:
        """Add the crash of a system to the history of each of its partitions."""
        self.records.crashed(site.name)
        machine = site.machine
        for partition in machine.system.partitions.values() if machine else ():
            uuid = partition.profile.uuid
            standing = self.standing(site, uuid)
            facts = machine.custodian.facts_of(uuid) if machine else None
            durable = facts.custody if facts else Custody.NONE
            # A system that still asks the console has served nothing in this life.
            served = standing.mode is not Mode.ASKING
            held = (*OWNING, Custody.FROZEN, Custody.RELEASED)
            if served and standing.custody in held and durable in OWNING:
                self._note(uuid, site.name, Fate.CRASHED)
            # The record with FROZEN also has the store, and the store does not change after it. So the crash
            # loses no change.
            elif durable is Custody.FROZEN:
                self._note(uuid, site.name, Fate.FLUSHED)
            if self._is_fenced(site, uuid):
                self._lost(site.name, uuid)

    def _lost(self, name: str, uuid: UUID) -> None:
        self.fenced = {each for each in self.fenced if (each.uuid, each.site) != (uuid, name)}
        self._note(uuid, name, Fate.LOST)

    def _note(self, uuid: UUID, name: str, fate: Fate, values: Values = ()) -> None:
        self.events[uuid].append(Event(self._trace.moment(), name, fate, values))
        self._trace.note(name, f"the partition is {fate.value}")

    def _demand_one(self, uuid: UUID) -> None:
        owners = self.owners(uuid)
        if len(owners) > 1:
            names = " and ".join(each.name for each in owners)
            self._trace.fail(f"two owners: {names} serve {uuid}")


def values_of(partition: Partition) -> Values:
    """Return the persistent objects of a partition in the form of a history."""
    image = partition.keystore.contents.snapshot() if partition.keystore else None
    found = {each.label.decode(): each.data for each in (image.objects if image else ())}
    return tuple(found.get(label) for label in KEPT)
