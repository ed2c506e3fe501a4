"""A managed system inside the process: its parts in memory, and the machine that runs on them.

The parts stay when the machine ends.  After a power cut or the replacement of a part, a new machine is
assembled from the parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from hcall_abi.mistakes import Mistake, UnknownName, check_text, listed
from swpks.testing.at_caller import at_caller
from swpks.testing.console_link import MachineLink
from swpks.testing.partition import EmulatedPartition, Home
from swpks.testing.peers import MemoryNetwork
from swpks.testing.remedies import ConsoleGone, of_system
from swpks.testing.seams import simulated_seams

if TYPE_CHECKING:
    from hcall_server.data_channel.memory import MemoryTransport
    from hcall_server.machine.machine import Machine
    from hcall_server.service.settings import Settings


class SystemPower(Mistake, RuntimeError):
    """The call needs a running system and this one is off, or the call needs a system that is off."""


class EmulatedSystem:
    """A system that a console manages: `nvram`, `card` and `tpm` are its parts.

    `keys` are the access keys of its partitions, which are stored outside of these parts.  `link` connects
    the console with the system: a test may set `link.away`, or `link.lost_answers`.  Systems with the same
    `network` can connect to each other.
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
        self._over = False

    def __repr__(self) -> str:
        return f"EmulatedSystem({self.name!r}, {'running' if self.running else 'off'})"

    @property
    def running(self) -> bool:
        """Whether the system is powered on."""
        return self.link.machine is not None

    def end(self) -> None:
        """Note that the block of the console is over: the system can't be used any more."""
        self._over = True

    def _demand_console(self) -> None:
        if self._over:
            raise ConsoleGone

    @property
    def machine(self) -> Machine:
        """The machine of the server, which a test may read; RuntimeError while the system is off."""
        self._demand_console()
        if self.link.machine is None:
            raise self._off()
        return self.link.machine

    @property
    def state(self) -> str:
        """The state of the system, such as "Operating" (spec/control.md); RuntimeError while it is off."""
        return self.machine.system.state.value

    @property
    def wished(self) -> tuple[str, ...]:
        """The names of the partitions that the system has when it starts with empty NVRAM."""
        return tuple(each.name for each in self.settings.partition)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the partitions now; none while the system is off."""
        return tuple(self.link.machine.system.partitions) if self.link.machine else ()

    def has(self, name: str) -> bool:
        """Whether the system is on and has a partition with this name."""
        return name in self.names

    @at_caller
    def check_name(self, name: str) -> None:
        """Raise UnknownName if the system has no partition with this name; RuntimeError while it is off."""
        check_text("the name of a partition", name)
        self.demand_on()
        if not self.has(name):
            message = f"the system {self.name} has no partition {name!r}; it has {listed(self.names)}"
            raise UnknownName(f"{message}: {self._remedy_for(name)}")

    def _remedy_for(self, name: str) -> str:
        """Return the remedy for a partition that the system does not have now."""
        if name in self.wished:
            # The mark has made this partition, so another mark would not help.
            return f"it has moved to another system, or is not restored yet; the system is {self.state}"
        mark = f"@pytest.mark.pks_console(partitions={ {self.name: [*self.wished, name]} })"
        return f"name one of them, or write {mark}" if self.names else f"write {mark}"

    @at_caller
    async def start(self) -> None:
        """Assemble a machine from the present parts, and power it on; SystemPower if one runs already."""
        self._demand_console()
        if self.running:
            raise self._on("runs already")
        from hcall_server.data_channel.memory import MemoryTransport
        from hcall_server.service.assembly import assemble

        self._transport = MemoryTransport(self.keys)
        seams = simulated_seams(nvram=self.nvram, card=self.card, tpms=[self.tpm], transport=self._transport)
        machine = assemble(seams._replace(date=self._date), self.settings)
        machine.peers = self.network.attach(self.name, machine)
        await self._nursery.start(self._run, machine)
        machine.start()
        # The link comes last: the console may only reach a machine that has started.
        self.link.restart(machine)

    @at_caller
    async def power_cut(self) -> None:
        """End the machine at once, as a power cut does; do nothing if the system is off."""
        self._demand_console()
        if self.running:
            # The link comes first: the console must not get an answer from a machine that is being cancelled.
            self.link.restart(None)
            self.network.detach(self.name)
            self._scope.cancel()
            await self._ended.wait()

    @at_caller
    def replace_service_processor(self) -> None:
        """Replace NVRAM by an empty one; SystemPower unless the system is off."""
        from hcall_server.nvram.memory import MemoryNvram

        self._demand_off()
        self.nvram = MemoryNvram()

    @at_caller
    def replace_card_and_tpm(self) -> None:
        """Replace anchor card and TPM, so that the root key is lost; SystemPower unless the system is off."""
        from hcall_server.components.memory import MemoryCard, MemoryTpm

        self._demand_off()
        self.card, self.tpm = MemoryCard(), MemoryTpm()

    @at_caller
    async def partition(self, name: str) -> EmulatedPartition:
        """Return a partition with an open session; a partition that is off is powered on first.

        The session ends with the machine, so call this again after a power cut.
        """
        self.check_name(name)
        machine = self.machine
        if self._transport is None:
            raise self._off()
        found = EmulatedPartition(
            machine, machine.system.find(name), self._transport, self.nvram, self._nursery,
            Home(partial(self._demand_machine, machine, name), of_system(self.name, name)),
        )  # fmt: skip
        await found.open()
        return found

    @at_caller
    async def answered(self, name: str) -> None:
        """Wait until the console has decided whether this system may serve the partition (R-54)."""
        from hcall_server.platform.custody import Mode

        self.check_name(name)
        partition = self.machine.system.find(name)
        while partition.mode is Mode.ASKING:
            await self.machine.custodian.changed(partition.profile.uuid)

    @at_caller
    def connect(self, name: str) -> trio.abc.Stream:
        """Return a new connection to a partition's data channel; RuntimeError while the system is off."""
        self.check_name(name)
        if self._transport is None:
            raise self._off()
        return self._transport.connect(name)

    def serves(self, name: str) -> bool:
        """Whether the system is on and serves the partition."""
        partition = self.machine.system.partitions.get(name) if self.running else None
        return partition is not None and partition.running and partition.owned

    async def _run(self, machine: Machine, *, task_status: trio.TaskStatus[None]) -> None:
        self._ended = trio.Event()
        try:
            with trio.CancelScope() as self._scope:
                await machine.run(task_status=task_status)
        finally:
            self._ended.set()

    def _demand_machine(self, machine: Machine, name: str) -> None:
        self._demand_console()
        if machine is not self.link.machine:
            start = "" if self.running else f"await start_system({self.name!r}), and then "
            again = f"{start}await partition({name!r}, {self.name!r})"
            raise SystemPower(f"the system {self.name} has lost its power since: write {again}")

    def demand_on(self) -> None:
        """Raise SystemPower while the system is off."""
        self._demand_console()
        if not self.running:
            raise self._off()

    def _off(self) -> SystemPower:
        return SystemPower(
            f"the system {self.name} is off: write await start_system({self.name!r}) of the console, "
            "or await start() of the system"
        )

    def _on(self, runs: str) -> SystemPower:
        return SystemPower(
            f"the system {self.name} {runs}: write await power_cut_system({self.name!r}) of the console, "
            "or await power_cut() of the system"
        )

    def _demand_off(self) -> None:
        self._demand_console()
        if self.running:
            raise self._on("runs")


def settings_of(name: str, partitions: Sequence[str], numbers: Mapping[str, int], **options: Any) -> Settings:
    """Return the settings of a system whose partitions have these attributes."""
    from hcall_server.service.settings import PartitionSettings, Settings

    wishes = tuple(PartitionSettings(each, numbers) for each in partitions)
    return Settings(name=name, flush_delay_ms=0, confirm_wait_ms=0, partition=wishes, **options)
