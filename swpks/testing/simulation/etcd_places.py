"""The records of a simulated system in a simulated etcd, over all its lives and owners."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import httpx
import trio

from hcall_server.nvram.etcd.chain import EtcdKeys
from hcall_server.nvram.etcd.lease import Lease
from hcall_server.nvram.etcd.nvram import LIMITS, EtcdNvram
from hcall_server.nvram.etcd.transport import EtcdCluster
from hcall_server.nvram.mark import MemoryMark
from hcall_server.nvram.names import CUSTODY
from hcall_server.nvram.seam import CommitLimits, NvramError, NvramInUseError
from swpks.testing.etcd.network import Fate, ModelNetwork
from swpks.testing.simulation.commit_judge import CommitJudge
from swpks.testing.simulation.etcd_plan import CHANCES
from swpks.testing.simulation.life import Life, LivingNvram, OnRecords
from swpks.testing.simulation.tenures import JudgedNvram, Tenure, beat

if TYPE_CHECKING:
    from hcall_server.nvram.seam import Nvram
    from swpks.testing.etcd.model import EtcdModel
    from swpks.testing.simulation.etcd_plan import EtcdPlan
    from swpks.testing.simulation.sites import Surroundings

TTL = 2
"""Seconds of a lease; etcd's least is about this.  A start after a crash waits for it."""
ATTEMPT = 0.2
"""Seconds that a member gets for an answer."""
POLL = 0.3
"""Seconds between two claims of a standby."""
CUSTODY_CRASHES = 5
"""Crashes after a commit of the custody record are so many times as frequent as after others."""
LONGEST = 1000.0
"""Virtual seconds after which a simulation has failed to end: keep-alives would go on for ever."""
SILENT: tuple[Fate, ...] = ("late", "lost", "unanswered")
"""The fates after which a client waits until its time-out."""


class SharedEtcd:
    """The cluster of all systems, its faults by the plan, and its figures."""

    def __init__(self, around: Surroundings, plan: EtcdPlan, model: EtcdModel) -> None:
        self.around = around
        self.plan = plan
        self.model = model
        self.faults = False
        """Whether requests meet fates: only during the story."""
        self.lost = 0
        """Leases that were lost."""
        self.owners = 0
        """Successful claims."""


