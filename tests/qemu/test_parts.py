"""Memory that is read on demand, QEMU's monitor and process, a partition that returns, and errors."""

import os
import socket
from pathlib import Path

import pytest
import trio
import trio.testing

from hcall_abi.calls import Opcode
from hcall_abi.errors import OperatorError
from hcall_abi.frames import HReturn
from hcall_abi.rules.service import COMMAND_FILE
from hcall_abi.statuses import Status
from hcall_abi.structures import build_auth
from hcall_client.calls import raw_call
from swpks.cli.main import main
from swpks.qemu.console import PatientConsole
from swpks.qemu.errors import MachineFailed, PartitionUnusable, StubError
from swpks.qemu.machine import QemuMachine, command_line, start
from swpks.qemu.memory import SeenMemory, marshal_slowly
from swpks.qemu.partition import partition_of
from swpks.qemu.qmp import Qmp
from swpks.testing import ServerProcess
from tests.qemu.assemble import BLR, Kernel, with_gates


async def test_memory_is_read_once_and_only_where_it_is_wanted() -> None:
    asked = []
    block = build_auth(3, b"p" * 20)

    async def read(address: int, length: int) -> bytes:
        asked.append((address, length))
        return (block if address == 0x1000 else b"label")[:length]

    registers = (0x1000, 0x2000, 5, 0x3000, 64, 0, 0, 0, 0)
    request = await marshal_slowly(Opcode.READ_OBJECT, registers, SeenMemory(1 << 20), read)
    assert asked == [(0x1000, 16), (0x1000, 36), (0x2000, 5)]
    assert [(s.address, s.length) for s in request.segments] == [(0x1000, 36), (0x2000, 5), (0x3000, 64)]


async def test_memory_that_the_machine_does_not_have_is_not_read() -> None:
    async def read(address: int, length: int) -> bytes:
        raise AssertionError((address, length))

    request = await marshal_slowly(Opcode.REMOVE_OBJECT, (1 << 40, 1 << 41, 5), SeenMemory(1 << 20), read)
    assert request.segments == ()


async def _monitor(*lines: bytes) -> Qmp:
    ours, theirs = trio.testing.memory_stream_pair()
    for line in lines:
        await theirs.send_all(line + b"\n")
    await theirs.send_stream.aclose()
    return Qmp(ours)


async def test_resets_are_counted_up_to_the_answer() -> None:
    """When an answer of the monitor is read, all resets before it are counted.

    Other events are skipped.
    """
    monitor = await _monitor(
        b'{"QMP": {}}',
        b'{"event": "NIC_RX_FILTER_CHANGED"}',
        b'{"return": {}}',
        b'{"event": "RESET", "data": {"guest": true}}',
        b'{"return": {"status": "paused"}}',
        b'{"return": {"base-memory": 4096, "plugged-memory": 1}}',
    )
    await monitor.start()
    assert await monitor.resets() == 1
    assert await monitor.memory_size() == 4097
    with pytest.raises(StubError, match="gone"):
        await monitor.resets()


async def test_a_panic_is_noted_until_a_reset() -> None:
    """If the guest runs on after a panic, the panic does not count.

    An option of QEMU lets the guest run on.
    """
    panic = b'{"event": "GUEST_PANICKED", "data": {"action": "%s"}}'
    for lines, found in (
        ([panic % b"poweroff"], True),
        ([panic % b"pause"], True),
        ([panic % b"run"], False),
        ([panic % b"pause", b'{"event": "RESET"}'], False),
    ):
        monitor = await _monitor(*lines)
        await monitor.drain()
        assert monitor.panicked is found


@pytest.mark.parametrize("line", [b'{"error": {"desc": "no"}}', b"hello", b"[]"])
async def test_a_monitor_that_makes_no_sense(line: bytes) -> None:
    monitor = await _monitor(line)
    with pytest.raises(StubError, match=r"monitor|refuses"):
        await monitor.start()


def test_the_command_line_of_qemu() -> None:
    """The user's options come last.

    QEMU inherits the sockets of stub and monitor, so it needs no port or path.
    """
    machine = QemuMachine(Path("vmlinux"), Path("initrd"), "quiet", ["-smp", "2"])
    line = command_line(machine, 7, 9)
    assert line[0] == "qemu-system-ppc64"
    assert line[-2:] == ["-smp", "2"]
    for pair in (
        ("-kernel", "vmlinux"),
        ("-initrd", "initrd"),
        ("-append", "quiet"),
        ("-serial", "mon:stdio"),
    ):
        assert line[line.index(pair[0]) + 1] == pair[1]
    assert "socket,id=swpks-stub,fd=7" in line
    assert "socket,id=swpks-monitor,fd=9" in line
    assert "-initrd" not in command_line(QemuMachine(Path("vmlinux")), 7, 9)


