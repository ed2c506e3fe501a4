"""A managed system inside the process: its parts in memory, and the machine that runs on them.

The parts outlive the machine.  So a power cut, and a part that is replaced, are the machine assembled again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from swpks.testing.console_link import MachineLink
from swpks.testing.partition import EmulatedPartition
from swpks.testing.peers import MemoryNetwork
from swpks.testing.seams import simulated_seams

if TYPE_CHECKING:
    from hcall_server.data_channel.memory import MemoryTransport
    from hcall_server.machine.machine import Machine
    from hcall_server.service.settings import Settings


class EmulatedSystem:
    """A system that a console manages: `nvram`, `card` and `tpm` are its parts.

    `keys` are the access keys of its partitions, which belong to no part.  `link` is the way of the console
    to it: a test may set `link.away`, or let it lose answers.  Systems of one `network` reach each other.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        *,
        date: Callable[[], float],
        nursery: trio.Nursery,
        network: MemoryNetwork | None = None,
    ) -> None:
        from hcall_server.components.memory import MemoryCard, MemoryTpm
        from hcall_server.nvram.memory import MemoryNvram

        self.name = name
        self.settings = settings
        self.nvram, self.card, self.tpm = MemoryNvram(), MemoryCard(), MemoryTpm()
        self.keys: dict[str, bytes] = {}
        self.link = MachineLink(None)
        self.network = network or MemoryNetwork()
        self._date = date
        self._nursery = nursery
        self._transport: MemoryTransport | None = None
        self._scope = trio.CancelScope()
        self._ended = trio.Event()

    def __repr__(self) -> str:
        return f"EmulatedSystem({self.name!r}, {'running' if self.running else 'off'})"

    @property
    def running(self) -> bool:
        """Whether the system is powered on."""
        return self.link.machine is not None

    @property
    def machine(self) -> Machine:
        """The server's own object, to be looked at; RuntimeError while the system is off."""
        if self.link.machine is None:
            raise RuntimeError(f"the system {self.name} is off")
        return self.link.machine

    @property
    def state(self) -> str:
        """The state of the system, such as "Operating" (spec/control.md); RuntimeError while it is off."""
        return self.machine.system.state.value

    async def start(self) -> None:
        """Assemble the machine over the parts as they are, and power it on, with its partitions."""
        from hcall_server.data_channel.memory import MemoryTransport
        from hcall_server.service.assembly import assemble

        self._transport = MemoryTransport(self.keys)
        seams = simulated_seams(nvram=self.nvram, card=self.card, tpms=[self.tpm], transport=self._transport)
        machine = assemble(seams._replace(date=self._date), self.settings)
        machine.peers = self.network.attach(self.name, machine)
        await self._nursery.start(self._run, machine)
        machine.start()
        self.link.restart(machine)

    async def power_cut(self) -> None:
        """End the machine at once, as a power cut does; nothing if it is off."""
        if self.running:
            self.link.restart(None)
            self.network.detach(self.name)
            self._scope.cancel()
            await self._ended.wait()

    def replace_service_processor(self) -> None:
        """Put an empty NVRAM in; the system has to be off."""
        from hcall_server.nvram.memory import MemoryNvram

        self._demand_off()
        self.nvram = MemoryNvram()

    def replace_card_and_tpm(self) -> None:
        """Put in a new anchor card and a new TPM: the root key is lost; the system has to be off."""
        from hcall_server.components.memory import MemoryCard, MemoryTpm

        self._demand_off()
        self.card, self.tpm = MemoryCard(), MemoryTpm()

    async def partition(self, name: str) -> EmulatedPartition:
        """Return a partition with an open session; it is powered on before, if it is off.

        It lives until the machine ends: ask for it again after a power cut.
        """
        if self._transport is None:
            raise RuntimeError(f"the system {self.name} was never started")
        machine = self.machine
        found = EmulatedPartition(
            machine, machine.system.find(name), self._transport, self.nvram, self._nursery
        )
        await found.open()
        return found

    async def answered(self, name: str) -> None:
        """Wait until the console has agreed that a partition is served after a start, or has not (R-54)."""
        from hcall_server.platform.custody import Mode

        partition = self.machine.system.find(name)
        while partition.mode is Mode.ASKING:
            await self.machine.custodian.changed(partition.profile.uuid)

    def connect(self, name: str) -> trio.abc.Stream:
        """Return a new connection to a partition's data channel; RuntimeError while the system is off."""
        if self._transport is None or not self.running:
            raise RuntimeError(f"the system {self.name} is off")
        return self._transport.connect(name)

    def serves(self, name: str) -> bool:
        """Whether a partition runs here, on a system that is powered on."""
        partition = self.machine.system.partitions.get(name) if self.running else None
        return partition is not None and partition.running and partition.owned

    async def _run(self, machine: Machine, *, task_status: trio.TaskStatus[None]) -> None:
        self._ended = trio.Event()
        try:
            with trio.CancelScope() as self._scope:
                await machine.run(task_status=task_status)
        finally:
            self._ended.set()

    def _demand_off(self) -> None:
        if self.running:
            raise RuntimeError(f"the system {self.name} runs: cut its power first")
