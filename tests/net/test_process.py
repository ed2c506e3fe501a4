"""The server as a process: its sockets, its folder, its signals, its second start (spec/service.md)."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hcall_abi.frames import OpenStatus
from hcall_client.blocking import BlockingChannel
from hcall_client.calls import (
    Request,
    confirm_object_flushed,
    gen_password,
    get_config,
    set_password,
    write_object,
)
from hcall_client.errors import HcallError, OpenRefused, SessionEnded
from hcall_client.request import Authorization
from hcall_client.testing import ServerFailed, ServerProcess
from hcall_server.nvram.names import image_name
from hcall_server.nvram.sqlite import SqliteNvram
from tests.net.support import read, write

pytestmark = pytest.mark.process

MAIN = "import sys; from hcall_server.cli.main import main; sys.exit(main())"

PASS_ON = """
import os, sys
for n, fd in enumerate(sys.argv[1].split(",")):
    os.dup2(int(fd), 3 + n)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
"""What a service manager does: descriptors from 3 on, and the process's own number in LISTEN_PID."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server with two partitions that is not started yet; killed at the end."""
    made = ServerProcess(tmp_path / "state", ["alpha:64", "beta:4"])
    yield made
    made.kill()


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a server that is expected to end by itself."""
    command = [sys.executable, "-c", MAIN, "serve", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def mode(path: Path) -> int:
    """The permission bits of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def write_with(who: Authorization, label: bytes) -> Request[None]:
    """A WRITE_OBJECT of a consumer that has a password."""
    return write_object(who, label, b"x")


def test_everything_is_private(server: ServerProcess) -> None:
    """R-01: the socket is the identity, so nobody else may reach it; nor anything else of the state."""
    before = os.umask(0)
    try:
        server.start()
    finally:
        os.umask(before)
    state = server.state
    folders = [state, state / "run", state / "access-keys", state / "anchor-card"]
    assert [mode(folder) for folder in folders] == [0o700] * 4
    files = [path for path in state.rglob("*") if not path.is_dir()]
    assert {path.name for path in files} >= {"alpha.sock", "beta.sock", "control.sock", "alpha.key", "lock"}
    assert {path.name: oct(mode(path)) for path in files if mode(path) != 0o600} == {}


def test_the_ready_line_says_where_everything_is(server: ServerProcess) -> None:
    """One line of JSON for programs, one line for people."""
    ready = server.start().ready
    assert ready["sockets"] == {name: str(server.socket(name)) for name in ("alpha", "beta")}
    assert ready["control"] == str(server.control_socket)
    assert (ready["pid"], ready["firmware"]) == (server.pid, "FW1110")
    assert (ready["partitions"], ready["running"], ready["refused"]) == (
        ["alpha", "beta"],
        ["alpha", "beta"],
        {},
    )
    assert server.stop() == 0
    lines = [line for line in server.log.splitlines() if " is ready: " in line]
    assert len(lines) == 1
    assert f"alpha at {server.socket('alpha')}" in lines[0]


def test_a_second_server_is_refused(server: ServerProcess) -> None:
    """One state belongs to one server; the first one is not disturbed."""
    server.start()
    done = serve("--state", str(server.state), "--partition", "gamma:4")
    assert done.returncode == 2
    assert f"another server (process {server.pid}) serves" in done.stderr
    assert "spec/service.md#state" in done.stderr
    assert done.stdout == ""
    with server.connect_blocking("alpha") as channel:
        channel.call(write(b"still here"))
    assert not server.socket("gamma").exists()


def test_a_killed_server_is_replaced(server: ServerProcess) -> None:
    """R-21, R-04: stale sockets and lock do not hinder; what was confirmed is there, passwords are not."""
    server.start()
    with server.connect_blocking("alpha") as channel:
        os_with_password = channel.call(gen_password(3, 32))
        channel.call(write_with(os_with_password, b"label"))
        while not channel.call(confirm_object_flushed(os_with_password, b"label")).flushed:
            pass
        server.kill()
    assert server.socket("alpha").is_socket()
    server.start()
    with server.connect_blocking("alpha") as channel:
        assert channel.ipl_count == 2
        assert channel.call(read(b"label")).data == b"x"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_flushes_and_says_goodbye(server: ServerProcess, number: int) -> None:
    """R-20: what is dirty is flushed, sessions hear GOODBYE 4, the sockets are gone, the status is 0."""
    server.options = ["--flush-delay", "60000"]
    server.start()
    channel = server.connect_blocking("alpha")
    channel.call(write(b"not confirmed"))
    assert server._process is not None
    server._process.send_signal(number)
    assert server._process.wait(20) == 0
    with pytest.raises(SessionEnded) as ended:
        channel.call(read(b"not confirmed"))
    assert ended.value.reason == 4
    channel.close()
    assert list((server.state / "run").iterdir()) == [server.control_socket]
    server.start()
    with server.connect_blocking("alpha") as channel:
        assert channel.call(read(b"not confirmed")).data == b"x"


