"""The bridge between a fake machine and the real engine: what it does at each stop of the machine."""

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from hcall_abi.calls import Opcode
from hcall_abi.consumers import SecureBoot
from hcall_abi.frames import HReturn
from hcall_abi.statuses import Status
from hcall_abi.structures import build_auth
from hcall_client.request import Request
from swpks.qemu.bridge import Bridge
from swpks.qemu.devicetree import property_of, string_list
from swpks.qemu.elf import load
from swpks.qemu.errors import GuestStopped, TreeUnsuitable
from swpks.qemu.inferior import call_function
from swpks.qemu.partition import ServedPartition
from swpks.qemu.qmp import Qmp
from swpks.qemu.stub import Ended, Stop, Stub
from tests.client.engine import Engine
from tests.qemu.assemble import (
    BASE,
    BLR,
    IDLE,
    NOP,
    POWER_OFF,
    RESET,
    SC1,
    TO_VIRTUAL,
    Kernel,
    li,
    with_gates,
)
from tests.qemu.fake import SIZE, TREE, FakeMachine, FakeStub, monitor
from tests.qemu.tree import MACHINE, flatten

BUFFER, AUTH = 0x5000, 0x6000
GET_CONFIG = (li(3, Opcode.GET_CONFIG), li(4, BUFFER), li(5, 512))
PLACE = ("/rtas", "ibm,hypertas-functions")