@pytest.mark.parametrize("serial,kind", [("mon:stdio", "stdio,mux=on"), ("file:a,b", "file,path=a,,b")])
def test_the_command_line_of_a_machine_with_a_disk(serial: str, kind: str) -> None:
    """R-77: QEMU boots SLOF from the disk, starts no kernel itself, and copies its console."""
    machine = QemuMachine(Path("vmlinux"), options=["-snapshot"], serial=serial, disk=Path("my,disk"))
    line = command_line(machine, 7, 9, 11)
    assert line[line.index("-machine") + 1] == "pseries"
    # QEMU takes a relative path with a colon for a protocol.
    disk = Path("my,,disk").absolute()
    assert f"file={disk},format=raw,if=none,id=swpks-disk" in line
    console = next(word for word in line if "id=swpks-console" in word)
    assert console.startswith(kind)
    assert "logfile=/dev/fd/11" in console
    assert not {"-kernel", "-append", "-initrd"} & set(line)
    assert ("-mon" in line[: line.index("-serial")]) == (serial == "mon:stdio")
    assert line[-1] == "-snapshot"


async def test_no_qemu(tmp_path: Path) -> None:
    with pytest.raises(MachineFailed, match="not installed"):
        async with start(QemuMachine(tmp_path, program="qemu-system-that-nobody-has")):
            pass


async def test_qemu_is_ended_with_the_block(tmp_path: Path) -> None:
    kernel = tmp_path / "kernel"
    kernel.touch()
    program = tmp_path / "qemu"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o700)
    async with start(QemuMachine(kernel, program=str(program))) as wires:
        assert wires.process.returncode is None
    assert wires.process.returncode is not None


async def test_a_missing_initrd(tmp_path: Path) -> None:
    (tmp_path / "kernel").touch()
    with pytest.raises(OperatorError, match="initrd is no file") as caught:
        async with start(QemuMachine(tmp_path / "kernel", tmp_path / "initrd", program="sh")):
            pass
    assert caught.value.rule is COMMAND_FILE


async def test_a_qemu_that_cannot_be_started(tmp_path: Path) -> None:
    """The error names the program and the reason; no descriptor of stub, monitor and console is left."""
    program, disk = tmp_path / "qemu", tmp_path / "disk"
    program.write_bytes(b"\x7fELF and no program")
    program.chmod(0o700)
    disk.touch()
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(MachineFailed, match=f"{program} cannot be started: Exec format error"):
        async with start(QemuMachine(disk, disk=disk, program=str(program))):
            pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before


