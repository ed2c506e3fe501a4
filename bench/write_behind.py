"""Confirmed writes of the write-behind encryptor, with its worker thread, over each back end of NVRAM."""

# A confirmed write, at the level of the encryptor
#
# A client removes its object, writes it, and calls CONFIRM, as in `confirm-N`.  Then it waits for landings
# until CONFIRM answers "flushed".  The calls run in this process, on the encryptor's own event loop: no
# socket and no frame is measured.  Each partition has one client, and a nearly full store of 64 KiB, which
# each flight seals and commits as a whole.  So a flight of 16 partitions commits about 900 KB.

from __future__ import annotations

import os
import time

import trio

from bench.back_ends import Timings, rows_of
from bench.measure import Bench, Effort
from bench.programs import KBYTES, OBJECTS, OWNER, answer, preparation
from bench.results import Row
from hcall_abi.levels import DEFAULT_LEVEL
from hcall_client.calls import confirm_object_flushed, remove_object, write_object
from hcall_server.hcalls.dispatch import HypervisorCalls
from hcall_server.nvram.seam import Nvram
from hcall_server.platform.identity import SystemIdentity
from hcall_server.platform.partition import Partition
from hcall_server.platform.system import ManagedSystem
from hcall_server.sealing import CommitAuthority, Sealer
from hcall_server.writeback.commits import Commits
from hcall_server.writeback.encryptor import Encryptor
from hcall_server.writeback.worker import ThreadWorker

CONFIRMED_WRITES = "confirmed writes over each back end of NVRAM, beside SQLite"
PARTITIONS = (1, 16)
LABEL = b"bench-000"
PATIENCE = 60.0
IDENTITY = SystemIdentity(bytes(16), bytes(32))


class WriteBehind:
    """A system with its encryptor on one back end."""

    def __init__(self, nvram: Nvram) -> None:
        system = ManagedSystem(DEFAULT_LEVEL, bytes(16), os.urandom)
        names = [f"lpar{n:02}" for n in range(max(PARTITIONS))]
        for name in names:
            system.create(name, KBYTES)
        self.partitions = [system.power_on(name) for name in names]
        self._engines = [HypervisorCalls(partition) for partition in self.partitions]
        self.worker = ThreadWorker().started()
        commits = Commits(nvram, CommitAuthority(IDENTITY.root_key))
        sealer = Sealer(IDENTITY, os.urandom)
        self.encryptor = Encryptor(commits, sealer, self.worker, clock=time.monotonic)

    async def prepare(self) -> None:
        """Fill the partitions, and make that durable."""
        for partition, engine in zip(self.partitions, self._engines, strict=True):
            for request in (*preparation(OBJECTS), write_object(OWNER, LABEL, bytes(64))):
                answer(engine, request.frame(1))
            self.encryptor.changed(partition)
        if not await self.encryptor.flush():
            raise RuntimeError(f"the first flush failed: {self.encryptor.health.last_error}")

    async def confirm(self, clients: int, effort: Effort, timings: Timings) -> None:
        """Let clients write for the seconds of a round, and add the round to `timings`."""
        took: list[float] = []
        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for engine, partition in zip(self._engines[:clients], self.partitions, strict=False):
                nursery.start_soon(self._client, engine, partition, effort, took)
        timings.add(took, time.perf_counter() - began)

    async def _client(
        self, engine: HypervisorCalls, partition: Partition, effort: Effort, took: list[float]
    ) -> None:
        done, until = 0, time.perf_counter() + effort.seconds
        while done < effort.commits or time.perf_counter() < until:
            began = time.perf_counter()
            for request in (remove_object(OWNER, LABEL), write_object(OWNER, LABEL, bytes(64))):
                answer(engine, request.frame(1))
            while not self._flushed(engine):
                await self._landing(partition)
            took.append(time.perf_counter() - began)
            done += 1

    def _flushed(self, engine: HypervisorCalls) -> bool:
        returned = engine.execute(confirm_object_flushed(OWNER, LABEL).frame(1))
        if returned.status < 0:
            raise RuntimeError(f"CONFIRM is refused: status {returned.status}")
        return returned.registers[0] == 1

    async def _landing(self, partition: Partition) -> None:
        landed = trio.Event()
        self.encryptor.changed(partition)
        self.encryptor.wait_landing(landed.set, time.monotonic() + PATIENCE)
        await landed.wait()
        if not self.encryptor.health.ok:
            raise RuntimeError(f"a flush failed: {self.encryptor.health.last_error}")


def confirmed_rows(bench: Bench, there: dict[str, Nvram]) -> list[Row]:
    """Return a row for each number of partitions and back end."""
    found = trio.run(_measured, bench, there)
    rows = []
    for clients in PARTITIONS:
        title = f"confirmed write, {clients} partition{'s' if clients > 1 else ''}"
        timings = {name: found[clients, name] for name in there}
        rows += rows_of(f"nvram-confirmed-{clients}", CONFIRMED_WRITES, title, timings)
    return rows


async def _measured(bench: Bench, there: dict[str, Nvram]) -> dict[tuple[int, str], Timings]:
    found = {(clients, name): Timings() for clients in PARTITIONS for name in there}
    systems = {name: WriteBehind(nvram) for name, nvram in there.items()}
    async with trio.open_nursery() as nursery:
        for each in systems.values():
            await nursery.start(each.encryptor.run)
            await each.prepare()
        for _ in bench.rounds("confirmed writes over back ends"):
            for (clients, name), timings in found.items():
                await systems[name].confirm(clients, bench.effort, timings)
        nursery.cancel_scope.cancel()
    for each in systems.values():
        each.worker.ended(PATIENCE)
    return found