def test_partitions_are_remembered_and_grow(server: ServerProcess) -> None:
    """R-32: what is asked for on the command line is made, remembered, grown, and never shrunk."""
    server.start().stop()
    server.partitions = ["beta:8"]
    server.restart()
    with server.connect_blocking("alpha") as alpha, server.connect_blocking("beta") as beta:
        assert alpha.call(get_config()).total_size == 64 * 1024
        assert beta.call(get_config()).total_size == 8 * 1024
    server.stop()
    done = serve("--state", str(server.state), "--partition", "beta:4")
    assert done.returncode == 2
    assert "never shrinks" in done.stderr


def test_a_partition_without_a_keystore_answers_h_function(server: ServerProcess) -> None:
    """R-30, R-35: PKS is off unless a size is asked for."""
    server.partitions = ["plain"]
    server.start()
    with server.connect_blocking("plain") as channel, pytest.raises(HcallError) as caught:
        channel.call(get_config())
    assert caught.value.status == -2


def test_a_configuration_file_says_the_same_and_more(server: ServerProcess, tmp_path: Path) -> None:
    """R-74: level, sizes, limits; the command line adds to it and wins."""
    config = tmp_path / "swpks.toml"
    config.write_text(
        'firmware = "FW950"\nflush_delay_ms = 0\nlisten = ["tcp:127.0.0.1:0"]\n[limits]\nmax_sessions = 1\n'
        '[[partition]]\nname = "filed"\nkeystore_kbytes = 8\nsecure_boot = "enforce"\n'
        '[[partition]]\nname = "later"\nauto_start = false\n'
    )
    server.partitions, server.options = ["filed:16"], ["--config", str(config)]
    ready = server.start().ready
    assert (ready["firmware"], ready["running"]) == ("FW950", ["filed"])
    assert ready["tcp_port"]
    with server.connect_blocking("filed") as channel:
        assert channel.level == "FW950"
        assert channel.call(get_config()).total_size == 16 * 1024
        with pytest.raises(OpenRefused) as refused:
            server.connect_blocking("filed")
        assert refused.value.status == OpenStatus.TOO_MANY_SESSIONS
    server.partitions, server.options = [], []
    assert server.restart().ready["firmware"] == "FW950"


def test_tcp_demands_the_proof(server: ServerProcess) -> None:
    """R-01: with the partition's key it opens, and the server proves itself too; else it does not."""
    server.options = ["--listen", "tcp:127.0.0.1:0"]
    address = ("127.0.0.1", server.start().ready["tcp_port"])
    for partition, key, status in [
        (1, server.access_key("beta"), OpenStatus.NOT_AUTHORISED),
        (1, None, OpenStatus.NOT_AUTHORISED),
        (3, server.access_key("alpha"), OpenStatus.NO_SUCH_PARTITION),
        (0, server.access_key("alpha"), OpenStatus.NO_SUCH_PARTITION),
    ]:
        with pytest.raises(OpenRefused) as refused:
            BlockingChannel.connect(address, partition=partition, access_key=key, timeout=20)
        assert refused.value.status == status
    key = server.access_key("alpha")
    with BlockingChannel.connect(address, partition=1, access_key=key, timeout=20) as channel:
        channel.call(write(b"over tcp"))
    with server.connect_blocking("alpha") as channel:
        assert channel.call(read(b"over tcp")).data == b"x"
    assert key.hex() not in server.log


def test_a_damaged_image_leaves_the_others_serving(server: ServerProcess) -> None:
    """R-02: one flipped bit is detected, named with partition and reason, and hurts nobody else."""
    server.start().stop()
    nvram = SqliteNvram(server.state / "nvram.sqlite")
    blob = bytearray(nvram.load()[image_name(1)])
    blob[-1] ^= 1
    nvram.commit({image_name(1): bytes(blob)})
    nvram.close()
    ready = server.start().ready
    assert (ready["running"], list(ready["sockets"])) == (["beta"], ["beta"])
    assert "alpha" in ready["refused"]
    with server.connect_blocking("beta") as channel:
        channel.call(write(b"a"))
    assert server.stop() == 0
    assert "partition.refused" in server.log
    server.start()
    assert "alpha" in server.ready["refused"]


