"""A whole run with a fake machine and a real server. At every kind of end the partition is powered off."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from swpks.qemu import run
from swpks.qemu.bridge import Bridge
from swpks.qemu.console import PatientConsole
from swpks.qemu.elf import load
from swpks.qemu.errors import GuestStopped, PartitionUnusable, StubError
from swpks.qemu.machine import QemuMachine, Wires
from swpks.qemu.partition import partition_of
from swpks.qemu.run import MachineEnd
from swpks.qemu.stub import Stop
from swpks.testing import ServerProcess
from tests.qemu.assemble import IDLE, PANIC, POWER_OFF, SPIN
from tests.qemu.fake import FakeMachine, FakeStub, monitor
from tests.qemu.test_bridge import GET_CONFIG, with_driver
from tests.qemu.tree import MACHINE, flatten

pytestmark = pytest.mark.process


class PlayedProcess:
    """The part of QEMU's process that a run uses. It does not end when its stub fails."""

    def __init__(self, machine: FakeMachine, returncode: int | None) -> None:
        self.returncode = returncode
        self.machine = machine

    async def wait(self) -> int | None:
        await self.machine.ended.wait()
        return self.returncode


class Played:
    """A fake machine, a replacement for `start`, and what the run has reported."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, end: int = POWER_OFF) -> None:
        self.kernel = with_driver(*GET_CONFIG, end=end)
        self.path = self.kernel.write(folder / "vmlinux")
        self.machine = FakeMachine(self.kernel, flatten(MACHINE), self.kernel.symbols["start"][0])
        self.starts = 0
        self.sentences: list[str] = []
        self.heard: dict[str, trio.Event] = {}
        self.returncode: int | None = 0
        monkeypatch.setattr(run, "start", self.start)
        # The fake process never ends, so the wait for its end is made short.
        monkeypatch.setattr(run, "END_SECONDS", 0.2)

    @asynccontextmanager
    async def start(self, _machine: QemuMachine, **_streams: Any) -> AsyncIterator[Wires]:
        self.starts += 1
        ours, theirs = trio.testing.memory_stream_pair()
        our_monitor, their_monitor = trio.testing.memory_stream_pair()
        failure: BaseException | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(FakeStub(self.machine, theirs).serve)
            nursery.start_soon(monitor, self.machine, their_monitor)
            try:
                yield Wires(ours, our_monitor, PlayedProcess(self.machine, self.returncode))  # type: ignore[arg-type]
            except BaseException as error:
                # The error is raised below. Inside the nursery, it would be wrapped in a group.
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    def tell(self, sentence: str) -> None:
        """Note a sentence for the user, and set the event of a task that waits for it."""
        self.sentences.append(sentence)
        for part, event in self.heard.items():
            if part in sentence:
                event.set()

    async def run(self, server: ServerProcess, name: str = "lpar1", **options: Any) -> MachineEnd:
        console = PatientConsole(server.control_socket, name, notify=self.tell)
        with trio.fail_after(60):
            return await run.run_kernel(
                QemuMachine(self.path), load(self.path), server.socket(), console, patience=20, **options
            )


async def shown(server: ServerProcess) -> tuple[str, int]:
    """Return the power state of the partition, and its number of IPLs."""
    text = await trio.to_thread.run_sync(server.hmc, "status", "lpar1", "--json")
    view = json.loads(text)
    return view["power"], view["ipl_count"]


async def test_a_clean_end(tmp_path: Path, monkeypatch, swpks_server: ServerProcess) -> None:
    played = Played(tmp_path, monkeypatch)
    assert await shown(swpks_server) == ("running", 1)
    calls = []
    end = await played.run(swpks_server, on_call=lambda opcode, answer: calls.append(answer.status))
    assert (await shown(swpks_server), calls, end) == (("off", 2), [0], MachineEnd.GUEST)
    assert played.sentences == []


async def test_a_panic(tmp_path: Path, monkeypatch, swpks_server: ServerProcess) -> None:
    """QEMU ends with status 0 after a panic; its last event shows the panic."""
    end = await Played(tmp_path, monkeypatch, end=PANIC).run(swpks_server)
    assert (await shown(swpks_server), end) == (("off", 2), MachineEnd.PANIC)


async def test_a_guest_that_a_panic_has_paused(
    tmp_path: Path, monkeypatch, swpks_server: ServerProcess
) -> None:
    played = Played(tmp_path, monkeypatch, end=IDLE)
    end = await played.run(swpks_server, on_call=lambda *_: played.machine.events.append("GUEST_PANICKED"))
    assert end is MachineEnd.PANIC


async def test_the_console_stops_the_machine(
    tmp_path: Path, monkeypatch, swpks_server: ServerProcess
) -> None:
    """A power-off by the console ends a running guest. A restart does not end it, but is reported."""
    played = Played(tmp_path, monkeypatch, end=SPIN)
    called, restarted = trio.Event(), trio.Event()
    ends: list[MachineEnd] = []

    async def go() -> None:
        ends.append(await played.run(swpks_server, on_call=lambda *_: called.set()))

    played.heard["has restarted lpar1; the password of the guest is refused"] = restarted
    async with trio.open_nursery() as nursery:
        nursery.start_soon(go)
        await called.wait()
        await trio.to_thread.run_sync(swpks_server.ipl)
        with trio.fail_after(60):
            await restarted.wait()
        assert ends == []
        await trio.to_thread.run_sync(swpks_server.hmc, "power", "lpar1", "off")
    assert ends == [MachineEnd.POWER_OFF]
    assert len(played.sentences) == 1


async def test_a_machine_that_ends_while_its_call_waits(
    tmp_path: Path, monkeypatch, swpks_server: ServerProcess
) -> None:
    """If the guest's call waits for a server, this is reported; Ctrl-A x still ends the machine."""
    played = Played(tmp_path, monkeypatch)
    played.heard["the guest waits up to 20 s for the keystore of lpar1: "] = played.machine.ended

    def prepare(bridge: Bridge) -> None:
        async def away(_stop: Stop) -> None:
            await trio.to_thread.run_sync(swpks_server.stop)

        bridge.hook("plpar_hcall", away)

    monkeypatch.setattr(run, "NOTICE_SECONDS", 0.01)
    # The power-off at the end finds no server and raises this error.
    with pytest.raises(PartitionUnusable, match="no server"):
        await played.run(swpks_server, prepare=prepare)
    assert not any("open again" in each for each in played.sentences)