class SimulatedEtcdPlace:
    """The place of one system's records in the cluster.

    `on_lost` is called when the present owner has lost its lease, `on_crash` before a crash of its machine.
    """

    def __init__(self, etcd: SharedEtcd, name: str) -> None:
        self.name = name
        self.etcd = etcd
        self.keys = EtcdKeys(f"swpks/{name}")
        self.endpoints = [f"http://{n}" for n in range(etcd.plan.members)]
        self.chance = etcd.around.chance(f"etcd {name}")
        self.network = ModelNetwork(etcd.model, self._fate, self._lateness)
        self.away: tuple[Fate, int | None] | None = None
        """The fate of an outage, and the only tenure that it concerns."""
        self.speaker = 0
        """The tenure that sends the present request."""
        self.tenures = 0
        self.tenure: Tenure | None = None
        self.on_lost: Callable[[NvramError], None] = lambda error: None
        self.on_crash: Callable[[], None] = lambda: None
        self._standby: Tenure | None = None
        self._claims = trio.Lock()
        self._mark = MemoryMark()
        self._other_mark: MemoryMark | None = None
        self._silent = 0
        self._committed: OnRecords = lambda changes: None
        self._judge = CommitJudge(name, self._present, etcd.around.trace.fail)

    def __repr__(self) -> str:
        return f"SimulatedEtcdPlace({self.name!r}, {self.tenure!r})"

    # The place of NVRAM

    def opened(self, life: Life, offered: OnRecords, committed: OnRecords) -> Nvram:
        """Return the NVRAM of a life, which owns the records now."""
        tenure, self._standby = self._standby, None
        if tenure is None:
            raise RuntimeError(f"{self.name} does not own its records")
        self.tenure = tenure
        self._committed = committed
        life.at_end.append(partial(setattr, tenure, "over", True))

        def begins(changes: Mapping[str, bytes | None]) -> None:
            offered(changes)
            # Crashes around a departure or an arrival show most: two records have to agree then.
            share = self.etcd.plan.crashes * (CUSTODY_CRASHES if CUSTODY in changes else 1)
            if self.etcd.faults and self.chance.random() < share:
                life.crash_at = life.steps, True
                self.on_crash()

        return LivingNvram(JudgedNvram(tenure, self._judge), life, begins, lambda changes: None)

    async def take_over(self) -> None:
        """Claim the records until a standby owns them."""
        async with self._claims:
            while self._standby is None or self._standby.nvram.lease.over:
                self._standby = await self._claimed()

    async def abandon(self) -> None:
        """Close the NVRAM of a start that has failed, as the product does."""
        if self.tenure:
            self._close(self.tenure)
        await trio.sleep(POLL)
        await self.pause()

    def waited(self) -> float:
        """Return the seconds that requests have waited for answers since the last call."""
        silent = sum(self.network.met[fate] for fate in SILENT)
        new, self._silent = silent - self._silent, silent
        return new * ATTEMPT

    async def pause(self) -> None:
        """Wait as long as the last requests have."""
        if waited := self.waited():
            await trio.sleep(waited)

    # Tenures

    async def _claimed(self) -> Tenure:
        """Return a new tenure that owns the records."""
        if self.tenures and self.chance.random() < 0.3:
            self._change_machine()
        while True:
            self.tenures += 1
            tenure = self._made(self.tenures)
            try:
                tenure.nvram.lease.grant()
                while not self._owns(tenure):
                    await trio.sleep(POLL)
                    if error := beat(tenure.nvram.lease):
                        raise error
            except NvramError as error:
                self.etcd.around.trace.note(self.name, f"{tenure.owner} can't own NVRAM: {error.message}")
                self._close(tenure)
                await self.pause()
                await trio.sleep(POLL)
                continue
            self.etcd.owners += 1
            self.etcd.around.trace.note(self.name, f"{tenure.owner} owns NVRAM")
            self.etcd.around.nursery.start_soon(tenure.keep)
            return tenure

    def _change_machine(self) -> None:
        """Let the next owner be the other machine, whose mark is as old as its last tenure."""
        other = self._other_mark
        if other is None:
            other = MemoryMark()
            other.held = list(self._mark.held)
        self._mark, self._other_mark = other, self._mark

    def _made(self, number: int) -> Tenure:
        """Return a tenure that owns nothing yet."""
        owner = f"{self.name}/{number}"
        network = _Host(self, number)
        cluster = EtcdCluster(self.endpoints, httpx.Client(transport=network))
        lease = Lease(cluster, self._clock(), TTL)
        nvram = EtcdNvram(cluster, self.keys, owner.encode(), lease, self._mark)
        nvram.limits = CommitLimits(LIMITS.size, self.etcd.plan.records)
        return Tenure(owner, nvram, self._lost, self.pause)

    def _owns(self, tenure: Tenure) -> bool:
        """Claim the records once; return whether the tenure owns them."""
        try:
            tenure.nvram.own()
        except NvramInUseError:
            return False
        return True

    def _close(self, tenure: Tenure) -> None:
        tenure.over = True
        tenure.nvram.close()

    def _lost(self, tenure: Tenure, error: NvramError) -> None:
        """Note that a tenure has lost its lease."""
        self.etcd.lost += 1
        self.etcd.around.trace.note(self.name, f"{tenure.owner} has lost its lease: {error.message}")
        if tenure is self.tenure and not tenure.over:
            self.on_lost(error)

    def _clock(self) -> Callable[[], float]:
        """Return a clock for an owner; it may be slow."""
        begins, pace = trio.current_time(), self.etcd.plan.pace
        return lambda: begins + (trio.current_time() - begins) * pace

    # Requests and their effects

    def _fate(self, path: str) -> Fate:
        if trio.current_time() > LONGEST:
            self.etcd.around.trace.fail("the simulation does not end")
        if not self.etcd.faults:
            return "answered"
        fate: Fate = (
            self.chance.choice(CHANCES) if self.chance.random() < self.etcd.plan.share else "answered"
        )
        if self.away and self.away[1] in (None, self.speaker):
            fate = self.away[0]
        if fate != "answered":
            self.etcd.around.trace.note(self.name, f"{path} of {self.name}/{self.speaker}: {fate}")
        return fate

    def _lateness(self) -> int:
        return self.chance.choice((1, 1, 2, 3, 5, 9, 20))

    def _present(self) -> tuple[str, dict[str, bytes]]:
        """Return the owner and the records in the cluster."""
        values = self.etcd.model.values()
        prefix = self.keys.records
        records = {
            key[len(prefix) :].decode(): each for key, each in values.items() if key.startswith(prefix)
        }
        return values.get(self.keys.owner, b"").decode(), records

    def changed(self, changes: Mapping[bytes, bytes | None]) -> None:
        """Report the records in a change of the cluster's store."""
        prefix = self.keys.records
        found = {key[len(prefix) :].decode(): each for key, each in changes.items() if key.startswith(prefix)}
        if found:
            self._judge.took_effect(found)
            self._committed(found)


class _Host(httpx.BaseTransport):
    """The machine of one tenure: its requests go through the network of its system."""

    def __init__(self, place: SimulatedEtcdPlace, number: int) -> None:
        self._place = place
        self._number = number

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request."""
        self._place.speaker = self._number
        return self._place.network.handle_request(request)
