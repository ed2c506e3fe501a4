"""Runs a kernel in QEMU, served by a partition, until the machine ends."""

# Three tasks, of which the first to end decides
#
# A machine ends for several reasons, and each is noticed at another place:
#
#   - `serve`: the guest powers itself off or panics; the stub's stream ends, or the guest stops for good.
#   - `power`: the console powers the partition off; the session ends.
#   - `process`: QEMU ends while the bridge waits for a server.  The bridge reads nothing from the stub
#     then, so it would notice only after its patience.
#
# The reason decides the exit status.  QEMU reports a panic as an event of its monitor, and may close the stub
# before that event is read.  So the monitor is drained before the reason is determined (`_reason`, `_guest`).
#
# In the end the partition is powered off, as a partition without a machine is.  A cancellation does not stop
# the power-off.  But the power-off has a time limit: a server that does not answer must not hold up the
# command.  If this command made no IPL of the partition, the partition stays as it was.

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from enum import Enum
from typing import Any

import trio

from hcall_client.channel import Locate, Target
from swpks.qemu.boot import BootStage, DiskBoot
from swpks.qemu.bridge import Bridge, OnCall
from swpks.qemu.chain import ChainBridge
from swpks.qemu.cleanup import Cleanup
from swpks.qemu.console import PATIENCE, PatientConsole
from swpks.qemu.elf import KernelImage
from swpks.qemu.errors import GuestStopped, MachineFailed, OtherKernel, PartitionUnusable, StubError
from swpks.qemu.machine import END_SECONDS, QemuMachine, Wires, start
from swpks.qemu.partition import ServedPartition, partition_of
from swpks.qemu.qmp import Qmp
from swpks.qemu.race import first_of
from swpks.qemu.stub import Stub

POWER_OFF_SECONDS = 10.0
"""Seconds that the power-off at the end may take; a cancellation does not stop it in this time."""
NOTICE_SECONDS = 1.0
"""Seconds for the bridge to notice the end of QEMU.  If it waits for a server, it does not notice."""

Prepare = Callable[[Bridge], None]
"""Called with the bridge before the guest runs: the place to put hooks."""


class MachineEnd(Enum):
    """The reason why a machine has ended without an error."""

    GUEST = "the guest or the user has ended the machine"
    PANIC = "the guest has panicked"
    POWER_OFF = "the console has powered the partition off"
    NOT_BOOTED = "the boot loader has not started the kernel"


async def run_kernel(
    machine: QemuMachine,
    image: KernelImage,
    target: Target | Locate,
    console: PatientConsole,
    *,
    on_call: OnCall | None = None,
    prepare: Prepare | None = None,
    patience: float = PATIENCE,
    cleanup: Cleanup | None = None,
    boot: DiskBoot | None = None,
    **streams: Any,
) -> MachineEnd:
    """Run a kernel until its machine ends, then stop the partition; return the reason of the end.

    `image` is the result of `elf.load` for the machine's kernel.  `target` is the address of the
    partition's data channel, or a function that returns the present one.  `patience` is the time in seconds
    that a server may be away.  `cleanup` and `streams` are those of `machine.start`.  A machine with a disk
    needs `boot`.  If the machine fails to boot, `boot` has the reason and the last lines of the guest.

    If this function has started the partition, it stops the partition, also after an error or a cancellation.
    If the management console powers the partition off, the machine ends.

    Raises MachineFailed if QEMU ends with another exit status than 0.  If the guest can't be served, raises
    an error of `swpks.qemu.errors`.
    """
    # The management console is asked before QEMU starts: an unknown partition is an error of the command
    # line, not of the guest.
    await console.check()
    # The blocks end in reverse order: QEMU ends first, then the partition is stopped, then session and claim
    # end.
    async with (
        partition_of(target, console, patience) as partition,
        _stopped_at_the_end(partition),
        start(machine, cleanup=cleanup, **streams) as wires,
    ):
        parts = Stub(wires.stub), Qmp(wires.monitor), image, partition
        bridge = ChainBridge(*parts, boot, on_call) if boot else Bridge(*parts, on_call)
        end = await _served(wires, bridge, partition, prepare, boot)
        if end is MachineEnd.GUEST and await wires.process.wait():
            raise MachineFailed(f"QEMU ended with status {wires.process.returncode}; its output is above")
        return end


