"""Rules about a kernel in QEMU, broken by simulated kernels, stubs, device trees and servers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
import trio

from hcall_abi.rules.rule import Rule
from swpks.qemu.bootdisk import loader_of
from swpks.qemu.claims import Claims
from swpks.qemu.console import PatientConsole
from swpks.qemu.devicetree import tree_size
from swpks.qemu.errors import GuestStopped
from tests.control_channel.rig import make_machine, served
from tests.qemu.assemble import BLR, IDLE, NOP, Kernel, with_gates
from tests.qemu.test_bridge import GET_CONFIG, Rig, with_driver
from tests.qemu.test_chain import ChainRig
from tests.qemu.test_stub import a_machine, attached
from tests.rules.breaking import Breaks, breaks, refused, refused_late, run
from tests.rules.process import command


def _bootable(folder: Path) -> Path:
    kernel = with_gates(Kernel())
    kernel.function("plpks_one", ("plpar_hcall", True), BLR)
    kernel.function("early_setup", BLR)
    return kernel.write(folder / "vmlinux")


def _started(folder: Path, kernel: Path, *, installed: bool = True) -> Rule:
    """Break a rule: `swpks qemu` starts with a state below a file."""
    (folder / "letter").touch()
    if installed:
        (folder / "qemu-system-ppc64").touch(mode=0o700)
    with mock.patch.dict(os.environ, PATH=str(folder)):
        return command("qemu", "--partition", "a", "--kernel", kernel, "--state", folder / "letter" / "state")


async def _no_server(folder: Path) -> Rule:
    return await refused_late(PatientConsole(folder / "control.sock", "a").ipl())


async def _of_another_size(folder: Path) -> Rule:
    machine = make_machine()
    machine.system.create("a", 8)
    async with served(machine, folder / "control.sock") as path:
        return await refused_late(PatientConsole(Path(path), "a").check(64))


async def _odd_stub() -> Rule:
    machine = a_machine()
    async with attached(machine) as stub:
        machine.odd[b"m"] = b"no hexadecimal"
        return await refused_late(stub.read_memory(0, 16))


async def _idle_guest(folder: Path) -> Rule:
    with pytest.RaisesGroup(GuestStopped) as caught:
        await Rig(folder, with_driver(*GET_CONFIG, end=IDLE)).run()
    (error,) = caught.value.exceptions
    assert isinstance(error, GuestStopped)
    return error.rule


async def _booted(folder: Path, change: Callable[[ChainRig], None]) -> Rule:
    """Break a rule: after `change`, a machine boots from a disk."""
    rig = ChainRig(folder)
    change(rig)
    return await refused_late(rig.run())


def _other_kernel(rig: ChainRig) -> None:
    rig.machine.kernel = with_driver(*GET_CONFIG, end=IDLE)
    rig.machine.kernel.words[rig.machine.kernel.words.index(NOP, 22)] = BLR


def _second_machine(folder: Path) -> Rule:
    first = Claims()
    first.take(folder / "a.sock")
    try:
        return refused(Claims().take, folder / "a.sock")
    finally:
        first.release()


BREAKS: Breaks = {
    "kernel.image": lambda folder: _started(folder, folder / "missing"),
    "kernel.booted": lambda folder: run(_booted, folder, _other_kernel),
    "loader.image": lambda folder: refused(loader_of, folder / "missing"),
    "firmware.services": lambda folder: run(
        _booted, folder, lambda rig: rig.machine.without.add("interpret")
    ),
    "machine.runs": lambda folder: _started(folder, _bootable(folder), installed=False),
    "server.starts": lambda folder: _started(folder, _bootable(folder)),
    "stub.answers": lambda _: run(_odd_stub),
    "tree.sound": breaks(tree_size, bytes(40)),
    "guest.stops": lambda folder: run(_idle_guest, folder),
    "partition.served": lambda folder: run(_no_server, folder),
    "partition.size": lambda folder: trio.run(_of_another_size, folder),
    "partition.machine": _second_machine,
}