class Loopback(ServedPartition):
    """A partition without a server: it calls the engine directly, and counts its IPLs."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.ipls = 0
        self.mode = SecureBoot.OFF

    async def call(self, request: Request[HReturn]) -> HReturn:
        return self.engine.do(request)

    async def ipl(self) -> None:
        self.ipls += 1
        self.engine.ipl()

    async def secure_boot(self) -> SecureBoot:
        return self.mode


class Rig:
    """A kernel, a fake machine that runs it, and a partition."""

    def __init__(
        self, folder: Path, kernel: Kernel, main: str = "start", others: tuple[int, ...] = ()
    ) -> None:
        self.kernel = kernel
        self.image = load(kernel.write(folder / "vmlinux"))
        self.machine = FakeMachine(kernel, flatten(MACHINE), kernel.symbols[main][0], others)
        self.partition = Loopback()
        self.calls: list[tuple[str, int]] = []

    @asynccontextmanager
    async def bridge(self) -> AsyncIterator[Bridge]:
        ours, theirs = trio.testing.memory_stream_pair()
        our_monitor, their_monitor = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(FakeStub(self.machine, theirs).serve)
            nursery.start_soon(monitor, self.machine, their_monitor)
            stub, qmp = Stub(ours), Qmp(our_monitor)
            await stub.start()
            await qmp.start()
            yield Bridge(stub, qmp, self.image, self.partition, self.note)
            nursery.cancel_scope.cancel()

    def note(self, opcode: int, answer: HReturn) -> None:
        self.calls.append((Opcode(opcode).name, answer.status))

    async def run(self) -> Ended:
        with trio.fail_after(20):
            async with self.bridge() as bridge:
                return await bridge.run()

    def registers(self, number: int = 1) -> dict[str, int]:
        return self.machine.processors[number - 1].values


def with_driver(*body: int | tuple[str, bool], end: int = POWER_OFF, gate: str = "plpar_hcall") -> Kernel:
    """Return a kernel whose driver makes one call, after early_setup in real mode."""
    kernel = with_gates(Kernel())
    kernel.function("early_setup", NOP, BLR)
    kernel.function("start", ("early_setup", True), TO_VIRTUAL, ("plpks_driver", False))
    kernel.function("plpks_driver", *body, (gate, True), NOP, end)
    return kernel


@pytest.mark.parametrize("gate", ["plpar_hcall", "plpar_hcall9"])
async def test_a_call_of_the_driver(tmp_path: Path, gate: str) -> None:
    """R-73: the engine gets registers and memory of an h-call.

    The guest gets the results as from a hypervisor.
    """
    rig = Rig(tmp_path, with_driver(*GET_CONFIG, gate=gate))
    assert await rig.run() == Ended(0)
    assert rig.calls == [("GET_CONFIG", Status.H_SUCCESS)]
    assert rig.registers()["r3"] == 0
    assert rig.machine.memory[BUFFER] == 3
    assert struct.unpack_from(">I", rig.machine.memory, BUFFER + 12) == (65536,)
    assert rig.machine.foreign == []
    assert not any(rig.machine.breakpoints[at] for at in _gates(rig))


def _gates(rig: Rig) -> list[int]:
    return [BASE + 4 * n for n, word in enumerate(rig.kernel.words) if word == SC1]


async def test_a_reset_while_the_partition_answers(tmp_path: Path) -> None:
    """R-73: a machine that another program resets meanwhile keeps the registers of its new boot."""
    rig = Rig(tmp_path, with_driver(*GET_CONFIG))
    inner, first = rig.partition.call, iter([True])

    async def call(request: Request[HReturn]) -> HReturn:
        answer = await inner(request)
        if next(first, False):
            rig.machine.events.append("RESET")
            rig.machine.boot()
        return answer

    rig.partition.call = call  # type: ignore[method-assign]
    assert await rig.run() == Ended(0)
    assert rig.calls == [("GET_CONFIG", Status.H_SUCCESS)] * 2
    assert rig.partition.ipls == 2


async def test_a_status_is_signed_and_results_are_in_registers(tmp_path: Path) -> None:
    head = (li(3, Opcode.READ_OBJECT), li(4, AUTH), li(5, AUTH + 0x100), li(6, 5), li(7, BUFFER), li(8, 64))
    rig = Rig(tmp_path, with_driver(*head))
    rig.machine.memory[AUTH : AUTH + 16] = build_auth(3)
    rig.machine.memory[AUTH + 0x100 : AUTH + 0x105] = b"label"
    await rig.run()
    assert rig.calls == [("READ_OBJECT", Status.H_NOT_FOUND)]
    assert rig.registers()["r3"] == (1 << 64) + Status.H_NOT_FOUND


async def test_a_buffer_outside_of_the_machine(tmp_path: Path) -> None:
    """If a register has an address outside of the memory, the call gets the status of that argument."""
    rig = Rig(tmp_path, with_driver(*GET_CONFIG))
    with trio.fail_after(20):
        async with rig.bridge() as bridge:

            async def far(_stop: Stop) -> None:
                await bridge.stub.write({"r4": SIZE - 100})

            bridge.hook("plpar_hcall", far)
            await bridge.run()
    assert rig.calls == [("GET_CONFIG", Status.H_PARAMETER)]


async def test_a_step_that_did_nothing_calls_no_hook_again(tmp_path: Path) -> None:
    """A busy QEMU may answer a step before the instruction has run. The bridge still calls each hook once."""
    rig = Rig(tmp_path, with_driver(*GET_CONFIG))
    called = 0
    with trio.fail_after(20):
        async with rig.bridge() as bridge:

            async def once(_stop: Stop) -> None:
                nonlocal called
                called += 1
                rig.machine.idle_steps = 3

            bridge.hook("plpar_hcall", once)
            await bridge.run()
    assert (called, rig.calls) == (1, [("GET_CONFIG", Status.H_SUCCESS)])


async def test_an_instruction_that_never_runs(tmp_path: Path) -> None:
    """If QEMU never runs an instruction, the run ends with an error that names its address."""
    rig = Rig(tmp_path, with_driver(*GET_CONFIG))
    rig.machine.idle_steps = 1000
    with trio.fail_after(20):
        async with rig.bridge() as bridge:
            with pytest.raises(GuestStopped, match="does not run the instruction at 0x"):
                await bridge.run()


async def test_the_device_tree_is_completed_and_the_start_is_an_ipl(tmp_path: Path) -> None:
    rig = Rig(tmp_path, with_driver(*GET_CONFIG))
    await rig.run()
    assert string_list(bytes(rig.machine.memory[TREE:]), *PLACE)[-1] == b"hcall-pks"
    assert rig.partition.ipls == 1


@pytest.mark.parametrize("mode", [SecureBoot.AUDIT, SecureBoot.ENFORCE])
async def test_the_secure_boot_mode_is_told(tmp_path: Path, mode: SecureBoot) -> None:
    """R-35: the device tree has the secure-boot mode in the property that Linux reads."""
    rig = Rig(tmp_path, with_driver(*GET_CONFIG))
    rig.machine.tree = flatten(MACHINE, gap=32)
    rig.machine.boot()
    rig.partition.mode = mode
    await rig.run()
    tree = bytes(rig.machine.memory[TREE:])
    assert property_of(tree, "/", "ibm,secure-boot") == bytes([0, 0, 0, mode])
    assert string_list(tree, *PLACE)[-1] == b"hcall-pks"


async def test_a_mode_that_is_off_changes_nothing(tmp_path: Path) -> None:
    rig = Rig(tmp_path, with_driver(*GET_CONFIG))
    await rig.run()
    with pytest.raises(TreeUnsuitable, match="has no /"):
        property_of(bytes(rig.machine.memory[TREE:]), "/", "ibm,secure-boot")


async def test_a_reset_is_an_ipl_and_a_kexec_is_none(tmp_path: Path) -> None:
    """R-73, R-04, R-06: a reset is an IPL; a kexec, which calls early_setup again, is none.

    Events of QEMU's monitor show the difference.
    """
    kernel = with_gates(Kernel())
    kernel.function("early_setup", NOP, BLR)
    twice = ("early_setup", True), ("early_setup", True)
    kernel.function("start", *twice, TO_VIRTUAL, ("plpks_driver", False))
    kernel.function("plpks_driver", *GET_CONFIG, ("plpar_hcall", True), RESET)
    rig = Rig(tmp_path, kernel)
    assert await rig.run() == Ended(0)
    assert rig.partition.ipls == 2
    assert rig.calls == [("GET_CONFIG", 0)] * 2


async def test_other_calls_through_the_gates_are_left_to_qemu(tmp_path: Path) -> None:
    """R-73: h-calls of another processor go to QEMU, also while a call of the driver is pending."""
    kernel = with_driver(NOP, NOP, *GET_CONFIG)
    loop = kernel.function(
        "idle_loop", *[w for _ in range(4) for w in (li(3, 0x58), ("plpar_hcall", True))], IDLE
    )
    rig = Rig(tmp_path, kernel, others=(loop,))
    assert await rig.run() == Ended(0)
    assert rig.calls == [("GET_CONFIG", Status.H_SUCCESS)]
    assert rig.machine.foreign
    assert set(rig.machine.foreign) == {0x58}


async def test_two_processors_in_the_driver(tmp_path: Path) -> None:
    """The breakpoints of a gate stay until the last pending call has ended."""
    kernel = with_driver(*GET_CONFIG, li(9, 1), end=IDLE)
    kernel.function("plpks_second", *GET_CONFIG, ("plpar_hcall", True), *[NOP] * 40, POWER_OFF)
    rig = Rig(tmp_path, kernel, others=(kernel.symbols["plpks_second"][0],))
    assert await rig.run() == Ended(0)
    assert rig.calls == [("GET_CONFIG", 0)] * 2
    assert rig.machine.foreign == []
    assert not any(rig.machine.breakpoints[at] for at in _gates(rig))


async def test_a_guest_that_stops_for_good(tmp_path: Path) -> None:
    rig = Rig(tmp_path, with_driver(*GET_CONFIG, end=IDLE))
    with pytest.RaisesGroup(GuestStopped):
        await rig.run()


async def test_a_tree_that_cannot_be_completed(tmp_path: Path) -> None:
    rig = Rig(tmp_path, with_driver(*GET_CONFIG))
    rig.machine.tree = flatten(MACHINE, padding=0)
    rig.machine.boot()
    with pytest.RaisesGroup(TreeUnsuitable):
        await rig.run()


async def test_a_function_called_from_outside(tmp_path: Path) -> None:
    """`call_function` restores all registers, and serves the h-calls of the called function."""
    kernel = with_driver(*GET_CONFIG, end=IDLE)
    kernel.function("plpks_helper", ("plpks_helper_body", False))
    kernel.function("plpks_helper_body", *GET_CONFIG, ("plpar_hcall", True), li(3, 42), ("borrowed", False))
    kernel.function("borrowed", li(6, 66), POWER_OFF)
    kernel.function("begin", li(3, 7), li(4, 8), ("borrowed", True))
    rig = Rig(tmp_path, kernel, "begin")
    results = []

    rig.machine.start |= BASE
    rig.machine.boot()
    with trio.fail_after(20):
        async with rig.bridge() as bridge:

            async def hook(stop: Stop) -> None:
                results.append(await call_function(bridge, stop, "plpks_helper", 1, 2))

            bridge.hook("borrowed", hook)
            await bridge.run()
    assert results == [42]
    assert [rig.registers()[name] for name in ("r3", "r4", "r5", "r6")] == [7, 8, 0, 66]
    assert rig.calls == [("GET_CONFIG", 0)]