async def test_no_server_in_time(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    """R-73: if no server answers within the given time, the error says so."""
    sentences: list[str] = []
    console = PatientConsole(tmp_path / "control.sock", "lpar1", patience=30, notify=sentences.append)
    with pytest.raises(PartitionUnusable, match="no server"):
        await console.ipl()
    assert 30 <= trio.current_time() < 31
    (before,) = sentences
    assert before.startswith(f"no server at {tmp_path / 'control.sock'}: ")
    assert before.endswith("; the machine waits up to 30 s for one")
    async with partition_of(tmp_path / "lpar1.sock", console, 30) as partition:
        with pytest.raises(PartitionUnusable, match="no session"):
            await partition.call(raw_call(Opcode.GET_CONFIG))
    assert sentences[1].startswith("the guest waits up to 30 s for the keystore of lpar1: ")
    with pytest.raises(PartitionUnusable):
        await console.power_off()
    assert trio.current_time() < 62
    assert len(sentences) == 2


@pytest.mark.process
async def test_a_server_that_comes_back(swpks_server: ServerProcess) -> None:
    """R-73, R-04: calls go on after an IPL, a power-off, and a kill of the server; each is an IPL."""
    console = PatientConsole(swpks_server.control_socket, "lpar1")
    call = raw_call(Opcode.GEN_PASSWORD, (3, 0, 0x1000, 32), ())
    with trio.fail_after(60):
        async with partition_of(swpks_server.socket(), console) as partition:

            async def status() -> int:
                answer: HReturn = await partition.call(call)
                return answer.status

            assert await status() == Status.H_P3
            await partition.ipl()
            assert await status() == Status.H_P3
            swpks_server.kill()
            await trio.to_thread.run_sync(swpks_server.start)
            found = [await status(), await status()]
            assert found in ([Status.H_P3] * 2, [Status.H_ABORTED, Status.H_P3])
            await partition.power_off()
            assert "off" in await trio.to_thread.run_sync(swpks_server.hmc, "status")
            await partition.power_off()
            await partition.ipl()
            assert await status() == Status.H_P3


@pytest.mark.process
async def test_a_partition_that_is_not_there(swpks_server: ServerProcess) -> None:
    with pytest.raises(PartitionUnusable, match="nobody"):
        await PatientConsole(swpks_server.control_socket, "nobody").ipl()


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    status = main(["qemu", "--partition", "lpar1", *arguments])
    return status, capsys.readouterr().err


def test_kernels_that_the_command_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """R-73: a kernel that is missing, stripped or without the driver gives status 2 and one sentence."""
    without = with_gates(Kernel())
    without.function("helper", BLR)
    for kernel, says in (
        (tmp_path / "missing", "No such file"),
        (without.write(tmp_path / "plain"), "CONFIG_PSERIES_PLPKS"),
        (without.write(tmp_path / "stripped", stripped=1), "stripped"),
    ):
        status, text = _run(capsys, "--kernel", str(kernel), "--state", str(tmp_path / "state"))
        assert (status, says in text) == (2, True), text


def _bootable(folder: Path) -> str:
    """Return a kernel with all functions that the command needs."""
    kernel = with_gates(Kernel())
    kernel.function("plpks_one", ("plpar_hcall", True), BLR)
    kernel.function("early_setup", BLR)
    return str(kernel.write(folder / "kernel"))


def test_a_command_without_qemu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-73: the missing QEMU is reported before a server is started."""
    monkeypatch.setenv("PATH", str(tmp_path))
    status, text = _run(capsys, "--kernel", _bootable(tmp_path), "--state", str(tmp_path / "state"))
    assert status == 2
    assert "qemu-system-ppc64 is not installed" in text
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    "name", ["../x", "", "control", "-x", "lpar1:", "lpar1:64k", "lpar1:64,secure_boot=1"]
)
def test_partitions_that_the_command_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """R-73: the server's rules for names and sizes refuse a partition before anything is started."""
    state = tmp_path / "state"
    command = ["qemu", f"--partition={name}", "--kernel", _bootable(tmp_path), "--state", str(state)]
    assert main(command) == 2
    text = capsys.readouterr().err
    rule = "attribute.range" if ":" in name else "name.form"
    assert f"operator fault; rule {rule}: " in text, text
    assert not state.exists()


@pytest.fixture
def broken_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A QEMU that ends at once, as the real one does with unknown options."""
    program = tmp_path / "bin" / "qemu-system-ppc64"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


@pytest.mark.process
@pytest.mark.usefixtures("broken_qemu")
def test_a_server_of_its_own_is_stopped_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """R-73: the command reports QEMU's exit status, and stops the server that it has started."""
    state = tmp_path / "state"
    status, text = _run(capsys, "--kernel", _bootable(tmp_path), "--state", str(state))
    assert (status, "QEMU ended with status 3" in text) == (2, True), text
    assert state.is_dir()
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(OSError, match=r"No such file|refused"):
        client.connect(str(state / "run" / "control.sock"))


@pytest.mark.process
@pytest.mark.usefixtures("broken_qemu")
def test_a_running_server_is_used_and_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], swpks_server: ServerProcess
) -> None:
    """R-73: the command uses a server that runs on the state already, and does not stop it."""
    status, text = _run(capsys, "--kernel", _bootable(tmp_path), "--state", str(swpks_server.state))
    assert (status, "QEMU ended with status 3" in text) == (2, True), text
    assert swpks_server.pid is not None
    with swpks_server.connect_blocking() as channel:
        assert channel.limits().total_size == 65536


@pytest.mark.process
@pytest.mark.usefixtures("broken_qemu")
@pytest.mark.parametrize(
    "partition,says",
    [
        ("nosuch", "no partition 'nosuch'"),
        ("lpar1:32", "has 64 KiB, not 32; leave :32 out to use it as it is; no command makes it smaller ["),
        ("lpar1:128", "off: swpks hmc set lpar1 keystore_kbytes=128 --socket "),
    ],
)
def test_a_running_server_is_asked_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], swpks_server: ServerProcess, partition: str, says: str
) -> None:
    """R-73: if a running server has no such partition, or another size, QEMU is not started."""
    words = ["--kernel", _bootable(tmp_path), "--state", str(swpks_server.state)]
    assert main(["qemu", "--partition", partition, *words]) == 2
    text = capsys.readouterr().err
    assert says in text, text
    assert "QEMU ended" not in text
    assert main(["qemu", "--partition", "lpar1:64", *words]) == 2
    assert "QEMU ended with status 3" in capsys.readouterr().err
