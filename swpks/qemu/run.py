"""All of it together: a kernel in QEMU, served by a partition until the machine ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio

from hcall_client.channel import Locate, Target
from swpks.qemu.bridge import Bridge, OnCall
from swpks.qemu.console import PATIENCE, PatientConsole
from swpks.qemu.elf import KernelImage
from swpks.qemu.errors import MachineFailed, PartitionUnusable, StubError
from swpks.qemu.machine import END_SECONDS, QemuMachine, Wires, start
from swpks.qemu.partition import ServedPartition, partition_of
from swpks.qemu.qmp import Qmp
from swpks.qemu.stub import Stub

POWER_OFF_SECONDS = 10.0
"""How long the power-off at the end may take, whatever ended the machine."""

Prepare = Callable[[Bridge], None]
"""Called with the bridge before the guest runs: the place to put hooks."""


async def run_kernel(
    machine: QemuMachine,
    image: KernelImage,
    target: Target | Locate,
    console: PatientConsole,
    *,
    on_call: OnCall | None = None,
    prepare: Prepare | None = None,
    patience: float = PATIENCE,
    **streams: Any,
) -> None:
    """Run a kernel until its machine ends, and stop the partition then.

    `image` is the result of `elf.load` for the machine's kernel; `target` is the partition's data channel, or
    returns its present address; `patience` the seconds that a server may be away in between; `streams` are
    those of `machine.start`.  The console is asked for the partition before QEMU starts; a partition that was
    started is stopped also when this fails or is cancelled.  Raises MachineFailed with QEMU's exit status
    if that is not 0, and the errors of `swpks.qemu.errors` for what makes serving impossible.
    """
    await console.check()
    async with (
        partition_of(target, console, patience) as partition,
        _stopped_at_the_end(partition),
        start(machine, **streams) as wires,
    ):
        try:
            bridge = await _attach(wires, image, partition, on_call)
            if prepare:
                prepare(bridge)
            await bridge.run()
        except StubError as error:
            await _blame(wires.process, error)
        if await wires.process.wait():
            raise MachineFailed(f"QEMU ended with status {wires.process.returncode}; what it said is above")


@asynccontextmanager
async def _stopped_at_the_end(partition: ServedPartition) -> AsyncIterator[None]:
    """Stop the partition, if it was started, when the block ends; what ended the block is told first."""
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


async def _attach(
    wires: Wires, image: KernelImage, partition: ServedPartition, on_call: OnCall | None
) -> Bridge:
    stub, monitor = Stub(wires.stub), Qmp(wires.monitor)
    bridge = Bridge(stub, monitor, image, partition, on_call)
    await monitor.start()
    await stub.start()
    return bridge


async def _blame(process: trio.Process, error: StubError) -> None:
    """Raise a stub's error, unless QEMU has ended: then its exit status says more."""
    with trio.move_on_after(END_SECONDS):
        await process.wait()
    if process.returncode is None:
        raise error
