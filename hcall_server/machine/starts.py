"""The partitions that start by themselves: at a start, after a recovery, or once this system may serve them.

A start leaves out a partition that waits for its console (R-54), or that this system does not own.
`Starts.served` starts it later.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio

from hcall_abi.errors import SwpksError
from hcall_server.machine import logs
from hcall_server.machine.ipls import CountedIpls
from hcall_server.machine.patience import PATIENCE

if TYPE_CHECKING:
    from hcall_server.platform.partition import Partition
    from hcall_server.platform.system import ManagedSystem
    from hcall_server.writeback.encryptor import Encryptor


class Starts:
    """Activates partitions with `power_on`; `run_beside` runs a task beside the connections."""

    def __init__(
        self,
        system: ManagedSystem,
        encryptor: Encryptor,
        power_on: Callable[[str], object],
        run_beside: Callable[[Callable[[], Awaitable[object]]], None],
    ) -> None:
        self.ipls = CountedIpls(encryptor)
        self._system = system
        self._power_on = power_on
        self._run_beside = run_beside
        self._log = logs.Log()

    def __repr__(self) -> str:
        return f"Starts({len(self.ipls.waiting)} partitions wait)"

    @property
    def waiting(self) -> list[Partition]:
        """The partitions that start by themselves and are still off, because their IPL is not counted yet."""
        return list(self.ipls.waiting.values())

    def now(self) -> None:
        """Activate each partition that starts by itself; log refused partitions, which stay off."""
        for partition in self._starting():
            self._power_on(partition.name)

    async def counted(self) -> None:
        """Do the same as `now` once the IPL counts are durable; wait while NVRAM refuses them.

        If the caller cancels it, `wait` activates the rest.
        """
        await self.ipls.begin_all(self._starting(), self._power_on)

    async def wait(self) -> None:
        """Activate each waiting partition once its count is durable; log a failed activation."""
        await self.ipls.begin_waiting(self.late)

    async def after_recovery(self) -> None:
        """Activate the partitions that start by themselves; if NVRAM is late, a task does the rest."""
        with trio.move_on_after(PATIENCE):
            await self.ipls.begin_all(self._starting(), self.late)
        if self.waiting:
            self._run_beside(self.wait)

    def later(self) -> None:
        """Do the same as `after_recovery`, in a new task."""
        self._run_beside(self.after_recovery)

    def served(self, partition: Partition) -> None:
        """Count the IPL of a partition that starts by itself, and activate it later, in a task.

        Called for a partition that this system may serve from now on.
        """
        # The IPL is counted now, and a task begins it.  The caller is a step of custody: it must not wait
        # for NVRAM a second time.
        if partition.auto_start:
            self.ipls.count(partition)
            self._run_beside(self.wait)

    def late(self, name: str) -> None:
        """Activate a partition; log a failure, and do not raise it: the server serves other partitions."""
        try:
            self._power_on(name)
        except SwpksError as error:
            self._log.error("partition.not_activated", partition=name, **logs.explained(error))

    def _starting(self) -> list[Partition]:
        partitions = list(self._system.partitions.values())
        for partition in partitions:
            if partition.refused:
                explained = logs.explained(partition.refused)
                self._log.error("partition.refused", partition=partition.name, **explained)
        return [each for each in partitions if each.auto_start and not each.refused and each.may_serve]
