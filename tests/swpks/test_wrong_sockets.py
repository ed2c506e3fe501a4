"""A function or command gets the wrong kind of socket. The error names the kind and the right option."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from hcall_abi.frames import MAGIC
from hcall_client.errors import WrongSocket
from hcall_client.other_ends import OtherEnd
from hcall_client.where import locate_at
from swpks.cli.main import main

HTTP = b"HTTP/1.1 404 \r\ncontent-type: application/problem+json\r\n\r\n"
GREETING = MAGIC + b"\0\1\n"
SECONDS = 0.5


@contextmanager
def served(path: Path, answer: bytes, *, at_once: bool = False) -> Iterator[None]:
    """A server that answers each HTTP request with these bytes, and is silent to anything else.

    With `at_once` it answers anything. If the bytes are a HELLO, it sends them at once, without a request.
    """
    kept: list[socket.socket] = []

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                asked, _ = listener.accept()
                kept.append(asked)
                if answer.startswith(MAGIC):
                    asked.sendall(answer)
                elif asked.recv(4096).startswith(b"GET ") or at_once:
                    asked.sendall(answer)
                    asked.shutdown(socket.SHUT_WR)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=serve, args=[listener])
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(20)
            for each in kept:
                each.close()


KINDS = {
    OtherEnd.DATA: (GREETING, False),
    OtherEnd.CONTROL: (HTTP, False),
    OtherEnd.CONSOLE: (b'{"say": "secret"}\n{"exit": 1}\n', True),
    OtherEnd.WEB: (b"HTTP/1.1 400 Bad Request\r\n\r\n", True),
    OtherEnd.OTHER: (b"SSH-2.0 secret\r\n", True),
    OtherEnd.MOBILITY: (b"", True),
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_place_from_another_socket(tmp_path: Path, kind: OtherEnd) -> None:
    """For each other kind of socket, the error soon names the kind and the rule.

    It shows none of the bytes that the socket has sent.
    """
    path = tmp_path / ("mobility.sock" if kind is OtherEnd.MOBILITY else "any.sock")
    answer, at_once = KINDS[kind]
    began = time.monotonic()
    with served(path, answer, at_once=at_once), pytest.raises(WrongSocket) as caught:
        locate_at(path, "lpar1", SECONDS)()
    assert time.monotonic() - began < SECONDS
    assert caught.value.found is kind
    assert f"{path} is {kind.value}; needed is the where socket of a management" in str(caught.value)
    assert "STORE/run/where.sock [operator fault; rule command.socket" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_place_from_a_folder(tmp_path: Path) -> None:
    """For the folder of a console's store, the error names the where socket in this folder."""
    (tmp_path / "console.sqlite").touch()
    with pytest.raises(WrongSocket, match=f"is the store of a .*: {tmp_path}/run/where.sock"):
        locate_at(tmp_path, "lpar1")()


def test_a_slow_console_is_waited_for(tmp_path: Path) -> None:
    """If a console is slow, a second connection finds out that its socket is a where socket.

    The client then waits for the late answer.
    """
    path = tmp_path / "where.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            first = listener.accept()[0]
            with first, listener.accept()[0] as second:
                assert second.recv(4096).startswith(b"GET ")
                second.sendall(b"error: no system has it\n")
                assert first.recv(4096) == b"lpar1\n"
                first.sendall(b"unix:/a/lpar1.sock\n")

        thread = threading.Thread(target=serve)
        thread.start()
        assert locate_at(path, "lpar1", SECONDS)() == "/a/lpar1.sock"
        thread.join()


def test_the_where_socket_of_a_kernel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If `swpks qemu` gets another kind of socket, it starts nothing. The error names --where."""
    run = tmp_path / "run"
    run.mkdir()
    words = ["qemu", "--partition", "lpar1", "--kernel", "none", "--state", str(tmp_path / "s"), "--where"]
    with served(run / "any.sock", GREETING):
        assert main([*words, str(run / "any.sock")]) == 2
        err = capsys.readouterr().err
        use = f"(swpks lpar NAME --socket {run}/any.sock); this command needs the where socket of a manage"
        assert f"any.sock is {OtherEnd.DATA.value} {use}ment console: --where STORE/run/where.sock, wh" in err
        with socket.socket(socket.AF_UNIX) as where:
            where.bind(str(run / "where.sock"))
            assert main([*words, str(run / "any.sock")]) == 2
    assert f"{use}ment console: --where {run}/where.sock [" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_a_silent_where_socket_of_a_kernel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the console does not answer, `swpks qemu` says so and starts no guest."""
    monkeypatch.setattr("swpks.cli.wrong_socket.locate_at", partial(locate_at, seconds=0.05))
    path = tmp_path / "where.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        words = ["qemu", "--partition", "lpar1", "--kernel", "none", "--where", str(path)]
        assert main(words) != 0
    assert f"{path}: the console does not answer: its log says why" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["CONTROL", "CONSOLE"])
def test_a_judge_of_another_socket(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """For another kind of socket, the error of the judge of servers names the kind and --connect."""
    monkeypatch.setattr("swpks.cli.conformance_server.PATIENCE", 0.05)
    end = OtherEnd[kind]
    with served(tmp_path / "any.sock", KINDS[end][0]):
        assert main(["conformance", "server", "--connect", f"unix:{tmp_path}/any.sock"]) == 2
    captured = capsys.readouterr()
    assert f"any.sock is {end.value} (swpks hmc --" in captured.err
    assert "the data channel of a partition: --connect unix:DIR/run/NAME.sock, where DIR" in captured.err
    assert captured.out == ""


def test_the_where_socket_in_a_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a socket at STATE/run/where.sock, the error is about the folder of the state."""
    (tmp_path / "service-processor").mkdir()
    words = ["qemu", "--partition", "lpar1", "--kernel", "none", "--where"]
    assert main([*words, str(tmp_path / "run" / "where.sock")]) == 2
    err = capsys.readouterr().err
    assert f": {tmp_path} is the state folder of a system (" in err
    assert f"with --state {tmp_path}); this command needs the where socket" in err
    assert "--where STORE/run/where.sock, where STORE is the store of a console" in err
