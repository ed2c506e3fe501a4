"""The boot of a partition: firmware, boot loader, kernel.  Each locks its objects before the next one runs.

    async with open_channel(path) as channel:
        chain = await boot(channel)

All three run on the partition's own processors, one after the other, so they share one session.
Each makes its own password (R-03, R-04).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

from hcall_abi.mistakes import of_caller
from hcall_client.guests.boot_loader import BootLoader
from hcall_client.guests.common import Caller, check_channel
from hcall_client.guests.firmware import PartitionFirmware
from hcall_client.guests.kernel import LinuxKernel
from hcall_client.guests.linux import LINUX_7_0, Driver

__tracebackhide__ = of_caller
S = TypeVar("S")
Step = Callable[[S], Awaitable[object]]
"""The work of a stage before it locks, such as storing and reading objects."""


class BootedChain(NamedTuple):
    """A booted partition.  The kernel runs; tests can inspect the two stages before it."""

    firmware: PartitionFirmware
    boot_loader: BootLoader
    kernel: LinuxKernel


async def boot(
    channel: Caller,
    *,
    firmware: Step[PartitionFirmware] | None = None,
    boot_loader: Step[BootLoader] | None = None,
    driver: Driver = LINUX_7_0,
) -> BootedChain:
    """Boot a partition after an IPL and return its three stages.

    `firmware` and `boot_loader` are the work of those stages before they lock.  By default firmware stores
    SB_VERSION and the boot loader reads it.  Raises HcallError if a stage is refused, for instance with
    H_IN_USE if there was no IPL.  Raises LinuxError if the kernel's driver does not start.
    """
    check_channel("boot", channel)
    # The order is the protection: each stage locks before the next one runs, so no later stage can make
    # the password of an earlier one.
    first = PartitionFirmware(channel)
    await (firmware or PartitionFirmware.store_sb_version)(first)
    await first.lock()
    second = BootLoader(channel)
    await (boot_loader or BootLoader.dynamic_keys)(second)
    await second.lock()
    kernel = LinuxKernel(channel, driver)
    await kernel.init()
    return BootedChain(first, second, kernel)
