"""R-77: Debian's GRUB and kernel boot as one chain on QEMU's firmware, and obey the keys of the partition."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hcall_abi.calls import Opcode
from hcall_abi.consumers import Consumer
from hcall_abi.statuses import Status
from hcall_client.calls import Authorization, read_object, write_object
from hcall_client.errors import HcallError
from hcall_client.guests.labels import SB_VERSION
from swpks.qemu.bridge import Bridge
from swpks.qemu.elf import KernelImage, load
from swpks.qemu.run import MachineEnd
from swpks.qemu.stub import Stop
from swpks.testing import ServerProcess
from swpks.testing.grub_disk import configuration
from tests.debian.reporting import reported
from tests.qemu import initramfs
from tests.qemu.grub import (
    GrubMachine,
    certificates,
    digests,
    enrol,
    signed,
    small_kernel,
    verdicts_config,
)
from tests.qemu.guest import backports_kernel, busybox, need_qemu
from tests.qemu.test_boot import LATE
from tools.grub_disk import grub_modules

pytestmark = [pytest.mark.slow, pytest.mark.process]

INIT = """
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox echo "mode $(/bin/busybox hexdump -C /proc/device-tree/ibm,secure-boot)"
/bin/busybox poweroff -f
"""
OTHER_KEY = "failed to verify signature against a trusted key"
UNSIGNED = "missing or invalid signature magic"
REVOKED = "failed to verify the binary hash"


@pytest.fixture(scope="module")
def kernel() -> Path:
    """The kernel of bookworm-backports."""
    with reported():
        grub_modules()
        path = backports_kernel()
        need_qemu(path)
    return path


@pytest.fixture(scope="module")
def image(kernel: Path) -> KernelImage:
    return load(kernel)


@pytest.fixture
def machine(
    tmp_path: Path, swpks_server: ServerProcess, kernel: Path, image: KernelImage
) -> Iterator[GrubMachine]:
    """A machine whose disk is removed at the end, because the test's folder may be in memory."""
    made = GrubMachine(tmp_path, swpks_server, kernel, image)
    yield made
    made.disk.unlink(missing_ok=True)


def status_of(server: ServerProcess, consumer: Consumer) -> int:
    """Return the status of a write without a password."""
    with server.connect_blocking() as channel:
        try:
            channel.call(write_object(Authorization(consumer), b"label", b"data"))
        except HcallError as error:
            return error.status
    return Status.H_SUCCESS


async def test_a_signed_kernel_boots(machine: GrubMachine, kernel: Path) -> None:
    """R-77: firmware, GRUB and Linux use one keystore; GRUB verifies the kernel by db; Linux sees the mode.

    While Linux runs, consumer 1 is locked, its SB_VERSION is readable, and consumer 2 is open.
    """
    server = machine.server
    enrol(server, {"db": certificates("db")})
    server.hmc("secure-boot", "lpar1", "enforce")
    initrd = initramfs.write(machine.disk.with_name("initrd"), busybox(), INIT)
    machine.write_disk(
        configuration("console=hvc0 panic=-1"),
        {"vmlinux": signed(kernel.read_bytes(), "db"), "initrd": initrd.read_bytes()},
    )
    seen: list[int] = []

    def prepare(bridge: Bridge) -> None:
        async def late(_stop: Stop) -> None:
            seen.extend(status_of(server, consumer) for consumer in Consumer)
            with server.connect_blocking() as channel:
                assert any(channel.call(read_object(Authorization(Consumer.FIRMWARE), SB_VERSION)).data)

        bridge.hook(LATE, late)

    outcome = await machine.run(prepare)
    assert outcome.end is MachineEnd.GUEST
    assert "GRUB: keys dynamic, signatures checked: yes" in outcome.console
    assert "mode 00000000  00 00 00 02 " in outcome.console
    assert seen == [Status.H_AUTHORITY, Status.H_SUCCESS, Status.H_AUTHORITY]
    names = [Opcode(opcode).name for opcode, _ in machine.calls]
    assert names[:2] == ["GET_CONFIG", "GEN_PASSWORD"]
    assert names.count("GEN_PASSWORD") == 2
    assert names.count("READ_OBJECT") == 4


async def test_a_kernel_of_another_key_is_refused(machine: GrubMachine) -> None:
    """R-77: the reason is GRUB's own message, and the good kernel on the same disk is accepted."""
    enrol(machine.server, {"db": certificates("db")})
    machine.server.hmc("secure-boot", "lpar1", "enforce")
    good, plain = signed(small_kernel("good"), "db"), small_kernel("plain")
    wrong = signed(small_kernel("good"), "wrong")
    machine.write_disk(
        verdicts_config(["good", "wrong", "plain"]), {"good": good, "wrong": wrong, "plain": plain}
    )
    outcome = await machine.run()
    assert "good accepted" in outcome.verdict("good")
    assert OTHER_KEY in outcome.verdict("wrong")
    assert UNSIGNED in outcome.verdict("plain")
    assert outcome.end is MachineEnd.NOT_BOOTED
    assert "plain refused" in outcome.boot.tail.lines


async def test_new_keys_and_revoked_ones(machine: GrubMachine) -> None:
    """R-77: after an update of db the verdicts swap; dbx revokes a certificate, and a kernel by its hash."""
    files = {name: signed(small_kernel(name), name) for name in ("wrong", "third")}
    files["good"] = signed(small_kernel("good"), "db")
    bad = small_kernel("revoked")
    files["revoked"] = signed(bad, "wrong")
    enrol(machine.server, {"db": certificates("wrong", "third"), "dbx": certificates("third") + digests(bad)})
    machine.server.hmc("secure-boot", "lpar1", "enforce")
    machine.write_disk(verdicts_config(["wrong", "good", "third", "revoked"]), files)
    outcome = await machine.run()
    assert "wrong accepted" in outcome.verdict("wrong")
    assert OTHER_KEY in outcome.verdict("good")
    assert OTHER_KEY in outcome.verdict("third")
    assert REVOKED in outcome.verdict("revoked")
