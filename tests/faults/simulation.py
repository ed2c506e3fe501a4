"""A whole managed system on a virtual clock. Its power can be cut at any operation of its NVRAM.

Everything but the six seams is real: sessions over memory streams, dispatch, keystore, encryptor, sealing,
recovery. A life runs from power-on to power cut. The next life gets only the contents of the back end of
NVRAM, which is memory by default, and the anchor card.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import outcome
import trio

from hcall_abi.faults import NvramFault
from hcall_client.calls import HcallError, Request
from hcall_client.channel import Channel, open_channel
from hcall_server.components.memory import MemoryCard
from hcall_server.data_channel.memory import MemoryTransport
from hcall_server.faults.nvram import FaultyNvram
from hcall_server.hcalls.dispatch import HypervisorCalls
from hcall_server.machine.logs import Log
from hcall_server.machine.machine import Machine
from hcall_server.nvram.memory import MemoryNvram
from hcall_server.nvram.seam import CommitLimits, Mark, Nvram, NvramError
from hcall_server.platform.system import ManagedSystem
from hcall_server.service.assembly import Seams, assemble
from hcall_server.service.settings import PartitionSettings, Settings
from hcall_server.writeback.worker import Job, Landed
from swpks.testing.seams import simulated_seams
from tests.guest import Chance
from tests.nvram.backends import Backend, MemoryBackend

LEVEL = "FW1110"


class PowerCut(BaseException):
    """Raised at the moment of a power cut, so that no code of the system runs any more."""


class CutNvram:
    """NVRAM that cuts the power before or after its operation number `at`.

    If `at` is 0, there is no cut. Before and after each commit, `watch` gets the present records. A power
    cut at that moment would leave these records.
    """

    def __init__(self, backend: Backend, faults: Iterable[NvramFault]) -> None:
        self.backend = backend
        self.inner = FaultyNvram(backend.opened(), faults)
        self.at = 0
        self.after = False
        self.operations = 0
        self.watch: Callable[[Mapping[str, bytes]], None] = lambda records: None
        self.switch_off: Callable[[], None] = lambda: None
        """Ends every task at once, so that no task sees the end of another."""

    def load(self) -> dict[str, bytes]:
        self._begin()
        records = self.inner.load()
        self._end()
        return records

    def commit(self, changes: Mapping[str, bytes | None]) -> None:
        self._begin()
        self.watch(self.backend.records())
        try:
            self.inner.commit(changes)
        finally:
            self.watch(self.backend.records())
            self._end()

    def close(self) -> None:
        raise AssertionError("a power cut closes nothing")

    @property
    def mark(self) -> Mark:
        return self.inner.mark

    @property
    def old_number(self) -> int:
        return self.inner.old_number

    ownership = None

    @property
    def always_newest(self) -> bool:
        return self.inner.always_newest

    @property
    def limits(self) -> CommitLimits | None:
        return self.inner.limits

    def last_commit(self) -> bytes | None:
        return self.inner.last_commit()

    def begin_life(self) -> None:
        """Open the back end anew: the plan of faults goes on."""
        self.inner.inner = self.backend.opened()

    def _begin(self) -> None:
        self.operations += 1
        if self.operations == self.at and not self.after:
            self._cut()

    def _end(self) -> None:
        if self.at and self.operations == self.at:
            self._cut()

    def _cut(self) -> None:
        self.switch_off()
        raise PowerCut


class SlowWorker:
    """A worker that waits before and after each job, so that calls run in between.

    The jobs run in the nursery of a life, so a power cut ends them too.
    """

    def __init__(self, chance: Random, waits: tuple[float, ...], nursery: trio.Nursery | None) -> None:
        self._chance = chance
        self._waits = waits
        self._nursery = nursery

    def start(self, job: Job, landed: Landed) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(self._run, job, landed)

    async def _run(self, job: Job, landed: Landed) -> None:
        """Run a job. A power cut during it ends the life; any other error is the job's outcome."""
        await trio.sleep(self._chance.choice(self._waits))
        result: outcome.Outcome[None] = outcome.Value(None)
        try:
            job()
        except Exception as error:
            result = outcome.Error(error)
        await trio.sleep(self._chance.choice(self._waits))
        landed(result)

    def close(self) -> None:
        raise AssertionError("a power cut closes nothing")


