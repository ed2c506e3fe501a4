"""The simulated etcd of a world: one cluster for all systems, with the faults of a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from swpks.testing.etcd.model import EtcdModel
from swpks.testing.simulation.etcd_places import SILENT, TTL, SharedEtcd, SimulatedEtcdPlace
from swpks.testing.simulation.etcd_plan import ALL, EtcdPlan, Outage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from swpks.testing.simulation.sites import Surroundings


class SimulatedEtcd(SharedEtcd):
    """The cluster of a world, and the places of its systems in it."""

    def __init__(self, around: Surroundings, plan: EtcdPlan) -> None:
        super().__init__(around, plan, EtcdModel(trio.current_time))
        self.model.on_change = self._changed
        self._places: dict[str, SimulatedEtcdPlace] = {}

    def __repr__(self) -> str:
        return f"SimulatedEtcd({self.model!r})"

    def place(self, name: str) -> SimulatedEtcdPlace:
        """Return the place of a system's records."""
        self._places[name] = SimulatedEtcdPlace(self, name)
        return self._places[name]

    @property
    def figures(self) -> dict[str, int]:
        """The figures so far."""
        met = [place.network.met for place in self._places.values()]
        return {
            "requests to etcd": sum(sum(each.values()) for each in met),
            "without an answer": sum(sum(each[fate] for fate in SILENT) for each in met),
            "leases lost": self.lost,
            "take-overs": self.owners - len(self._places),
        }

    @property
    def troubled(self) -> bool:
        """Whether a system runs without its NVRAM: a standby will take its place."""
        tenures = [place.tenure for place in self._places.values()]
        return any(each is None or each.nvram.lease.over for each in tenures)

    async def trouble(self) -> None:
        """Perform the outages and the early ends of leases, from now on; return when the last one is over."""
        self.faults = True
        begins = trio.current_time()
        async with trio.open_nursery() as nursery:
            for outage in self.plan.outages:
                nursery.start_soon(self._outage, outage, begins + outage.at)
            for at, name in self.plan.ends:
                nursery.start_soon(self._end, name, begins + at)

    async def calm(self) -> None:
        """End all faults; return when each owner knows whether it still owns its records."""
        self.faults = False
        await trio.sleep(TTL)

    async def _outage(self, outage: Outage, at: float) -> None:
        await trio.sleep_until(at)
        self.around.trace.note("etcd", f"outage: {outage.fate} for {outage.who or 'all'}")
        places = [place for name, place in self._places.items() if outage.who in (ALL, name)]
        for place in places:
            place.away = outage.fate, None if outage.follows else place.tenures
        await trio.sleep(outage.seconds)
        self.around.trace.note("etcd", f"the outage is over for {outage.who or 'all'}")
        for place in places:
            place.away = None

    async def _end(self, name: str, at: float) -> None:
        await trio.sleep_until(at)
        tenure = self._places[name].tenure
        if tenure and self.faults:
            self.around.trace.note("etcd", f"ends the lease of {tenure.owner}")
            self.model.expire_lease(tenure.nvram.lease.id)

    def _changed(self, changes: Mapping[bytes, bytes | None]) -> None:
        for place in self._places.values():
            place.changed(changes)
