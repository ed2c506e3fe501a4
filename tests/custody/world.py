"""Two systems of simulated parts, S and T. NVRAM, card and key files stay when a machine ends.

A `Home` stores a copy of its NVRAM after each commit. `cut` makes a machine from such a copy: the result of a
power cut at that commit.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any
from uuid import UUID

import trio

from hcall_server.components.memory import MemoryCard
from hcall_server.data_channel.memory import MemoryTransport
from hcall_server.machine.custodian import CustodyFacts
from hcall_server.machine.machine import Machine
from hcall_server.nvram.memory import MemoryNvram
from hcall_server.platform.custody import Custody, Mode, Standing, Word
from hcall_server.platform.partition import Partition
from hcall_server.service.assembly import assemble
from hcall_server.service.settings import PartitionSettings, Settings
from swpks.testing.console_link import MachineLink
from swpks.testing.seams import simulated_seams
from tests.guest import Chance, Guest
from tests.writeback.workers import TaskWorker

A, E, HMC = "a", 5, bytes(range(16))
PASSWORD = b"a password of the guest"
WITH_A = Settings(partition=(PartitionSettings.of(A, 16),))
EMPTY = Settings(firmware="FW1110")


class Spy(MemoryTransport):
    """A transport that records for which partitions it listens."""

    def __init__(self, keys: dict[str, bytes]) -> None:
        super().__init__(keys)
        self.listening: set[str] = set()

    def open(self, partition: Partition) -> None:
        """Record that it listens for the partition."""
        self.listening.add(partition.name)

    def close(self, partition: Partition) -> None:
        """Record that it no longer listens for the partition."""
        self.listening.discard(partition.name)

    def address(self, name: str) -> str:
        """Return an address if it listens for the partition, else ""."""
        return f"unix:/run/{name}.sock" if name in self.listening else ""


class HeldWorker(TaskWorker):
    """A worker that runs each commit only when `gate` is set."""

    def __init__(self) -> None:
        self.gate = trio.Event()
        self.gate.set()

    async def run(self, job: Any) -> None:
        """Wait for the gate, then run the job."""
        await self.gate.wait()
        await super().run(job)


class Remembering(MemoryNvram):
    """NVRAM that stores a copy of itself after each commit."""

    def __init__(self) -> None:
        super().__init__()
        self.states: list[MemoryNvram] = []

    def commit(self, changes: Mapping[str, bytes | None]) -> None:
        """Commit the changes, and store a copy of the NVRAM."""
        super().commit(changes)
        self.states.append(self.copy())

    def copy(self) -> MemoryNvram:
        """Return NVRAM with the same records and the same mark."""
        made = MemoryNvram(self.records)
        # A machine that runs on the copy must not change the mark of the original.
        made.mark = deepcopy(self.mark)
        return made


class Home:
    """The parts of one system, and the machine that uses them."""

    def __init__(self, nursery: trio.Nursery, settings: Settings, seed: bytes) -> None:
        self.nursery, self.settings, self.seed = nursery, settings, seed
        self.nvram, self.card = Remembering(), MemoryCard()
        self.keys: dict[str, bytes] = {}
        self.boots = 0
        self._scope: trio.CancelScope | None = None
        self.machine = self.assembled()

    def assembled(self, settings: Settings | None = None) -> Machine:
        """Return a new machine with these parts; it does not run yet."""
        self.boots += 1
        self.worker, self.transport = HeldWorker(), Spy(self.keys)
        self.machine = self._made(self.nvram, self.transport, self.worker, settings or self.settings)
        self.link = MachineLink(self.machine)
        return self.machine

    def _made(
        self,
        nvram: MemoryNvram,
        transport: Spy,
        worker: Any,
        settings: Settings,
        *,
        accept_older: bool = False,
    ) -> Machine:
        # The boot number changes the random bytes of each boot. The seed makes them the same in every run.
        entropy = Chance(self.seed + bytes([self.boots]))
        parts: dict[str, Any] = {"nvram": nvram, "card": self.card, "entropy": entropy}
        seams = simulated_seams(**parts, transport=transport, worker=worker)
        return assemble(seams, settings, accept_older=accept_older)

    async def start(self, settings: Settings | None = None) -> None:
        """Cut the power, and run a new machine on the durable records."""
        self.stop()
        await self.run(self.assembled(settings))

    async def run(self, machine: Machine) -> None:
        """Run a machine, and start its partitions."""
        self._scope = trio.CancelScope()
        await self.nursery.start(self._run, machine, self._scope)
        await machine.counted_start()

    def stop(self) -> None:
        """Cut the power; the machine ends."""
        if self._scope:
            self._scope.cancel()

    async def _run(
        self,
        machine: Machine,
        scope: trio.CancelScope,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        with scope:
            await machine.run(task_status=task_status)

    def cut(
        self,
        nvram: MemoryNvram | None = None,
        settings: Settings | None = None,
        *,
        accept_older: bool = False,
    ) -> After:
        """Return the system that a power cut now would leave, or one with this NVRAM.

        The present system goes on.
        """
        self.boots += 1
        # The new machine gets copies of the keys and of NVRAM. Its changes must not reach the present system.
        transport = Spy(dict(self.keys))
        copy = self.nvram.copy() if nvram is None else deepcopy(nvram)
        wanted = settings or self.settings
        machine = self._made(copy, transport, TaskWorker(), wanted, accept_older=accept_older)
        return After(machine, transport)

    # States

    @property
    def id(self) -> bytes:
        """Return the id of the system."""
        return self.machine.system.system_id

    @property
    def a(self) -> Partition:
        """Return the partition `a` of this system."""
        return self.machine.system.find(A)

    @property
    def uuid(self) -> UUID:
        """Return the UUID of the partition `a`."""
        return self.a.profile.uuid

    def guest(self) -> Guest:
        """Return a guest of the partition `a`."""
        return Guest(self.a)

    def shown(self, uuid: UUID) -> CustodyFacts | None:
        """Return what the system reports about a partition's custody."""
        return next((each for each in self.machine.custody_facts() if each.uuid == uuid), None)

    async def take(self, uuid: UUID, on: Word, epoch: int = E, **further: Any) -> Standing | None:
        """Give a word to the custodian, and wait for its step."""
        return await self.machine.custodian.take(uuid, on, epoch, **further)


class After:
    """A system after a power cut. No partition runs before `starts`."""

    def __init__(self, machine: Machine, transport: Spy) -> None:
        self.machine, self.transport = machine, transport

    def at(self, uuid: UUID) -> tuple[Custody, Mode, int]:
        """Return the custody, the mode and the epoch of a partition."""
        return self.machine.custodian.standing(uuid)[:3]

    async def starts(self) -> list[str]:
        """Start the partitions that may start without an order; return the names of those that run."""
        await self.machine.counted_start()
        running = [each.name for each in self.machine.system.partitions.values() if each.running]
        assert set(running) == self.transport.listening
        return running
