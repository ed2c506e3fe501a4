"""The running whole of a process: the managed system with its sessions, sockets and encryptor.

The rules are those of `hcall_server.platform.system`; a refused request raises its error and
changes nothing.  What is added here is what the outside sees of it: the partition's socket opens
and closes, its sessions end with GOODBYE 2, and what has to outlive the process is handed to the
encryptor.  Between a rule and the end of the sessions nothing waits, so no call of an old IPL can
run in the new one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple, Protocol

import trio

from hcall_abi.consumers import SecureBoot
from hcall_abi.errors import SwpksError
from hcall_abi.frames import GoodbyeReason
from hcall_server.faults.busy import BusyFault, FaultPlan
from hcall_server.faults.nvram import Fail, FaultyNvram, Stall
from hcall_server.machine import logs
from hcall_server.machine.counters import Counters
from hcall_server.machine.limits import Limits
from hcall_server.machine.sessions import Sessions
from hcall_server.platform.partition import Partition
from hcall_server.platform.refusal import ConsoleRefusal
from hcall_server.platform.system import ManagedSystem
from hcall_server.writeback.health import Health


class Doors(Protocol):
    """The sockets by which partitions are reached."""

    def open(self, partition: Partition) -> None:
        """Listen for a partition; OperatorError when its socket can't be made."""

    def close(self, partition: Partition) -> None:
        """Stop listening for a partition."""


class NoDoors:
    """For a machine that is reached over memory streams only."""

    def open(self, partition: Partition) -> None:
        """Do nothing."""

    def close(self, partition: Partition) -> None:
        """Do nothing."""


class ChangeTaker(Protocol):
    """The encryptor, as far as the data channel and the console's requests need it."""

    def changed(self, partition: Partition) -> None:
        """Take note that a partition has something to make durable; cheap."""

    @property
    def health(self) -> Health:
        """How write-behind is doing."""


class NvramFault(NamedTuple):
    """A trouble of NVRAM: the next `commits` are refused, or the next one hangs until it is ended."""

    trouble: Literal["full", "io", "stall"]
    commits: int = 1


class Machine:
    """A managed system that runs.  One task at a time calls its functions, those of the event loop.

    `access_key` returns the key that a partition's clients prove themselves with; `entropy` makes
    nonces; `nvram` is what `set_nvram_fault` troubles.
    """

    def __init__(
        self,
        system: ManagedSystem,
        encryptor: ChangeTaker,
        *,
        limits: Limits | None = None,
        doors: Doors | None = None,
        access_key: Callable[[Partition], bytes] | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
        nvram: FaultyNvram | None = None,
    ) -> None:
        self.system = system
        self.encryptor = encryptor
        self.limits = limits or Limits()
        self.doors: Doors = doors or NoDoors()
        self.access_key = access_key or _no_key
        self.entropy = entropy
        self.nvram = nvram
        self.counters = Counters()
        self.sessions = Sessions(self.limits)
        self.faults: dict[int, FaultPlan] = {}
        """The fault plans of partitions that have one, by number."""
        self._log = logs.Log()

    def __repr__(self) -> str:
        return f"Machine({self.system!r}, {len(self.sessions)} connections)"

    async def create(self, name: str, kbytes: int = 0, *, auto_start: bool = True) -> Partition:
        """Make a partition, powered off."""
        partition = self.system.create(name, kbytes, auto_start=auto_start)
        try:
            self.access_key(partition)
        except SwpksError:
            del self.system.partitions[name]  # a refused request changes nothing
            raise
        self._tell("partition.created", partition, kbytes=kbytes)
        return partition

    async def resize(self, name: str, kbytes: int) -> Partition:
        """Set the size of a keystore in KiB; 0 switches it off."""
        partition = self.system.resize(name, kbytes)
        self._tell("partition.resized", partition, kbytes=kbytes)
        return partition

    async def power_on(self, name: str) -> Partition:
        """Activate a partition and listen for it."""
        before = self.system.find(name).ipl_count
        partition = self.system.power_on(name)
        try:
            self.doors.open(partition)
        except SwpksError:
            self.system.power_off(name)
            partition.ipl_count = before  # no session was opened in it: what is refused changes nothing
            raise
        self._tell("partition.activated", partition, ipl_count=partition.ipl_count)
        return partition

    async def power_off(self, name: str) -> Partition:
        """Stop a partition, its sessions and its socket."""
        partition = self.system.power_off(name)
        self._end_sessions(partition, "the partition was powered off")
        self.doors.close(partition)
        self._tell("partition.stopped", partition)
        return partition

    async def ipl(self, name: str) -> Partition:
        """Restart a partition, which ends its sessions: passwords never outlive an IPL (R-04)."""
        partition = self.system.ipl(name)
        self._end_sessions(partition, "the partition was restarted")
        self._tell("partition.restarted", partition, ipl_count=partition.ipl_count)
        return partition

    async def set_secure_boot(self, name: str, mode: SecureBoot) -> Partition:
        """Set the secure-boot mode that the next IPL takes."""
        partition = self.system.set_secure_boot(name, mode)
        self._tell("partition.secure_boot", partition, mode=mode.name.lower())
        return partition

    async def set_attributes(self, name: str, changes: Mapping[str, int]) -> Partition:
        """Set console attributes by their names, all of them or none (spec/control.md#attributes)."""
        partition = self.system.set_attributes(name, changes)
        self._tell("partition.attributes", partition, **changes)
        return partition

    async def set_faults(self, name: str, faults: Iterable[BusyFault]) -> Partition:
        """Give a partition a new fault plan, from its next call on; no faults take the plan away (R-75).

        A plan is never remembered: it ends with the server.  Times are those of the trio clock.
        """
        partition = self.system.find(name)
        plan = FaultPlan(faults, trio.current_time)
        self.faults.pop(partition.number, None)
        if plan.planned:
            self.faults[partition.number] = plan
        self.sessions.refit(partition.number)
        self._log.info("partition.faults", partition=name, faults=[str(each.fault) for each in plan.planned])
        return partition

    async def set_nvram_fault(self, fault: NvramFault | None) -> None:
        """Trouble NVRAM, or (None) end the trouble; ConsoleRefusal where there is no NVRAM for it (R-75)."""
        if self.nvram is None:
            rule = "the machine has an NVRAM that can be troubled"
            raise ConsoleRefusal("there is no such NVRAM", rule=rule, section="spec/faults.md#nvram")
        self.nvram.heal()
        if fault is not None:
            trouble = Stall() if fault.trouble == "stall" else Fail(fault.trouble)
            self.nvram.trouble(trouble, times=None if fault.trouble == "stall" else fault.commits)
        self._log.info("nvram.fault", trouble=fault.trouble if fault else "none")

    def _end_sessions(self, partition: Partition, text: str) -> None:
        self.sessions.end_partition(partition.number, GoodbyeReason.IPL_OR_POWER_OFF, text)

    def _tell(self, event: str, partition: Partition, **fields: Any) -> None:
        """Hand what has changed to the encryptor and to the log."""
        self.encryptor.changed(partition)
        self._log.info(event, partition=partition.name, **fields)


def _no_key(_partition: Partition) -> bytes:
    """For a machine without access keys: no proof is ever right."""
    return b""
