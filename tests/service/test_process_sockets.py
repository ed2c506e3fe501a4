"""The sockets of a server process: over TCP, from a service manager, and at addresses that can't be used."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from hcall_abi.frames import OpenStatus
from hcall_client.blocking import BlockingChannel
from hcall_client.calls import (
    set_password,
)
from hcall_client.console import BlockingConsole, show_health
from hcall_client.errors import OpenRefused
from swpks.testing import ServerFailed, ServerProcess
from tests.data_channel.support import read, write
from tests.service.processes import serve

PASS_ON = """
import os, sys
for n, fd in enumerate(sys.argv[1].split(",")):
    os.dup2(int(fd), 3 + n)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
"""The part of a service manager: descriptors from 3 on, and the process's own number in LISTEN_PID."""

pytestmark = pytest.mark.process


def test_tcp_demands_the_proof(server: ServerProcess) -> None:
    """R-01: OPEN succeeds only with the partition's key. The server proves itself too."""
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
    assert server.stop() == 0
    assert key.hex() not in server.log


def test_a_path_that_is_too_long_is_explained(tmp_path: Path) -> None:
    """If the socket's path is longer than 107 bytes, the error advises a shorter --state."""
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    done = serve("--state", str(deep), "--partition", "a:4")
    assert done.returncode == 2
    assert "choose a shorter --state" in done.stderr


class Managed:
    """A server started as by a service manager: with passed sockets, and a socket for notifications."""

    def __init__(
        self,
        folder: Path,
        names: list[str],
        sockets: list[socket.socket],
        words: Sequence[str] = ("serve", "--partition", "alpha:4"),
    ) -> None:
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
        command += ["-m", "swpks", *words, "--state", str(folder / "state")]
        self.process = subprocess.Popen(
            command, env=environment, pass_fds=numbers, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
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
    """The server uses a socket of LISTEN_FDS and sends READY=1 and STOPPING=1.

    A single socket needs no name.
    """
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
    """A socket for all partitions demands the proof, also if it is a Unix socket.

    The control channel may be passed too.
    """
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
    """A passed socket whose name is no partition is refused."""
    with listening(tmp_path / "x") as passed, Managed(tmp_path, ["gamma"], [passed]) as managed:
        assert managed.process.wait(20) == 2
        assert managed.process.stderr is not None
        assert b"a socket was passed under the name 'gamma'" in managed.process.stderr.read()


def refused(folder: Path, names: list[str], sockets: list[socket.socket]) -> str:
    """Return the error of a server that refuses the sockets."""
    with Managed(folder, names, sockets) as managed:
        _, error = managed.process.communicate(timeout=20)
        assert managed.process.returncode == 2
        return error.decode()


def test_the_control_channel_is_never_open_to_strangers(tmp_path: Path) -> None:
    """R-01: the control channel has no proof, so TCP is refused."""
    with socket.create_server(("127.0.0.1", 0)) as tcp:
        assert "rule socket.control: " in refused(tmp_path, ["control"], [tcp])


def test_an_abstract_name_is_refused(tmp_path: Path) -> None:
    """R-01: A socket with an abstract name is refused: it has no mode, so every user could connect."""
    with socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0swpks-test-{os.getpid()}")
        abstract.listen()
        error = refused(tmp_path, ["alpha"], [abstract])
    assert "rule socket.listens: " in error
    assert "abstract name" in error


def test_a_passed_socket_at_the_place_of_another_is_left_alone(tmp_path: Path) -> None:
    """If a passed socket has the path of a socket that the server would make, the start is refused."""
    run = tmp_path / "state" / "run"
    for folder in (run.parent, run):
        folder.mkdir(mode=0o700)
    with listening(run / "alpha.sock") as passed:
        assert "rule socket.place: " in refused(tmp_path, ["tcp"], [passed])
        assert (run / "alpha.sock").is_socket()


def test_passed_sockets_in_the_state(tmp_path: Path) -> None:
    """A service manager may make the sockets where the server would, in a state that is otherwise empty.

    They have the names of units.  They outlive the server and serve the next one.
    """
    state, found = tmp_path / "state", ["swpks-lpar1.socket", "swpks-control.socket"]
    with ExitStack() as stack:
        sockets = []
        for folder in (state, state / "run"):
            folder.mkdir(mode=0o700)
        for name in ("lpar1", "control"):
            path = state / "run" / f"{name}.sock"
            sockets.append(stack.enter_context(listening(path)))
            path.chmod(0o600)
        for label in (b"first", b"second"):
            words = ["serve", "--partition", "lpar1:64"]
            managed = stack.enter_context(Managed(tmp_path, found, sockets, words))
            assert managed.notices.recv(100) == b"READY=1"
            with BlockingChannel.connect(state / "run" / "lpar1.sock", timeout=20) as channel:
                channel.call(write(label))
            assert BlockingConsole(state / "run" / "control.sock").call(show_health()).ok
            managed.process.terminate()
            assert managed.process.wait(20) == 0
            assert managed.process.stdout is not None
            line = managed.process.stdout.read().decode()
            assert f"is ready: lpar1 at {state / 'run' / 'lpar1.sock'}\n" in line
            managed.notices.close()
            (tmp_path / "notify").unlink()
        assert {path.name for path in (state / "run").iterdir()} == {"lpar1.sock", "control.sock"}


def test_a_server_that_can_not_listen_says_so(server: ServerProcess) -> None:
    """An address in use, a descriptor that is not open, and an unknown option each have a clear error."""
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
