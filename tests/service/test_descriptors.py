"""Descriptors of a server: it writes only into those that were passed to it."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from hcall_abi.errors import OperatorError
from hcall_abi.rules import service as rules
from hcall_client.calls import confirm_object_flushed, gen_password, write_object
from hcall_server.data_channel.sockets import passed_sockets
from hcall_server.machine.outlet import give
from hcall_server.process.ready import send_line, take_descriptor
from swpks.testing import ServerProcess
from tests.data_channel.support import read
from tests.service.processes import serve, served

SERVE = [sys.executable, "-m", "swpks", "serve"]


def contents(folder: Path) -> dict[str, bytes]:
    """Return the contents of each file of a state, by path."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def wait_all(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Return the exit status and the standard error of each process."""
    errors = [process.communicate(timeout=30)[1] for process in processes]
    return [(process.returncode, error) for process, error in zip(processes, errors, strict=True)]


@pytest.mark.process
def test_a_number_that_was_not_passed_touches_nothing(server: ServerProcess) -> None:
    """R-21: A ready descriptor that was not passed is refused, and the state does not change.

    Without the check, files of the server would get these numbers. The ready line would be written into
    them.
    """
    server.start()
    with server.connect_blocking("alpha") as channel:
        who = channel.call(gen_password(3, 32))
        channel.call(write_object(who, b"label", b"x"))
        while not channel.call(confirm_object_flushed(who, b"label")).flushed:
            pass
    server.stop()
    before = contents(server.state)
    numbers = ("-1", "3", "5", "8", "99999999999")
    command = [*SERVE, "--state", str(server.state), "--ready-fd"]
    started = [subprocess.Popen([*command, number], stderr=subprocess.PIPE, text=True) for number in numbers]
    for status, error in wait_all(started):
        assert status == 2
        assert "rule ready.descriptor: " in error
        assert "Traceback" not in error
    assert contents(server.state) == before
    server.start()
    with server.connect_blocking("alpha") as channel:
        assert channel.call(read(b"label")).data == b"x"


@pytest.mark.process
def test_a_wrong_descriptor_is_noticed_first(tmp_path: Path) -> None:
    """A wrong ready descriptor is refused before the state is made and before a file is read."""
    done = serve("--state", str(tmp_path / "state"), "--config", "/nowhere", "--ready-fd", "5")
    assert done.returncode == 2
    assert "rule ready.descriptor: " in done.stderr
    assert not (tmp_path / "state").exists()


@pytest.mark.process
def test_a_count_above_what_was_passed_is_refused(tmp_path: Path) -> None:
    """LISTEN_FDS says three, but one socket was passed. The server refuses it."""
    code = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid());"
        "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        copy = os.dup(listener.fileno())
        os.set_inheritable(copy, True)
        command = [sys.executable, "-c", code, str(copy), *SERVE[1:], "--state", str(tmp_path / "state")]
        environment = os.environ | {"LISTEN_FDS": "3"}
        done = subprocess.run(
            command, pass_fds=[copy], env=environment, capture_output=True, text=True, check=False
        )
        os.close(copy)
    assert done.returncode == 2
    assert "rule socket.passed: " in done.stderr
    assert not (tmp_path / "state").exists()


@pytest.mark.process
def test_closed_standard_streams_never_become_files_of_the_state(tmp_path: Path) -> None:
    """R-21: If standard streams are closed, no file of the state gets the numbers 0, 1 or 2.

    Otherwise the log would be written into that file.
    """
    # --debuggable lets this test look into /proc/PID/fd.
    options = ("--log-level", "debug", "--debuggable")
    with served(tmp_path / "state", *options, streams="0<&- 1>&- 2>&-") as server:
        folder = Path(f"/proc/{server.ready['pid']}/fd")
        assert {str((folder / str(number)).readlink()) for number in range(3)} == {"/dev/null"}
        with server.connect() as channel:
            who = channel.call(gen_password(3, 32))
            channel.call(write_object(who, b"label", b"x"))
            while not channel.call(confirm_object_flushed(who, b"label")).flushed:
                pass
        server.process.kill()
        server.process.wait()
    with served(tmp_path / "state") as server, server.connect() as channel:
        assert channel.call(read(b"label")).data == b"x"


@pytest.mark.process
def test_a_fixture_works_without_standard_streams(tmp_path: Path) -> None:
    """`ServerProcess` works in a process whose standard input and output are closed."""
    code = f"from swpks.testing import ServerProcess; from pathlib import Path; import sys; \
        sys.exit(ServerProcess(Path({str(tmp_path / 'state')!r})).start().stop())"
    done = subprocess.run(["sh", "-c", 'exec "$@" 0<&- 1>&-', "sh", sys.executable, "-c", code], check=False)
    assert done.returncode == 0


@pytest.mark.process
@pytest.mark.parametrize("number", [1, 2])
def test_a_standard_stream_that_is_closed_is_no_ready_descriptor(tmp_path: Path, number: int) -> None:
    """A closed standard stream is refused as ready descriptor: another file may have its number."""
    script = f'exec "$@" --ready-fd {number} {number}>&-'
    done = subprocess.run(["sh", "-c", script, "sh", *SERVE, "--state", str(tmp_path / "state")], check=False)
    assert done.returncode == 2
    assert not (tmp_path / "state").exists()