async def test_a_guest_that_stops(tmp_path: Path, monkeypatch, swpks_server: ServerProcess) -> None:
    """R-73: if all processors stop, the run ends and powers the partition off."""
    with pytest.raises(GuestStopped):
        await Played(tmp_path, monkeypatch, end=IDLE).run(swpks_server)
    assert await shown(swpks_server) == ("off", 2)


async def test_a_stub_at_fault(tmp_path: Path, monkeypatch, swpks_server: ServerProcess) -> None:
    """R-73: if QEMU's stub fails, the run powers the partition off."""
    played = Played(tmp_path, monkeypatch)
    played.machine.odd[b"M"] = b"E14"
    played.returncode = None
    with pytest.raises(StubError):
        await played.run(swpks_server)
    assert await shown(swpks_server) == ("off", 2)


async def test_a_cancelled_run(tmp_path: Path, monkeypatch, swpks_server: ServerProcess) -> None:
    """R-73: if the user cancels the run, it powers the partition off.

    The cancellation does not stop the power-off.
    """
    with trio.CancelScope() as scope:
        await Played(tmp_path, monkeypatch).run(swpks_server, on_call=lambda *_: scope.cancel())
    assert scope.cancelled_caught
    assert await shown(swpks_server) == ("off", 2)


async def test_a_machine_that_never_started(tmp_path: Path, monkeypatch, swpks_server: ServerProcess) -> None:
    """R-73: if the machine never started, the partition is not changed."""
    played = Played(tmp_path, monkeypatch)
    played.machine.odd[b"?"] = b"E01"
    played.machine.odd[b"qSupported"] = b"E01"
    played.returncode = None
    with pytest.raises(StubError):
        await played.run(swpks_server)
    assert (await shown(swpks_server), played.starts) == (("running", 1), 1)


async def test_a_partition_that_is_not_there_starts_nothing(
    tmp_path: Path, monkeypatch, swpks_server: ServerProcess
) -> None:
    """R-73: if the console has no such partition, QEMU is not started."""
    played = Played(tmp_path, monkeypatch)
    with pytest.raises(PartitionUnusable, match="there is no partition 'nosuch'"):
        await played.run(swpks_server, name="nosuch")
    assert played.starts == 0


async def test_the_first_trouble_is_told(tmp_path: Path) -> None:
    """A run reports the first error, even if the power-off after it fails too."""
    console = PatientConsole(tmp_path / "control.sock", "lpar1", patience=0.1)
    async with partition_of(tmp_path / "lpar1.sock", console) as partition:
        partition.started = True
        with pytest.raises(GuestStopped, match="first"):
            async with run._stopped_at_the_end(partition):
                raise GuestStopped("first")
        with pytest.raises(PartitionUnusable, match="no server"):
            async with run._stopped_at_the_end(partition):
                pass


async def test_a_power_off_that_nobody_answers(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """A run waits at most 10 seconds for the answer to its power-off."""
    listener = trio.socket.socket(trio.socket.AF_UNIX)
    await listener.bind(str(tmp_path / "control.sock"))
    listener.listen()
    console = PatientConsole(tmp_path / "control.sock", "lpar1")
    with listener:
        async with partition_of(tmp_path / "lpar1.sock", console) as partition:
            partition.started = True
            with pytest.raises(PartitionUnusable, match="not answered within 10 s"):
                async with run._stopped_at_the_end(partition):
                    pass
    assert 10 <= trio.current_time() < 11
