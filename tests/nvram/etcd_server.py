"""A server with write-behind that owns a system in etcd: guests write and confirm, the encryptor commits.

It has the machine of `swpks serve`, without sockets.  Its acts "commit" run from a WRITE to a CONFIRM that
answers "flushed".
"""

# A partition's history
#
# Each partition has one guest, which makes one change after the other, and waits until each is flushed.  So
# only the last change of a life has an unknown outcome.  A start finds the store of each partition: that is a
# load.  A flight may be cut into parts between partitions, so each partition has a history of its own.

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random

import trio

from hcall_abi.errors import SwpksError
from hcall_abi.rules import storage as rules
from hcall_server.components.memory import MemoryCard
from hcall_server.machine.logs import Log
from hcall_server.machine.machine import Machine
from hcall_server.nvram import CommitLimits, NvramError
from hcall_server.nvram.mark import MemoryMark
from hcall_server.platform.partition import Partition
from hcall_server.service.assembly import assemble
from hcall_server.service.settings import PartitionSettings, Settings
from hcall_server.writeback.worker import ThreadWorker
from swpks.testing.seams import simulated_seams
from tests.guest import SYSTEM, Guest
from tests.nvram.etcd_history import OwnerAct
from tests.nvram.etcd_owner import PATIENCE, TRIES_WHEN_LOST, BusyOwner

PARTITIONS = tuple(f"lpar{n}" for n in range(1, 6))
LABELS = (b"a", b"b", b"c")
SETTINGS = Settings(partition=tuple(PartitionSettings.of(name, 16) for name in PARTITIONS))
LIMITS = CommitLimits(1 << 20, 4)
"""Small, so that a flight of all partitions has two parts."""


class SharedFolder:
    """The parts of a system's folder that its servers share: the anchor card and the mark."""

    def __init__(self) -> None:
        self.card = MemoryCard()
        self.mark = MemoryMark()


class BusyServer(BusyOwner):
    """One life of a server whose guests write and confirm until it is told to end."""

    def __init__(
        self,
        name: str,
        prefix: str,
        endpoints: list[str],
        chance: Random,
        note: Callable[[OwnerAct], None],
        slowness: int,
        folder: SharedFolder,
    ) -> None:
        super().__init__(name, prefix, endpoints, chance, note, slowness)
        self._nvram.mark = folder.mark
        self._nvram.limits = LIMITS
        self._folder = folder
        self._worker = ThreadWorker()

    def run(self) -> None:
        """Start the system, and let its guests work until the end."""
        self._keeper.start()
        try:
            trio.run(self._serve)
        finally:
            assert self._worker.ended(PATIENCE), "the worker hangs"

    async def _serve(self) -> None:
        machine = self._started()
        if machine is None:
            return
        machine.encryptor.on_trouble = self._take_trouble
        async with trio.open_nursery() as nursery:
            await nursery.start(machine.encryptor.run)
            async with trio.open_nursery() as guests:
                for partition in machine.system.partitions.values():
                    guests.start_soon(self._work_in, machine, partition)
            for _ in range(TRIES_WHEN_LOST if self.lost else 0):
                assert not await machine.encryptor.flush(), "a server that is not the owner has flushed"
            nursery.cancel_scope.cancel()

    def _started(self) -> Machine | None:
        """Return the machine of a start, None if etcd does not answer.  The stores are noted as a load."""
        called = time.monotonic()
        try:
            machine = assemble(
                simulated_seams(nvram=self._nvram, card=self._folder.card, worker=self._worker), SETTINGS
            )
        except NvramError:
            return None
        found: dict[str, bytes] = {}
        for partition in machine.system.partitions.values():
            assert partition.refused is None, partition.refused
            assert partition.keystore is not None
            for held in partition.keystore.contents.snapshot().objects:
                found[f"{partition.name}/{held.label.decode()}"] = held.data
        self._noted("load", called, found, done=True)
        return machine

    async def _work_in(self, machine: Machine, partition: Partition) -> None:
        partition.power_on()
        guest, count = Guest(partition), 0
        chance = Random(f"{self._chance.random()}")
        while not self._over:
            count += 1
            label, value = chance.choice(LABELS), f"{self.name} {count}".encode()
            called = time.monotonic()
            guest.remove(SYSTEM, label)
            assert guest.write(SYSTEM, label, value).status == 0
            while not (flushed := guest.confirm(SYSTEM, label)[1] == 1) and not self._over:
                await self._landing(machine, partition)
            self._noted("commit", called, {f"{partition.name}/{label.decode()}": value}, done=flushed)

    async def _landing(self, machine: Machine, partition: Partition) -> None:
        landed = trio.Event()
        machine.after_calls(partition, Log())
        drop = machine.encryptor.wait_landing(landed.set, trio.current_time() + 0.5)
        await landed.wait()
        drop()

    @property
    def _over(self) -> bool:
        return self.end is not None or self.lost

    def _take_trouble(self, error: SwpksError | None) -> None:
        self.lost = self.lost or (error is not None and error.rule is rules.NVRAM_OWNER)


def histories_of(history: list[OwnerAct]) -> list[list[OwnerAct]]:
    """Return the history of each partition."""
    return [[part for act in history if (part := _part(act, f"{name}/")) is not None] for name in PARTITIONS]


def _part(act: OwnerAct, prefix: str) -> OwnerAct | None:
    records = {name: value for name, value in act.records.items() if name.startswith(prefix)}
    return None if act.kind == "commit" and not records else act._replace(records=records)
