"""R-77: the rows of the boot chain that `make test` leaves out, each as a boot of the real GRUB.

Off, audit, static keys, no keystore, a locked boot loader, and an enrolment by Linux itself.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import trio

from hcall_abi.calls import Opcode
from hcall_abi.consumers import Consumer, SecureBoot
from hcall_abi.statuses import Status
from hcall_abi.variables import wide
from hcall_client.guests import authvar
from swpks.qemu.bridge import Bridge, real
from swpks.qemu.elf import load
from swpks.qemu.inferior import call_function
from swpks.qemu.run import MachineEnd, Prepare
from swpks.qemu.stub import Stop
from swpks.testing import ServerProcess
from swpks.testing.grub_disk import configuration
from tests.qemu import initramfs
from tests.qemu.grub import (
    ATTRIBUTES,
    GrubMachine,
    Outcome,
    certificates,
    enrol,
    signed,
    small_kernel,
    updates,
    verdicts_config,
)
from tests.qemu.guest import GFP_KERNEL, PAGE_MAKERS, backports_kernel, busybox
from tests.qemu.test_boot import LATE
from tests.qemu.test_grub import OTHER_KEY, UNSIGNED, status_of
from tests.secvar.keys import holder

FILES = {
    "good": signed(small_kernel("good"), "db"),
    "wrong": signed(small_kernel("wrong"), "wrong"),
    "plain": small_kernel("plain"),
}
REBOOTS = "/bin/busybox reboot -f"
VARIABLE = struct.Struct("<QQQIHHB")
"""struct plpks_var of the driver: component, name, data, policy, their lengths, the operating system."""


def verdicts(folder: Path) -> int:
    """Boot GRUB in each state of its keys; return the number of boots."""
    rows: list[Callable[[Path], None]] = [
        _enforced_by_static_keys,
        _without_keystore,
        partial(_unchecked, "off"),
        partial(_unchecked, "audit"),
    ]
    for number, row in enumerate(rows):
        row(folder / str(number))
    return len(rows)


def _enforced_by_static_keys(folder: Path) -> None:
    """Without SB_VERSION, GRUB uses the certificate that is built into it."""
    with _machine(folder) as machine:
        machine.server.hmc("secure-boot", "lpar1", "enforce")
        outcome = _tried(machine, static_keys=["db"])
        assert "GRUB: keys static, signatures checked: yes" in outcome.console
        assert "SB version read failed (-7)" in outcome.console
        _judge(outcome, good="good accepted", wrong=OTHER_KEY, plain=UNSIGNED)


def _without_keystore(folder: Path) -> None:
    """With a keystore of 0 KiB firmware has no services, and GRUB uses its static keys."""
    with _machine(folder, "lpar1:0") as machine:
        machine.server.hmc("secure-boot", "lpar1", "enforce")
        outcome = _tried(machine, static_keys=["db"])
        assert "GRUB: keys static, signatures checked: yes" in outcome.console
        _judge(outcome, good="good accepted", wrong=OTHER_KEY, plain=UNSIGNED)
        assert [opcode for opcode, _ in machine.calls] == [Opcode.GET_CONFIG]


def _unchecked(mode: str, folder: Path) -> None:
    """With secure boot off, and in audit mode, GRUB loads the keys and checks nothing."""
    with _machine(folder) as machine:
        enrol(machine.server, {"db": certificates("db")})
        machine.server.hmc("secure-boot", "lpar1", mode)
        outcome = _tried(machine)
        assert "GRUB: keys dynamic, signatures checked: no" in outcome.console
        _judge(outcome, **{name: f"{name} accepted" for name in FILES})


def _tried(machine: GrubMachine, static_keys: Sequence[str] = ()) -> Outcome:
    machine.write_disk(verdicts_config(list(FILES)), FILES, static_keys)
    return trio.run(machine.run)


def _judge(outcome: Outcome, **expected: str) -> None:
    for name, text in expected.items():
        assert text in outcome.verdict(name), outcome.verdict(name)


def enrolment(folder: Path) -> int:
    """Let Linux's driver enrol PK and db, and reboot into enforce mode. Return the number of boots.

    GRUB must obey the new keys. The driver's own function makes the h-calls, because no kernel of Debian
    has the files of secvar. Firmware also locks the boot loader at each boot. The second boot succeeds all
    the same.
    """
    boots: list[list[int]] = []
    with _machine(folder) as machine:
        server = machine.server
        server.hmc("power", "lpar1", "off")
        server.hmc("set", "lpar1", *ATTRIBUTES)
        initrd = initramfs.write(folder / "initrd", busybox(), REBOOTS)
        machine.write_disk(
            configuration("console=hvc0 panic=-1"),
            {"vmlinux": signed(machine.kernel.read_bytes(), "db"), "initrd": initrd.read_bytes()},
        )
        outcome = trio.run(partial(machine.run, _enrols(server, boots), lock_boot_loader=True))
    assert outcome.end is MachineEnd.GUEST
    checks = [line for line in outcome.console.splitlines() if "signatures checked" in line]
    assert [line.rsplit(" ", 1)[1].strip() for line in checks] == ["no", "yes"]
    assert boots == [[Status.H_AUTHORITY, Status.H_AUTHORITY]] * 2
    return len(boots)


def _enrols(server: ServerProcess, boots: list[list[int]]) -> Prepare:
    """Return the hooks: enrolment in the first boot, the end in the second one."""

    def prepare(bridge: Bridge) -> None:
        async def late(stop: Stop) -> None:
            firmware_and_loader = (Consumer.FIRMWARE, Consumer.BOOT_LOADER)
            boots.append([status_of(server, each) for each in firmware_and_loader])
            if len(boots) == 2:
                await bridge.monitor.quit()
                return
            for name, data in updates({"PK": holder("PK").lists, "db": certificates("db")}, holder("PK")):
                assert await _update(bridge, stop, name, data) == 0
            # This mode is for the next IPL. The partition runs, so its present mode does not change.
            await trio.to_thread.run_sync(server.hmc, "secure-boot", "lpar1", SecureBoot.ENFORCE.name.lower())

        bridge.hook(LATE, late)

    return prepare


async def _update(bridge: Bridge, stop: Stop, name: str, data: bytes) -> int:
    """Make a signed update by the driver's function; return its result."""
    maker = next(each for each in PAGE_MAKERS if each in bridge.image.symbols)
    page, contents = [await call_function(bridge, stop, maker, GFP_KERNEL) for _ in range(2)]
    raw = wide(name)
    head = VARIABLE.pack(*(0, page + 64, contents, authvar.variable_policy(name), len(raw), len(data), 2))
    await bridge.stub.write_memory(real(page), head.ljust(64, b"\0") + raw)
    await bridge.stub.write_memory(real(contents), data)
    return await call_function(bridge, stop, "plpks_signed_update_var", page, 0) & 0xFFFFFFFF


@contextmanager
def _machine(folder: Path, partition: str = "lpar1:64") -> Iterator[GrubMachine]:
    """Yield a machine on a server of its own."""
    folder.mkdir(parents=True)
    kernel = backports_kernel()
    server = ServerProcess(folder / "state", [partition])
    server.start()
    try:
        yield GrubMachine(folder, server, kernel, load(kernel))
    finally:
        server.stop()


PARTS: Mapping[str, Callable[[Path], int]] = {"verdict": verdicts, "enrolment": enrolment}


def boot_all(folder: Path) -> dict[str, int]:
    """Run all rows; return the number of boots by part."""
    return {f"boots: {name}": part(folder / name) for name, part in PARTS.items()}
