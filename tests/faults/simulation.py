"""A whole managed system on a virtual clock, whose power can be cut at any operation of its NVRAM.

Everything but the five seams is real: sessions over memory streams, dispatch, keystore, encryptor,
sealing, recovery.  A life runs from power-on to power cut; what lies in the `MemoryNvram` then is all
that the next life gets, besides the anchor card.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import trio
import trio.testing

from hcall_abi.levels import LEVELS
from hcall_client.calls import HcallError, Request
from hcall_client.channel import Channel, open_channel
from hcall_server.components.anchor_card import SystemIdentity
from hcall_server.data_channel.connection import serve_stream
from hcall_server.faults.nvram import FaultyNvram, Planned
from hcall_server.hcalls.dispatch import HypervisorCalls
from hcall_server.machine.machine import Machine
from hcall_server.nvram.memory import MemoryNvram
from hcall_server.platform.system import ManagedSystem
from hcall_server.sealing import Sealer, SystemRecord
from hcall_server.writeback.encryptor import Encryptor
from hcall_server.writeback.recover import recover_partitions, recover_system
from hcall_server.writeback.worker import Job
from tests.guest import Chance

LEVEL = "FW1110"


class PowerCut(BaseException):
    """The power is gone: nothing after this runs."""


class CutNvram:
    """NVRAM whose power fails at the operation number `at` (from 1, 0: never), before its effect or after it.

    `watch` is shown the records before and after each commit: what a cut there would leave.
    """

    def __init__(self, inner: FaultyNvram, memory: MemoryNvram) -> None:
        self.inner = inner
        self.memory = memory
        self.at = 0
        self.after = False
        self.operations = 0
        self.watch: Callable[[Mapping[str, bytes]], None] = lambda records: None

    def load(self) -> dict[str, bytes]:
        self._begin()
        records = self.inner.load()
        self._end()
        return records

    def commit(self, changes: Mapping[str, bytes | None]) -> None:
        self._begin()
        self.watch(self.memory.records)
        try:
            self.inner.commit(changes)
        finally:
            self.watch(self.memory.records)
            self._end()

    def close(self) -> None:
        raise AssertionError("a power cut closes nothing")

    def _begin(self) -> None:
        self.operations += 1
        if self.operations == self.at and not self.after:
            raise PowerCut

    def _end(self) -> None:
        if self.at and self.operations == self.at:
            raise PowerCut


class SlowWorker:
    """A worker whose jobs wait a while before and after, so that calls run in between."""

    def __init__(self, chance: Random, waits: tuple[float, ...]) -> None:
        self._chance = chance
        self._waits = waits

    async def run(self, job: Job) -> None:
        await trio.sleep(self._chance.choice(self._waits))
        job()
        await trio.sleep(self._chance.choice(self._waits))

    def close(self) -> None:
        raise AssertionError("a power cut closes nothing")


class Direct:
    """Stands for a session where frames are not the point: straight into dispatch, several times faster."""

    def __init__(self, machine: Machine, name: str) -> None:
        self._machine = machine
        self._partition = machine.system.find(name)
        self._calls = HypervisorCalls(self._partition)
        self.ipl_count = self._partition.ipl_count

    async def pipeline(self, requests: Iterable[Request[Any]]) -> list[Any]:
        """Run calls, then do what a connection does after each batch."""
        results = [self._call(request) for request in requests]
        keystore = self._partition.keystore
        if keystore is not None and keystore.dirty:
            self._machine.encryptor.changed(self._partition)
        await trio.lowlevel.checkpoint()
        return results

    def _call(self, request: Request[Any]) -> Any:
        try:
            return request.parse(self._calls.execute(request.frame(1)))
        except HcallError as error:
            return error


class Simulation:
    """A system with the partitions `names`, its NVRAM and its anchor card."""

    def __init__(
        self, chance: Random, names: tuple[str, ...], kbytes: int, troubles: Iterable[Planned] = ()
    ) -> None:
        self.chance = chance
        self.identity = SystemIdentity.make(Chance(b"identity"))
        self.memory = MemoryNvram()
        self.nvram = CutNvram(FaultyNvram(self.memory, troubles), self.memory)
        self.through_channel = True
        self.waits: tuple[float, ...] = (0, 0.001, 0.03)
        """Seconds that NVRAM may take before and after its effect."""
        self._names = names
        self._kbytes = kbytes
        self._entropy = Chance(chance.randbytes(8))

    def sealer(self) -> Sealer:
        """A sealer that knows nothing but the anchor card."""
        return Sealer(self.identity, self._entropy)

    def recovered(self, records: Mapping[str, bytes]) -> ManagedSystem:
        """The system that a start on these records finds; fails where any of it is refused."""
        system = ManagedSystem(LEVELS[LEVEL], self.identity.system_id, self._entropy)
        recover_system(records, self.sealer())
        assert not recover_partitions(system, records, self.sealer())
        return system

    async def live(self, delay: float, body: Callable[[Life], Awaitable[None]]) -> None:
        """Switch the machine on and run `body` in it, to its end or to a power cut, wherever that is."""
        try:
            async with trio.open_nursery() as nursery:
                life = Life(self, nursery, self.nvram.load(), delay)
                await nursery.start(life.encryptor.run)
                await life.power_on()
                await body(life)
                nursery.cancel_scope.cancel()
        except* PowerCut:
            pass

    def start(self, records: Mapping[str, bytes]) -> ManagedSystem:
        """Recover what there is and make what there is not, as the server does."""
        system = self.recovered(records)
        for name in self._names:
            if name not in system.partitions:
                system.create(name, self._kbytes)
        return system


class Life:
    """A system between power-on and power cut."""

    def __init__(
        self, simulation: Simulation, nursery: trio.Nursery, records: Mapping[str, bytes], delay: float
    ) -> None:
        self.system = simulation.start(records)
        worker = SlowWorker(simulation.chance, simulation.waits)
        self.encryptor = Encryptor(simulation.nvram, simulation.sealer(), worker, delay=delay)
        self.machine = Machine(self.system, self.encryptor)
        self.nursery = nursery
        self._through_channel = simulation.through_channel
        if not records:
            self.encryptor.system_changed(SystemRecord(LEVEL, self.system.total_kbytes))

    async def power_on(self) -> None:
        for name in self.system.partitions:
            await self.machine.power_on(name)

    @asynccontextmanager
    async def session(self, name: str) -> AsyncIterator[Channel | Direct]:
        """A session with a partition, through the data channel or straight to its h-calls."""
        if not self._through_channel:
            yield Direct(self.machine, name)
            return
        ours, theirs = trio.testing.memory_stream_pair()
        partition = self.system.find(name)

        async def serve() -> None:
            await serve_stream(self.machine, theirs, partition, demand_proof=False)

        self.nursery.start_soon(serve)
        async with open_channel(ours) as channel:
            yield channel
