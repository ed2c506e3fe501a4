"""The client of QEMU's gdb stub: its requests, what it does with the answers, and its errors."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from swpks.qemu.errors import StubError
from swpks.qemu.rsp import encode
from swpks.qemu.stub import Ended, Stop, Stub
from tests.qemu.assemble import BASE, NOP, POWER_OFF, Kernel, li
from tests.qemu.fake import BIG, FakeMachine, FakeStub


def a_machine() -> FakeMachine:
    kernel = Kernel()
    kernel.function("start", li(5, 7), NOP, li(5, 9), POWER_OFF)
    return FakeMachine(kernel, b"", BASE)


@asynccontextmanager
async def attached(machine: FakeMachine) -> AsyncIterator[Stub]:
    """Yield a stub that is connected to this machine and started."""
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(FakeStub(machine, theirs).serve)
        stub = Stub(ours)
        await stub.start()
        yield stub
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("acks", [True, False])
async def test_registers_memory_and_breakpoints(acks: bool) -> None:
    machine = a_machine()
    machine.acks = acks
    async with attached(machine) as stub:
        assert await stub.stopped() == Stop(b"p01.01", 5)
        await stub.write({"r4": 0x1122334455667788, "lr": 5})
        assert await stub.read("r4", "lr", "r5") == [0x1122334455667788, 5, 0]
        await stub.write_memory(0x1000, bytes(range(256)) * 3)
        assert await stub.read_memory(0x1001, 600) == (bytes(range(256)) * 3)[1:601]
        await stub.set_breakpoint(8)
        assert await stub.resume() == Stop(b"p01.01", 5)
        assert await stub.read("pc", "r5") == [8, 7]
        await stub.step(b"p01.01")
        assert await stub.read("pc", "r5") == [12, 9]
        await stub.clear_breakpoint(8)
        assert await stub.resume() == Ended(0)


async def test_big_endian_registers() -> None:
    """Before the kernel has switched its processor, the bytes of each register are in big-endian order."""
    machine = a_machine()
    machine.processors[0].values["msr"] = BIG
    async with attached(machine) as stub:
        await stub.write({"r4": 0x1122})
        assert await stub.read("r4", "msr") == [0x1122, BIG]
        assert machine.processors[0].values["r4"] == 0x1122


async def test_a_thread_is_chosen_once() -> None:
    machine = a_machine()
    async with attached(machine) as stub:
        for _ in range(3):
            await stub.select(b"p01.01")
        assert machine.requests.count(b"Hgp01.01") == 1


@pytest.mark.parametrize(
    "odd,says",
    [
        ({b"qSupported": b"E01"}, "refuses"),
        ({b"Qqemu.PhyMemMode": b""}, "not OK"),
        ({b"qXfer": b"E00"}, "refuses"),
        ({b"qXfer": b"l<target></target>"}, "no PowerPC"),
        ({b"qXfer": b"l<target>"}, "no XML"),
        ({b"qXfer": b"x"}, "has no target.xml"),
    ],
)
async def test_a_stub_that_cannot_be_used(odd: dict[bytes, bytes], says: str) -> None:
    machine = a_machine()
    machine.odd = odd
    with pytest.RaisesGroup(pytest.RaisesExc(StubError, match=says)):
        async with attached(machine):
            pass


@pytest.mark.parametrize(
    "request_,answer,says",
    [
        (b"p", b"00", "has 1 bytes"),
        (b"p", b"xx", "hexadecimal"),
        (b"m", b"E14", "refuses"),
        (b"m", b"0011", "cannot be read"),
        (b"Z0", b"E22", "refuses"),
        (b"vCont", b"OK", "no stop reply"),
        (b"vCont", b"Txx", "no stop reply"),
    ],
)
async def test_answers_that_make_no_sense(request_: bytes, answer: bytes, says: str) -> None:
    machine = a_machine()
    async with attached(machine) as stub:
        machine.odd = {request_: answer}
        asks = {
            b"p": lambda: stub.read("r3"),
            b"m": lambda: stub.read_memory(0, 64),
            b"Z0": lambda: stub.set_breakpoint(0),
            b"vCont": stub.resume,
        }
        with pytest.raises(StubError, match=says):
            await asks[request_]()


async def _against(*pieces: bytes) -> tuple[Stub, trio.abc.Stream]:
    ours, theirs = trio.testing.memory_stream_pair()
    for piece in pieces:
        await theirs.send_all(piece)
    return Stub(ours), theirs


async def test_a_damaged_answer_is_asked_for_again() -> None:
    stub, theirs = await _against(b"+$OK#00", b"$OK#9a")
    assert await stub.ask(b"x") == b"OK"
    assert await theirs.receive_some() == b"$x#78-+"


async def test_a_packet_that_is_not_taken_is_sent_again_but_not_for_ever() -> None:
    stub, theirs = await _against(b"-+$OK#9a")
    assert await stub.ask(b"x") == b"OK"
    assert await theirs.receive_some() == b"$x#78$x#78+"
    stub, _ = await _against(b"-" * 9)
    with pytest.raises(StubError, match="cannot read"):
        await stub.ask(b"x")


async def test_console_output_is_no_stop() -> None:
    stub, _ = await _against(b"+" + encode(b"O4142") + encode(b"W07"))
    assert await stub.resume() == Ended(7)


async def test_a_stub_that_is_gone() -> None:
    """R-73: if QEMU is lost while the guest runs, the run ends; at another time it is an error."""
    stub, theirs = await _against()
    await theirs.aclose()
    assert await stub.resume() == Ended(None)
    with pytest.raises(StubError, match="gone"):
        await stub.read_memory(0, 4)


async def test_no_message_shows_what_a_buffer_holds() -> None:
    stub, _ = await _against(b"+$E01#a6")
    with pytest.raises(StubError) as caught:
        await stub.write_memory(0x1000, b"a secret password")
    assert b"a secret".hex() not in str(caught.value)