def test_a_lost_anchor_card_stops_the_server(server: ServerProcess) -> None:
    """R-02: a new root key would bury what NVRAM holds, so none is made."""
    server.start().stop()
    (server.state / "anchor-card" / "anchor-card").unlink()
    done = serve("--state", str(server.state))
    assert done.returncode == 3
    assert "the anchor card is missing" in done.stderr
    assert not (server.state / "anchor-card" / "anchor-card").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    """Nobody's files are mixed with a state, and no modes of theirs are changed."""
    (tmp_path / "thesis.tex").write_text("")
    tmp_path.chmod(0o755)
    done = serve("--state", str(tmp_path))
    assert done.returncode == 2
    assert "holds other things" in done.stderr
    assert mode(tmp_path) == 0o755


def test_a_state_that_others_may_enter_is_refused(server: ServerProcess) -> None:
    """R-02: what was private once stays private or is not served."""
    server.start().stop()
    server.state.chmod(0o750)
    done = serve("--state", str(server.state))
    assert done.returncode == 2
    assert "mode 0750" in done.stderr


def test_a_path_that_is_too_long_is_explained(tmp_path: Path) -> None:
    """The kernel's limit is 107 bytes, and its own error says nothing of the kind."""
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    done = serve("--state", str(deep), "--partition", "a:4")
    assert done.returncode == 2
    assert "choose a shorter --state" in done.stderr


@pytest.mark.parametrize(
    "options", [("--partition", "a:b"), ("--partition", "control:4"), ("--listen", "udp:1:2")]
)
def test_nonsense_is_refused(tmp_path: Path, options: tuple[str, str]) -> None:
    """An operator's error is told as such, with the rule."""
    done = serve("--state", str(tmp_path / "state"), *options)
    assert done.returncode == 2
    assert "operator fault; rule: " in done.stderr
    assert "Traceback" not in done.stderr


class Managed:
    """A server started as a service manager does it: with sockets, and a place to be notified."""

    def __init__(self, folder: Path, names: list[str], sockets: list[socket.socket]) -> None:
        self.notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notices.bind(str(folder / "notify"))
        self.notices.settimeout(20)
        environment = os.environ | {"NOTIFY_SOCKET": str(folder / "notify"), "LISTEN_FDS": str(len(sockets))}
        if names:
            environment["LISTEN_FDNAMES"] = ":".join(names)
        numbers = [each.fileno() + 100 for each in sockets]
        for each, number in zip(sockets, numbers, strict=True):
            os.dup2(each.fileno(), number)
        command = [sys.executable, "-c", PASS_ON, ",".join(map(str, numbers))]
        command += ["-c", MAIN, "serve", "--state", str(folder / "state"), "--partition", "alpha:4"]
        self.process = subprocess.Popen(command, env=environment, pass_fds=numbers, stderr=subprocess.PIPE)
        for number in numbers:
            os.close(number)

    def __enter__(self) -> "Managed":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        self.notices.close()


def listening(path: Path) -> socket.socket:
    """A listening Unix socket."""
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    made.listen()
    return made


@pytest.mark.parametrize("names", [[], ["alpha"], ["unknown"]])
def test_a_service_manager_may_own_the_socket(tmp_path: Path, names: list[str]) -> None:
    """LISTEN_FDS is honoured, READY=1 and STOPPING=1 are sent; a socket alone needs no name."""
    path = tmp_path / "alpha"
    with listening(path) as passed, Managed(tmp_path, names, [passed]) as managed:
        assert managed.notices.recv(100) == b"READY=1"
        with BlockingChannel.connect(path, timeout=20) as channel:
            channel.call(set_password(3, b"password"))
        assert not (tmp_path / "state" / "run" / "alpha.sock").exists()
        managed.process.terminate()
        assert managed.notices.recv(100) == b"STOPPING=1"
        assert managed.process.wait(20) == 0
    assert path.is_socket()


def test_passed_sockets_are_told_apart_by_name(tmp_path: Path) -> None:
    """A common one demands the proof even over a Unix socket; the control channel may be passed too."""
    paths = [tmp_path / name for name in ("one", "two", "three")]
    with ExitStack() as stack:
        sockets = [stack.enter_context(listening(path)) for path in paths]
        managed = stack.enter_context(Managed(tmp_path, ["tcp", "control", "alpha"], sockets))
        assert managed.notices.recv(100) == b"READY=1"
        with pytest.raises(OpenRefused):
            BlockingChannel.connect(paths[0], partition=1, timeout=20)
        key = bytes.fromhex((tmp_path / "state" / "access-keys" / "alpha.key").read_text())
        BlockingChannel.connect(paths[0], partition=1, access_key=key, timeout=20).close()
        BlockingChannel.connect(paths[2], timeout=20).close()
        with socket.socket(socket.AF_UNIX) as control:
            control.connect(str(paths[1]))
            control.settimeout(20)
            control.sendall(b"GET /health HTTP/1.1\r\nHost: swpks\r\nConnection: close\r\n\r\n")
            assert control.recv(12) == b"HTTP/1.1 200"


