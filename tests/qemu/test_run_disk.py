"""A run from a disk with a fake machine and a real server: the ends of boots that do not reach the kernel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from swpks.qemu import run
from swpks.qemu.boot import BootStage, DiskBoot
from swpks.qemu.console import PatientConsole
from swpks.qemu.elf import load
from swpks.qemu.errors import FirmwareUnsuitable, OtherKernel
from swpks.qemu.machine import QemuMachine, Wires
from swpks.qemu.run import MachineEnd
from swpks.testing import ServerProcess
from tests.qemu.assemble import NOP, PANIC, POWER_OFF, Kernel
from tests.qemu.fake import FakeStub, monitor
from tests.qemu.fake_slof import FakeSlof, Steps, loader_image
from tests.qemu.test_bridge import GET_CONFIG, with_driver
from tests.qemu.test_chain import hands_over
from tests.qemu.test_run import PlayedProcess, shown
from tests.qemu.tree import MACHINE, flatten

pytestmark = pytest.mark.process

REFUSAL = b"GRUB\r\nerror: failed to verify signature against a trusted key.\r\n"


def starts_nothing() -> Steps:
    """Play a loader that asks firmware for nothing."""
    yield from ()


class PlayedDisk:
    """A fake machine with a disk, whose console has printed `printed`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, printed: bytes = REFUSAL) -> None:
        self.kernel = with_driver(*GET_CONFIG)
        self.path = self.kernel.write(folder / "vmlinux")
        self.machine = FakeSlof(self.kernel, flatten(MACHINE), hands_over)
        self.boot = DiskBoot(folder / "boot.img", self.path, loader_image())
        self.printed = printed
        monkeypatch.setattr(run, "start", self.start)
        monkeypatch.setattr(run, "END_SECONDS", 0.2)

    @asynccontextmanager
    async def start(self, _machine: QemuMachine, **_streams: Any) -> AsyncIterator[Wires]:
        ours, theirs = trio.testing.memory_stream_pair()
        our_monitor, their_monitor = trio.testing.memory_stream_pair()
        printer, console = trio.testing.memory_stream_one_way_pair()
        failures: list[BaseException] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(FakeStub(self.machine, theirs).serve)
            nursery.start_soon(monitor, self.machine, their_monitor)
            nursery.start_soon(self.prints, printer)
            process = PlayedProcess(self.machine, 0)
            try:
                yield Wires(ours, our_monitor, process, console)  # type: ignore[arg-type]
            except BaseException as error:
                # The error is raised below. Inside the nursery, it would be wrapped in a group.
                failures.append(error)
            nursery.cancel_scope.cancel()
        if failures:
            raise failures[0]

    async def prints(self, printer: trio.abc.SendStream) -> None:
        """Print when the loader runs; the console ends with the machine."""
        while self.boot.stage < BootStage.LOADER and not self.machine.ended.is_set():
            await trio.lowlevel.checkpoint()
        await printer.send_all(self.printed)
        await self.machine.ended.wait()
        await printer.aclose()

    async def run(self, server: ServerProcess) -> MachineEnd:
        console = PatientConsole(server.control_socket, "lpar1")
        machine = QemuMachine(self.path, disk=self.boot.disk)
        with trio.fail_after(60):
            return await run.run_kernel(
                machine, load(self.path), server.socket(), console, patience=20, boot=self.boot
            )


async def test_a_good_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swpks_server: ServerProcess
) -> None:
    """R-77: the machine ends by its guest, and the partition is powered off."""
    played = PlayedDisk(tmp_path, monkeypatch)
    assert await played.run(swpks_server) is MachineEnd.GUEST
    assert await shown(swpks_server) == ("off", 2)
    assert played.boot.failure == ""


async def test_a_loader_that_powers_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swpks_server: ServerProcess
) -> None:
    """R-77: an end of the machine before the kernel's start is a failed boot; its last lines are reported."""
    played = PlayedDisk(tmp_path, monkeypatch)
    played.machine.refused = True
    played.machine.loader = starts_nothing
    assert await played.run(swpks_server) is MachineEnd.NOT_BOOTED
    assert await shown(swpks_server) == ("off", 2)
    assert played.boot.failure == "it has powered the machine off"
    assert played.boot.tail.lines[-1] == "error: failed to verify signature against a trusted key."


async def test_a_user_who_ends_the_machine_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swpks_server: ServerProcess
) -> None:
    """Ctrl-A x in the loader's menu is no failed boot: QEMU reports no shutdown by the guest."""
    played = PlayedDisk(tmp_path, monkeypatch)
    played.machine.at[0x20100] = lambda _: False
    played.machine.ends_by_guest = False
    assert await played.run(swpks_server) is MachineEnd.GUEST
    assert played.boot.failure == ""


async def test_a_loader_at_a_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swpks_server: ServerProcess
) -> None:
    """R-77: a prompt ends the command, although the machine goes on."""
    played = PlayedDisk(tmp_path, monkeypatch, REFUSAL + b"grub> ")
    played.machine.waits = True
    played.machine.loader = starts_nothing
    assert await played.run(swpks_server) is MachineEnd.NOT_BOOTED
    assert played.boot.failure == "it waits at a prompt"
    assert await shown(swpks_server) == ("off", 2)


@pytest.mark.parametrize("end", [POWER_OFF, PANIC])
async def test_another_kernel_that_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swpks_server: ServerProcess, end: int
) -> None:
    """R-77: A kernel that ends before the `early_setup` of the file is another kernel, even if it panics."""
    played = PlayedDisk(tmp_path, monkeypatch)
    other = Kernel()
    other.function("padding", *[NOP] * 80)
    other.function("start", end)
    played.machine.kernel = other
    with pytest.raises(OtherKernel):
        await played.run(swpks_server)
    assert await shown(swpks_server) == ("off", 2)


async def test_firmware_that_is_not_suitable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swpks_server: ServerProcess
) -> None:
    """The partition is powered off also if the installation in firmware fails."""
    played = PlayedDisk(tmp_path, monkeypatch)
    played.machine.broken = True
    with pytest.raises(FirmwareUnsuitable):
        await played.run(swpks_server)
    assert await shown(swpks_server) == ("off", 2)
