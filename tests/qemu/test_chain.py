"""The bridge of a machine that boots from a disk, against a fake SLOF and the real engine."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from hcall_abi.calls import Opcode
from hcall_abi.consumers import Consumer, SecureBoot
from hcall_abi.frames import HReturn
from hcall_abi.statuses import Status
from hcall_client.calls import Authorization, write_object
from hcall_client.errors import HcallError
from hcall_client.guests.labels import SB_VERSION
from hcall_client.request import Request
from swpks.qemu.boot import BootStage, DiskBoot
from swpks.qemu.bridge import KERNEL_ENTRY, real
from swpks.qemu.chain import RESET_VECTOR, ChainBridge
from swpks.qemu.devicetree import string_list
from swpks.qemu.elf import load
from swpks.qemu.errors import FirmwareUnsuitable, LoaderUnsuitable, OtherKernel
from swpks.qemu.firmware import forth
from swpks.qemu.qmp import Qmp
from swpks.qemu.stub import Ended, Stub
from tests.qemu.assemble import NOP, RESET, Kernel
from tests.qemu.fake import TREE, FakeStub, monitor
from tests.qemu.fake_slof import FakeSlof, Steps, loader_image
from tests.qemu.test_bridge import BUFFER, GET_CONFIG, PLACE, Loopback, with_driver
from tests.qemu.tree import MACHINE, flatten

MODE = b"ibm,secure-boot"


def hands_over() -> Steps:
    """Play a loader that starts its kernel at once."""
    yield "quiesce", (), 0


class ChainRig:
    """A machine that boots from a disk, and a partition."""

    def __init__(
        self, folder: Path, loader: Callable[[], Steps] = hands_over, kernel: Kernel | None = None
    ) -> None:
        self.kernel = kernel or with_driver(*GET_CONFIG)
        self.image = load(self.kernel.write(folder / "vmlinux"))
        self.machine = FakeSlof(self.kernel, flatten(MACHINE), loader)
        self.partition = Loopback()
        self.notes: list[str] = []
        self.boot = DiskBoot(
            folder / "boot.img", folder / "vmlinux", loader_image(), notify=self.notes.append
        )
        self.calls: list[tuple[str, int]] = []

    @asynccontextmanager
    async def bridge(self) -> AsyncIterator[ChainBridge]:
        ours, theirs = trio.testing.memory_stream_pair()
        our_monitor, their_monitor = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(FakeStub(self.machine, theirs).serve)
            nursery.start_soon(monitor, self.machine, their_monitor)
            stub, qmp = Stub(ours), Qmp(our_monitor)
            await stub.start()
            await qmp.start()
            yield ChainBridge(stub, qmp, self.image, self.partition, self.boot, self.note)
            nursery.cancel_scope.cancel()

    def note(self, opcode: int, answer: HReturn) -> None:
        self.calls.append((Opcode(opcode).name, answer.status))

    async def run(self) -> Ended:
        """Run the machine to its end; an error of the bridge is raised as it is."""
        failures: list[Exception] = []
        with trio.fail_after(20):
            async with self.bridge() as bridge:
                try:
                    return await bridge.run()
                # The error is raised below. Inside the nursery, it would be wrapped in a group.
                except Exception as error:
                    failures.append(error)
        raise failures[0]

    def before_first_call(self, action: Callable[[], None]) -> None:
        """Have `action` run when the guest has stopped at its first h-call."""
        inner, first = self.partition.call, iter([action])

        async def call(request: Request[HReturn]) -> HReturn:
            next(first, lambda: None)()
            return await inner(request)

        self.partition.call = call  # type: ignore[method-assign]

    def writes(self, consumer: Consumer) -> int:
        """Return the status of a write without a password."""
        try:
            self.partition.engine.do(write_object(Authorization(consumer), b"label", b"data"))
        except HcallError as error:
            return error.status
        return Status.H_SUCCESS


async def test_three_consumers_in_their_order(tmp_path: Path) -> None:
    """R-77: firmware locks its objects, answers the loader, and the kernel's driver makes its own calls."""
    found: list[list[int] | None] = []

    def loader() -> Steps:
        found.append((yield "test", (b"pks-max-object-size\0",), 1))
        found.append((yield "pks-max-object-size", (), 1))
        label = SB_VERSION
        found.append((yield "pks-read-object", (1, label, len(label), BUFFER, 0xFFFF), 3))
        found.append((yield "pks-read-sbvar", (0, 1, BUFFER, 0xFFFF), 2))
        yield "quiesce", (), 0

    rig = ChainRig(tmp_path, loader)
    system = rig.partition.engine.system
    system.power_off("lpar1")
    system.set_attributes(
        "lpar1", {"keystore_signed_updates": 1, "linux_dynamic_key_secure_boot": 1}
    )  # with these attributes, firmware has SB_VERSION
    system.power_on("lpar1")
    assert await rig.run() == Ended(0)
    known, size, version, db = found
    assert known == [0]
    assert size is not None
    assert size[0] > 0
    assert version is not None
    assert (version[0], version[2]) == (1, 0)
    assert db == [0, Status.H_NOT_FOUND & 0xFFFFFFFF]
    assert rig.calls == [
        ("GET_CONFIG", 0),
        ("GEN_PASSWORD", 0),
        ("GET_CONFIG", 0),
        ("READ_OBJECT", 0),
        ("READ_OBJECT", Status.H_NOT_FOUND),
        ("GET_CONFIG", 0),
    ]
    assert rig.partition.ipls == 1
    assert rig.boot.stage is BootStage.KERNEL
    assert rig.machine.foreign == []


