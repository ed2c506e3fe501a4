"""IPLs whose number is durable before they take effect (spec/control.md#power)."""

# One number, one IPL
#
# OPENED returns the IPL count, and a client may store it.  If the count has changed, its passwords are
# unset.  So one number must never name two IPLs, also if the power fails right after a console's
# verb was answered.
#
# The engine is synchronous: `Machine.ipl` counts an IPL and begins it in one step, and the new count is
# flushed later.  A power cut in between would lose the count after the answer was sent.  So this module
# counts first: the profile gets the next number, and the flush is awaited.  Then the IPL begins with the
# durable number.  The module never decrements a number.  If NVRAM refuses, the next IPL takes the number.
#
# Other requests run while the flush is awaited.  So each partition has a lock.  Without it a second IPL
# would find the number taken and count again, in memory only.  Power-off takes no lock.  So the IPL checks
# the power table twice: before the wait, to refuse at once, and in the step that begins it.

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import trio

from hcall_abi.errors import StorageError
from hcall_abi.rules import console as rules
from hcall_server.machine.patience import PATIENCE
from hcall_server.platform.partition import Partition
from hcall_server.platform.power import PowerEvent

if TYPE_CHECKING:
    from hcall_server.writeback.encryptor import Encryptor


class CountedIpls:
    """Begins IPLs once their numbers are durable.

    A server counts the first IPL of each partition, and begins it later.  `waiting` has these partitions,
    by number, until their counts are durable.
    """

    def __init__(self, encryptor: Encryptor) -> None:
        self._encryptor = encryptor
        self._turns: defaultdict[int, trio.Lock] = defaultdict(trio.Lock)
        self.waiting: dict[int, Partition] = {}

    async def begin(self, partition: Partition, event: PowerEvent, ipl: Callable[[str], object]) -> None:
        """Count the partition's next IPL durably, then call `ipl` with the partition's name.

        OperatorError if the power table refuses the event.  StorageError if NVRAM does not store the count
        in time, or refuses it.  An error leaves the partition unchanged: no IPL has begun.
        """
        partition.next_power(event)
        with trio.move_on_after(PATIENCE):
            async with self._turns[partition.number]:
                partition.next_power(event)
                _demand_present(partition)
                self._count([partition])
                if not await self._encryptor.flush():
                    raise _uncounted(partition, str(self._encryptor.health.last_error))
                _demand_present(partition)
                ipl(partition.name)
                return
        raise _uncounted(partition, f"NVRAM did not answer within {PATIENCE:g} seconds")

    async def begin_all(self, partitions: Iterable[Partition], ipl: Callable[[str], object]) -> None:
        """Begin the first IPLs of a server, counted by one flush.

        Waits while NVRAM refuses.  If the caller cancels this call, `begin_waiting` begins the rest.
        """
        self.waiting = {each.number: each for each in partitions}
        self._count(self.waiting.values())
        await self._encryptor.flush()
        await self.begin_waiting(ipl)

    async def begin_waiting(self, ipl: Callable[[str], object]) -> None:
        """Call `ipl` for each partition that waits, as soon as its count is durable."""
        while self.waiting:
            partition = next(iter(self.waiting.values()))
            async with self._turns[partition.number]:
                await self._encryptor.durable(partition)
                # An operator may have powered off, deleted or activated the partition during the wait.  So
                # check again.
                if self.waiting.pop(partition.number, None) and not partition.gone:
                    ipl(partition.name)

    def count(self, partition: Partition) -> None:
        """Count the next IPL of a partition; the caller then runs `begin_waiting`, which begins it."""
        self.waiting[partition.number] = partition
        self._count([partition])

    def waits(self, partition: Partition) -> bool:
        """Return whether the first IPL of a partition waits for its count."""
        return self.waiting.get(partition.number) is partition

    def forget(self, partition: Partition) -> bool:
        """Cancel the waiting IPL of a partition; return whether there was one."""
        waits = self.waits(partition)
        if waits:
            del self.waiting[partition.number]
        return waits

    def _count(self, partitions: Iterable[Partition]) -> None:
        for partition in partitions:
            partition.count_ipl()
            self._encryptor.changed(partition)


def _demand_present(partition: Partition) -> None:
    if partition.gone:
        raise _uncounted(partition, "it was deleted or its store was restored meanwhile; repeat the request")


def _uncounted(partition: Partition, reason: str) -> StorageError:
    return StorageError(rules.POWER_COUNTED, f"the IPL of {partition.name} has not begun: {reason}")
