"""What the control channel needs of the running machine, and nothing more of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from hcall_abi.consumers import SecureBoot
from hcall_server.faults.busy import BusyFault, FaultPlan
from hcall_server.faults.nvram import FaultyNvram
from hcall_server.machine.counters import Counters
from hcall_server.machine.machine import NvramFault
from hcall_server.machine.sessions import Sessions
from hcall_server.platform.system import ManagedSystem
from hcall_server.writeback.health import Health


class Writeback(Protocol):
    """The write-behind encryptor, as far as it is looked at."""

    @property
    def health(self) -> Health:
        """How it is doing now."""


class ControlledMachine(Protocol):
    """A running machine: what there is of it, and what the console may do to it.

    The functions hold the console's rules (`ConsoleRefusal`, `OperatorError`), end the sessions that
    have to end, and have what they changed written.
    """

    @property
    def system(self) -> ManagedSystem:
        """The managed system."""

    @property
    def encryptor(self) -> Writeback:
        """The write-behind encryptor."""

    @property
    def nvram(self) -> FaultyNvram | None:
        """NVRAM, as far as it can be troubled."""

    @property
    def counters(self) -> Counters:
        """What was counted."""

    @property
    def sessions(self) -> Sessions:
        """The connections there are."""

    @property
    def faults(self) -> Mapping[int, FaultPlan]:
        """The fault plans of partitions, by number."""

    async def create(self, name: str, kbytes: int = 0, *, auto_start: bool = True) -> object:
        """Make a partition, powered off."""

    async def resize(self, name: str, kbytes: int) -> object:
        """Set the size of a keystore, in KiB."""

    async def power_on(self, name: str) -> object:
        """Activate a partition."""

    async def power_off(self, name: str) -> object:
        """Stop a partition, and end its sessions."""

    async def ipl(self, name: str) -> object:
        """Restart a partition, and end its sessions."""

    async def set_secure_boot(self, name: str, mode: SecureBoot) -> object:
        """Set the mode of the next IPL."""

    async def set_attributes(self, name: str, changes: Mapping[str, int]) -> object:
        """Set console attributes by their names."""

    async def set_faults(self, name: str, faults: Iterable[BusyFault]) -> object:
        """Give a partition a fault plan in the place of the one that it has."""

    async def set_nvram_fault(self, fault: NvramFault | None) -> None:
        """Trouble NVRAM, or end what trouble was asked for."""