async def _served(
    wires: Wires,
    bridge: Bridge,
    partition: ServedPartition,
    prepare: Prepare | None,
    boot: DiskBoot | None,
) -> MachineEnd:
    """Serve the guest until the machine ends, or the management console powers the partition off."""

    async def serve() -> MachineEnd:
        return await of_boot(await _guest(wires, bridge, prepare))

    async def power() -> MachineEnd:
        await partition.wait_powered_off()
        return MachineEnd.POWER_OFF

    async def process() -> MachineEnd:
        """Return the reason if QEMU ends while the bridge waits for a server."""
        await wires.process.wait()
        # The bridge gets some time to end by itself: its error may say more than the end of QEMU.
        await trio.sleep(NOTICE_SECONDS)
        return await of_boot(await _reason(bridge))

    async def of_boot(end: MachineEnd) -> MachineEnd:
        return await _end_of_boot(end, bridge, boot) if boot else end

    tasks = [serve, power, process, *(_boot_tasks(boot, wires.console) if boot and wires.console else ())]
    return await first_of(*tasks)


def _boot_tasks(
    boot: DiskBoot, console: trio.abc.ReceiveStream
) -> tuple[Callable[[], Awaitable[MachineEnd]], ...]:
    """Return the two tasks of a boot from a disk: one waits for a failure, one reads the serial output."""

    async def failed() -> MachineEnd:
        await boot.wait_failed()
        return MachineEnd.NOT_BOOTED

    async def read() -> MachineEnd:
        await boot.read(console)
        return await trio.sleep_forever()

    return failed, read


async def _end_of_boot(end: MachineEnd, bridge: Bridge, boot: DiskBoot) -> MachineEnd:
    """Return how a machine with a disk has ended; NOT_BOOTED if the boot loader has not started a kernel.

    A loader that refuses a kernel may power the machine off.  A user may end QEMU at any time: that is no
    failed boot.  OtherKernel if the loader has started another kernel than that of the command line.
    """
    if boot.stage is BootStage.KERNEL or (end is MachineEnd.GUEST and not bridge.monitor.powered_off):
        return end
    if boot.stage is BootStage.HANDED_OVER:
        raise OtherKernel(boot.kernel)
    with trio.move_on_after(END_SECONDS):
        await boot.console_ended.wait()
    boot.fail("it has powered the machine off")
    return MachineEnd.NOT_BOOTED


async def _guest(wires: Wires, bridge: Bridge, prepare: Prepare | None) -> MachineEnd:
    """Serve the guest until its machine ends without an order from outside."""
    try:
        await bridge.monitor.start()
        await bridge.stub.start()
        if prepare:
            prepare(bridge)
        await bridge.run()
    except StubError as error:
        await _blame(wires.process, error)
    except GuestStopped:
        await bridge.monitor.resets()  # its answer comes after the event of a panic
        if not bridge.monitor.panicked:
            raise
        return MachineEnd.PANIC
    return await _reason(bridge)


async def _reason(bridge: Bridge) -> MachineEnd:
    """Return why a machine has ended, according to QEMU's last events."""
    with trio.move_on_after(END_SECONDS):
        await bridge.monitor.drain()
    return MachineEnd.PANIC if bridge.monitor.panicked else MachineEnd.GUEST


@asynccontextmanager
async def _stopped_at_the_end(partition: ServedPartition) -> AsyncIterator[None]:
    """Stop the partition at the end of the block if it was started.

    An error of the block has priority over an error of the stop.
    """
    try:
        yield
    except BaseException:
        with suppress(PartitionUnusable):
            await _stop(partition)
        raise
    await _stop(partition)


async def _stop(partition: ServedPartition) -> None:
    if partition.started:
        with trio.move_on_after(POWER_OFF_SECONDS, shield=True) as limit:
            await partition.power_off()
        if limit.cancelled_caught:
            raise PartitionUnusable(f"the power-off was not answered within {POWER_OFF_SECONDS:g} s")


async def _blame(process: trio.Process, error: StubError) -> None:
    """Raise an error of the stub if QEMU still runs.

    If QEMU has ended, its exit status is reported instead of the error.
    """
    with trio.move_on_after(END_SECONDS):
        await process.wait()
    if process.returncode is None:
        raise error