@pytest.mark.parametrize("place", ["the reset vector", "watched for the kernel"])
async def test_a_loader_at_an_address_of_the_bridge(tmp_path: Path, place: str) -> None:
    """R-77: a loader whose entry would replace an action of the bridge is refused."""
    rig = ChainRig(tmp_path)
    entry = RESET_VECTOR if "reset" in place else real(rig.image.find(KERNEL_ENTRY).address)
    rig.boot.loader = rig.boot.loader._replace(entry=entry)
    with pytest.RaisesGroup(LoaderUnsuitable) as caught:
        await rig.run()
    assert f"entry 0x{entry:X} is {place}" in str(caught.value.exceptions[0])


async def test_while_the_kernel_runs(tmp_path: Path) -> None:
    """R-77: consumer 1 is locked and 2 is open; /rtas has hcall-pks; no breakpoint of firmware is left."""
    rig = ChainRig(tmp_path)
    await rig.run()
    assert rig.writes(Consumer.FIRMWARE) == Status.H_AUTHORITY
    assert rig.writes(Consumer.BOOT_LOADER) == Status.H_SUCCESS
    tree = bytes(rig.machine.memory[TREE : TREE + len(rig.machine.tree)])
    assert b"hcall-pks" in string_list(tree, *PLACE)
    assert not rig.machine.breakpoints[rig.machine.call_at]
    assert not rig.machine.breakpoints[loader_image().entry]


async def test_the_boot_loader_is_locked_on_request(tmp_path: Path) -> None:
    """R-77: With --lock-boot-loader, firmware locks consumer 2 at the hand-over."""
    rig = ChainRig(tmp_path)
    rig.boot.lock_boot_loader = True
    await rig.run()
    assert rig.writes(Consumer.BOOT_LOADER) == Status.H_AUTHORITY


@pytest.mark.parametrize("mode", list(SecureBoot))
async def test_the_secure_boot_mode(tmp_path: Path, mode: SecureBoot) -> None:
    """R-77: /ibm,secure-boot is set by firmware's own setprop, also to 0: GRUB reads no key without it."""
    rig = ChainRig(tmp_path)
    rig.partition.mode = mode
    await rig.run()
    assert rig.machine.properties == {MODE: bytes([0, 0, 0, mode])}


async def test_a_partition_without_a_keystore(tmp_path: Path) -> None:
    """If the partition has no keystore, firmware has no services. The kernel still starts."""
    found: list[list[int] | None] = []

    def loader() -> Steps:
        found.append((yield "test", (b"pks-max-object-size\0",), 1))
        yield "quiesce", (), 0

    rig = ChainRig(tmp_path, loader)
    rig.partition.engine = type(rig.partition.engine)(kbytes=0)
    await rig.run()
    assert found == [[0xFFFFFFFF]]
    assert rig.calls == [("GET_CONFIG", Status.H_FUNCTION)] * 2
    assert rig.boot.stage is BootStage.KERNEL