class Direct:
    """A session without frames: it passes calls straight to dispatch, and is several times faster."""

    def __init__(self, machine: Machine, name: str) -> None:
        self._machine = machine
        self._partition = machine.system.find(name)
        self._calls = HypervisorCalls(self._partition)
        self.ipl_count = self._partition.ipl_count

    async def pipeline(self, requests: Iterable[Request[Any]]) -> list[Any]:
        """Execute calls, then do what a connection does after each batch; return the results."""
        results = [self._call(request) for request in requests]
        self._machine.after_calls(self._partition, Log())
        await trio.lowlevel.checkpoint()
        return results

    def _call(self, request: Request[Any]) -> Any:
        try:
            return request.parse(self._calls.execute(request.frame(1)))
        except HcallError as error:
            return error


class Simulation:
    """A system with the partitions `names`, on simulated NVRAM and a simulated anchor card."""

    def __init__(
        self,
        chance: Random,
        names: tuple[str, ...],
        kbytes: int,
        faults: Iterable[NvramFault] = (),
        backend: Backend | None = None,
    ) -> None:
        self.chance = chance
        self.nvram = CutNvram(backend or MemoryBackend(), faults)
        self.card = MemoryCard()
        self.through_channel = True
        self.waits: tuple[float, ...] = (0, 0.001, 0.03)
        """Seconds that NVRAM may take before and after its effect."""
        self._wishes = tuple(PartitionSettings.of(name, kbytes) for name in names)
        self._entropy = Chance(chance.randbytes(8))

    def recovered(self, records: Mapping[str, bytes]) -> ManagedSystem:
        """Return the system that a start on these records recovers; fail if it refuses any record."""
        found = MemoryNvram(records)
        found.mark.held = list(self.nvram.mark.slots())
        machine = assemble(self._seams(found, MemoryCard(self.card.held)), Settings(firmware=LEVEL))
        assert not any(partition.refused for partition in machine.system.partitions.values())
        return machine.system

    async def live(self, delay: float, body: Callable[[Life], Awaitable[None]]) -> None:
        """Start the machine and run `body` in it until `body` ends, or until the power is cut."""
        try:
            async with trio.open_nursery() as nursery:
                settings = Settings(firmware=LEVEL, flush_delay_ms=delay * 1000, partition=self._wishes)
                self.nvram.switch_off = nursery.cancel_scope.cancel
                self.nvram.begin_life()
                try:
                    machine = assemble(self._seams(self.nvram, self.card, nursery), settings)
                except NvramError:
                    # NVRAM failed at the first start, so the server has ended and left no state.
                    return
                await nursery.start(machine.run)
                machine.start()
                await body(Life(machine, nursery, through_channel=self.through_channel))
                nursery.cancel_scope.cancel()
        except* PowerCut:
            pass  # The power cut ends this life. The next life starts on the stored records.

    def _seams(self, nvram: Nvram, card: MemoryCard, nursery: trio.Nursery | None = None) -> Seams:
        worker = SlowWorker(self.chance, self.waits, nursery)
        return simulated_seams(nvram=nvram, card=card, worker=worker, entropy=self._entropy)


class Life:
    """A running system, from power-on to the power cut."""

    def __init__(self, machine: Machine, nursery: trio.Nursery, *, through_channel: bool) -> None:
        self.machine = machine
        self.system = machine.system
        self.encryptor = machine.encryptor
        self.nursery = nursery
        self._through_channel = through_channel

    @asynccontextmanager
    async def session(self, name: str) -> AsyncIterator[Channel | Direct]:
        """Return a session with a partition: through the data channel, or a `Direct` one."""
        transport = self.machine.transport
        assert isinstance(transport, MemoryTransport)
        if not self._through_channel:
            yield Direct(self.machine, name)
            return
        # A pending power cut ends the task here, before the task connects.
        await trio.lowlevel.checkpoint()
        async with open_channel(transport.connect(name)) as channel:
            yield channel