def read_only(folder: Path) -> int:
    """A file that is open for reading."""
    (folder / "file").touch()
    return os.open(folder / "file", os.O_RDONLY)


def unconnected(_: Path) -> int:
    """A listening socket."""
    return socket.create_server(("127.0.0.1", 0)).detach()


KINDS: dict[str, tuple[Callable[[Path], int], str]] = {
    "folder": (lambda folder: os.open(folder, os.O_RDONLY), "not open for writing"),
    "file to read": (read_only, "not open for writing"),
    "listening socket": (unconnected, "not connected"),
    "event counter": (lambda _: os.eventfd(0), "no file, pipe, terminal or socket"),
    "path alone": (lambda folder: os.open(folder, os.O_PATH), "not open for writing"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_descriptor_that_takes_no_line_is_refused(tmp_path: Path, kind: str) -> None:
    """A ready descriptor that takes no line is refused with the reason, and stays open."""
    make, reason = KINDS[kind]
    number = make(tmp_path)
    try:
        os.set_inheritable(number, True)
        with pytest.raises(OperatorError, match=f"descriptor {number}: .*{reason}") as caught:
            take_descriptor(number)
        assert caught.value.rule is rules.READY_DESCRIPTOR
        os.fstat(number)
    finally:
        os.close(number)


@pytest.mark.process
@pytest.mark.parametrize(
    "count,option,said",
    [
        ("1", ["--ready-fd", "3"], "descriptor 3: it is a listening socket of LISTEN_FDS"),
        ("999999999", [], "rule socket.count: LISTEN_FDS is a number of at most four digits"),
    ],
)
def test_passed_sockets_are_refused_for_the_true_reason(
    tmp_path: Path, count: str, option: list[str], said: str
) -> None:
    """The errors for a passed socket as ready descriptor and for a large LISTEN_FDS have the real cause."""
    code = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid());"
        "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        copy = os.dup(listener.fileno())
        command = [sys.executable, "-c", code, str(copy), *SERVE[1:], "--state", str(tmp_path / "state")]
        done = subprocess.run(
            [*command, *option],
            pass_fds=[copy],
            env=os.environ | {"LISTEN_FDS": count},
            capture_output=True,
            text=True,
            check=False,
        )
        os.close(copy)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "state").exists()


def test_a_descriptor_of_this_process_was_not_passed() -> None:
    """A descriptor that this process has opened itself is refused: it was not passed by the caller."""
    reader, writer = os.pipe()
    with pytest.raises(OperatorError, match="was not passed"):
        take_descriptor(writer)
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("socketed", [False, True])
def test_the_line_arrives_and_the_descriptor_is_closed(*, socketed: bool) -> None:
    """The reader gets the line and then the end, because the server leaves no copy of the descriptor open."""
    reader, writer = (each.detach() for each in socket.socketpair()) if socketed else os.pipe()
    os.set_inheritable(writer, True)
    copy = take_descriptor(writer)
    assert not os.get_inheritable(copy)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(writer)
    assert send_line(copy, "{}") is None
    with os.fdopen(reader, "rb") as end:
        assert end.read() == b"{}\n"


def test_a_line_that_nobody_takes_is_told() -> None:
    """If the reader has gone or does not read, the start goes on, and the result has the reason."""
    reader, writer = os.pipe()
    copy = os.dup(writer)
    assert give(writer, bytes(1 << 20), 0.01, close=True) == "nothing was read within 0.01 s"
    os.close(reader)
    assert give(copy, b"line", 20, close=True) == "it takes no more"


def test_a_socket_of_another_family_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """R-01: A passed vsock socket is refused: it has neither file modes nor TCP's options.

    Some kernels lack vsock, so the test changes the family of a TCP socket.
    """
    monkeypatch.setattr("hcall_server.data_channel.sockets.FIRST_PASSED", 200)
    made = partial(socket.socket, socket.AF_VSOCK, socket.SOCK_STREAM)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        os.dup2(listener.fileno(), 200)
    monkeypatch.setattr("hcall_server.data_channel.sockets.socket.socket", made)
    with pytest.raises(OperatorError, match="AF_VSOCK") as caught:
        passed_sockets({"LISTEN_PID": "7", "LISTEN_FDS": "1"}, 7)
    monkeypatch.undo()
    assert caught.value.rule is rules.SOCKET_LISTENS
    os.close(200)


def test_a_refused_socket_leaves_those_before_it_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a passed socket is refused, the passed sockets before it stay open.

    The program that passed the sockets may want to use them again.
    """
    with socket.create_server(("127.0.0.1", 0)) as one, socket.socket() as other:
        first = os.dup(one.fileno())
        os.dup2(first, 200)
        os.dup2(other.fileno(), 201)
        os.close(first)
        monkeypatch.setattr("hcall_server.data_channel.sockets.FIRST_PASSED", 200)
        with pytest.raises(OperatorError, match="descriptor 201"):
            passed_sockets({"LISTEN_PID": "7", "LISTEN_FDS": "2"}, 7)
        for number in (200, 201):
            os.close(number)