async def test_each_reset_is_an_ipl(tmp_path: Path) -> None:
    """R-77: After a reset, the second boot locks the objects again.

    SLOF also runs over its own reset vector without a reset. That is no IPL.
    """
    rig = ChainRig(tmp_path, kernel=with_driver(*GET_CONFIG, end=RESET))
    await rig.run()
    assert rig.partition.ipls == 2
    assert [name for name, _ in rig.calls] == ["GET_CONFIG", "GEN_PASSWORD", "GET_CONFIG"] * 2


async def test_a_reset_in_a_call_from_outside(tmp_path: Path) -> None:
    """R-77: A reset ends a call that the bridge makes in firmware. The new boot installs new services."""
    rig = ChainRig(tmp_path)

    def cut() -> None:
        rig.machine.at[rig.machine.call_at + 4] = rig.machine.reset

    rig.before_first_call(cut)
    await rig.run()
    assert rig.partition.ipls == 2
    assert rig.boot.stage is BootStage.KERNEL
    assert [name for name, _ in rig.calls] == ["GET_CONFIG", "GET_CONFIG", "GEN_PASSWORD", "GET_CONFIG"]


async def test_a_reset_while_the_partition_answers(tmp_path: Path) -> None:
    """R-77: After a reset, the answer to an older call is dropped: it would go to the new boot."""
    rig = ChainRig(tmp_path)

    def reset() -> None:
        rig.machine.reset()

    rig.before_first_call(reset)
    await rig.run()
    assert rig.partition.ipls == 2
    assert rig.boot.stage is BootStage.KERNEL
    assert [name for name, _ in rig.calls] == ["GET_CONFIG", "GET_CONFIG", "GEN_PASSWORD", "GET_CONFIG"]


async def test_the_limits_stand_still_at_each_request(tmp_path: Path) -> None:
    """The boot's clock stands still at IPL, mode and h-calls."""
    rig = ChainRig(tmp_path)
    paused: list[tuple[str, bool]] = []

    def watched(name: str) -> Callable[..., Awaitable[object]]:
        inner = getattr(rig.partition, name)

        async def request(*arguments: object) -> object:
            paused.append((name, rig.boot._deadline() == math.inf))
            return await inner(*arguments)

        return request

    for name in ("ipl", "secure_boot", "call"):
        setattr(rig.partition, name, watched(name))
    await rig.run()
    assert set(paused) == {("ipl", True), ("secure_boot", True), ("call", True)}


async def test_a_lock_of_the_loader_that_fails_is_reported(tmp_path: Path) -> None:
    """R-77: If the requested lock of the boot loader fails, the user gets a message."""
    rig = ChainRig(tmp_path)
    rig.boot.lock_boot_loader = True
    inner, generated = rig.partition.call, iter([True])

    async def call(request: Request[HReturn]) -> HReturn:
        if request.opcode == Opcode.GEN_PASSWORD and not next(generated, False):
            return HReturn(0, Status.H_ABORTED, request.registers, ())
        return await inner(request)

    rig.partition.call = call  # type: ignore[method-assign]
    await rig.run()
    assert rig.notes == ["firmware has not locked the boot loader's objects: H_ABORTED"]


async def test_an_end_in_a_call_from_outside(tmp_path: Path) -> None:
    """If QEMU ends during the installation in firmware, the run ends as at any end of the machine."""
    rig = ChainRig(tmp_path)

    def cut() -> None:
        rig.machine.at[rig.machine.call_at + 4] = lambda _: False

    rig.before_first_call(cut)
    assert isinstance(await rig.run(), Ended)
    assert rig.boot.stage is BootStage.FIRMWARE


async def test_firmware_that_runs_code_at_the_loaders_address(tmp_path: Path) -> None:
    """Firmware may run other code at the loader's address.

    The bridge acts there only if the code is that of the disk.
    """
    rig = ChainRig(tmp_path)
    rig.machine.own_code = True
    await rig.run()
    assert rig.boot.stage is BootStage.KERNEL
    assert rig.calls[0] == ("GET_CONFIG", 0)