def test_a_passed_socket_for_nobody_is_refused(tmp_path: Path) -> None:
    """Better no server than one that listens where nobody thinks it does."""
    with listening(tmp_path / "x") as passed, Managed(tmp_path, ["gamma"], [passed]) as managed:
        assert managed.process.wait(20) == 2
        assert managed.process.stderr is not None
        assert b"a socket was passed under the name 'gamma'" in managed.process.stderr.read()


def test_no_secret_is_ever_written_down(server: ServerProcess) -> None:
    """R-42's habit from the start: no password, object, key or proof in log, arguments or error text."""
    password, canary = b"canary-password-7391", b"canary-object-5527"
    server.options = ["--log-level", "debug", "--listen", "tcp:127.0.0.1:0"]
    server.start()
    key = server.access_key("alpha")
    with pytest.raises(OpenRefused):
        BlockingChannel.connect(
            ("127.0.0.1", server.ready["tcp_port"]), partition=1, access_key=bytes(32), timeout=20
        )
    with server.connect_blocking("alpha") as channel:
        known = channel.call(set_password(3, password))
        channel.call(write_with(known._replace(password=password), canary))
        for request in (
            write(canary),
            read(canary),
            set_password(3, password + b"!"),
            set_password(9, password),
        ):
            with pytest.raises(HcallError) as caught:
                channel.call(request)
            assert "canary" not in repr(caught.value)
        channel._socket.send(b"HCAL\x01\x04" + canary + password)
        with pytest.raises(SessionEnded):
            channel.call(read(canary))
    arguments = Path(f"/proc/{server.pid}/cmdline").read_bytes()
    assert server.stop() == 0
    log = server.log
    assert "hcall.refused" in log
    assert "protocol.error" in log
    for secret in (b"canary", password, key, key.hex().encode(), password.hex().encode()):
        assert secret not in log.encode() + arguments


def test_every_refusal_names_its_rule(server: ServerProcess) -> None:
    """A kernel engineer reads in the log which rule was broken and where it is written."""
    server.start()
    with server.connect_blocking("alpha") as channel:
        for request in (read(b"nothing"), set_password(9, b"password")):
            with pytest.raises(HcallError):
                channel.call(request)
    server.stop()
    lines = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    refused = [line for line in lines if line["event"] == "hcall.refused"]
    assert [(line["hcall"], line["status"]) for line in refused] == [
        ("READ_OBJECT", "H_NOT_FOUND"),
        ("SET_PASSWORD", "H_PARAMETER"),
    ]
    for line in refused:
        assert line["partition"] == "alpha"
        assert line["fault"] == "guest"
        assert line["rule"]
        assert line["section"].startswith("spec/")


def test_a_log_that_is_closed_does_not_stop_the_server(server: ServerProcess) -> None:
    """Whoever reads the log may go away."""
    reader, writer = os.pipe()
    ready_reader, ready_writer = os.pipe()
    command = [sys.executable, "-c", MAIN, "serve", "--state", str(server.state), "--partition", "alpha:4"]
    command += ["--ready-fd", str(ready_writer)]
    process = subprocess.Popen(command, stderr=writer, stdout=subprocess.DEVNULL, pass_fds=[ready_writer])
    os.close(writer)
    os.close(ready_writer)
    try:
        with os.fdopen(ready_reader) as ready:
            assert json.loads(ready.readline())["pid"] == process.pid
        os.close(reader)
        with server.connect_blocking("alpha") as channel:
            for _ in range(3):
                with pytest.raises(HcallError):
                    channel.call(read(b"nothing"))
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()


def test_a_server_that_can_not_listen_says_so(server: ServerProcess) -> None:
    """An address that is taken, a descriptor that is no file."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = serve("--state", str(server.state), "--listen", f"tcp:127.0.0.1:{port}")
    assert done.returncode == 2
    assert f"can't listen at 127.0.0.1, port {port}" in done.stderr
    done = serve("--state", str(server.state), "--ready-fd", "77")
    assert done.returncode == 2
    assert "descriptor 77" in done.stderr
    with pytest.raises(ServerFailed):
        ServerProcess(server.state, options=["--nonsense"]).start()