@pytest.mark.parametrize("service", ["claim", "interpret", "setprop", "finddevice"])
async def test_firmware_without_a_service(tmp_path: Path, service: str) -> None:
    """An SLOF whose client interface lacks a service is an error that names the service."""
    rig = ChainRig(tmp_path)
    rig.machine.without = {service}
    with pytest.raises(FirmwareUnsuitable, match=service):
        await rig.run()


async def test_firmware_without_memory(tmp_path: Path) -> None:
    """A `claim` that fails is an error, before anything is written to memory."""
    rig = ChainRig(tmp_path)
    rig.machine.is_full = True
    with pytest.raises(FirmwareUnsuitable, match="no 4096 bytes of memory"):
        await rig.run()


async def test_firmware_that_does_not_set_the_property(tmp_path: Path) -> None:
    """Without /ibm,secure-boot, GRUB would check no signature: a failed setprop ends the boot."""
    rig = ChainRig(tmp_path)
    rig.machine.sets = False
    with pytest.raises(FirmwareUnsuitable, match="ibm,secure-boot"):
        await rig.run()


async def test_firmware_whose_words_differ(tmp_path: Path) -> None:
    """An SLOF whose Forth refuses the text is an error with the number of its exception."""
    rig = ChainRig(tmp_path)
    rig.machine.broken = True
    with pytest.raises(FirmwareUnsuitable, match="0xFFFFFFF3"):
        await rig.run()


async def test_another_kernel_on_the_disk(tmp_path: Path) -> None:
    """A kernel that has other code at `early_setup` is not the one of --kernel."""
    other = Kernel()
    other.function("pad", NOP)
    rig = ChainRig(tmp_path, kernel=with_driver(*GET_CONFIG))
    rig.machine.kernel = with_driver(*GET_CONFIG)
    rig.machine.kernel.words[rig.machine.kernel.words.index(NOP, 22)] = 0x60000001
    with pytest.raises(OtherKernel, match="vmlinux"):
        await rig.run()


async def test_another_kernel_that_resets_the_machine(tmp_path: Path) -> None:
    """A kernel that never reaches the file's `early_setup` is noticed when it resets the machine.

    Its memory is not changed.
    """
    rig = ChainRig(tmp_path, kernel=with_driver(*GET_CONFIG))
    other = Kernel()
    other.function("padding", *[NOP] * 80)
    other.function("start", RESET)
    rig.machine.kernel = other
    with pytest.raises(OtherKernel, match="vmlinux"):
        await rig.run()
    assert [name for name, _ in rig.calls] == ["GET_CONFIG", "GEN_PASSWORD"]


async def test_a_lock_that_fails_is_reported(tmp_path: Path) -> None:
    """If firmware can't lock its objects, the user reads the status.

    The boot goes on, and firmware's objects are open.
    """
    rig = ChainRig(tmp_path)
    inner = rig.partition.call

    async def call(request: Request[HReturn]) -> HReturn:
        if request.opcode == Opcode.GEN_PASSWORD:
            return HReturn(0, Status.H_ABORTED, request.registers, ())
        return await inner(request)

    rig.partition.call = call  # type: ignore[method-assign]
    await rig.run()
    assert rig.notes == ["firmware has not locked its objects: H_ABORTED"]
    assert rig.boot.stage is BootStage.KERNEL


async def test_the_page_is_blank_when_the_kernel_starts(tmp_path: Path) -> None:
    """R-77: no byte of firmware's password is in memory that the kernel gets."""
    rig = ChainRig(tmp_path)
    generated: list[bytes] = []
    inner = rig.partition.call

    async def call(request: Request[HReturn]) -> HReturn:
        answer = await inner(request)
        if request.opcode == Opcode.GEN_PASSWORD:
            generated.append(answer.writes[0][1])
        return answer

    rig.partition.call = call  # type: ignore[method-assign]
    await rig.run()
    assert len(generated) == 1
    assert generated[0] not in rig.machine.memory
    page = rig.machine.call_at - forth.CALL_AT
    assert not any(rig.machine.memory[page : page + forth.LABELS])
