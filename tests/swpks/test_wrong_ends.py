"""Commands with a wrong folder, socket or option: the error names the right one."""

from __future__ import annotations

import argparse
import gc
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

import pytest

from hcall_abi.bounds import LONGEST_SOCKET_PATH
from hcall_abi.calls import Opcode
from hcall_abi.errors import OperatorError
from hcall_abi.frames import MAGIC, HReturn
from hcall_abi.statuses import Status
from hcall_client.request import refused
from hcall_server.console.store import ConsoleStore
from hcall_server.service.locked import LockedState
from hcall_server.service.state import State
from swpks.__main__ import main as first_module
from swpks.bench.run import own_server
from swpks.cli.lpar_advice import advised
from swpks.cli.main import main
from swpks.hmc.names import LINES
from swpks.hmc.store_folder import StoreFolder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The store of a console that is down."""
    folder = tmp_path / "hmc"
    with StoreFolder(folder) as held:
        ConsoleStore(held.database).close()
    return folder


def error_of(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Return the error of a failed command, one line before its rule."""
    assert main(list(map(str, words))) in (1, 2, 3)
    return capsys.readouterr().err


@pytest.mark.parametrize("use, rule", [(State, "state.empty"), (LockedState, "state.exists")])
def test_no_system_is_made_in_a_store(store: Path, use, rule: str) -> None:
    """A new system in a console's store is refused: the console would refuse its store then."""
    before = sorted(store.iterdir())
    with pytest.raises(OperatorError, match="is the store of a management console") as caught:
        use(store)
    assert caught.value.rule.id == rule
    assert sorted(store.iterdir()) == before
    StoreFolder(store).__exit__(None, None, None)


@pytest.mark.parametrize("name", ["control", "a/b", "x" * 40])
def test_a_refused_name_leaves_no_new_system(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A refused name makes no system, else a second start would find one that was never ordered."""
    state = tmp_path / "state"
    assert main(["serve", "--state", str(state), "--partition", f"{name}:64"]) == 2
    assert "name.form" in capsys.readouterr().err
    assert not state.exists()


def test_a_store_that_is_given_as_a_state(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The advice does not start a system in the store."""
    err = error_of(capsys, "hmc", "--state", store, "status")
    assert f"{store} is a console's store: use --store {store}" in err
    assert "swpks serve" not in err
    err = error_of(capsys, "lpar", "--state", store, "lpar1", "ls")
    assert f"{store} is a console's store: name the state of a system" in err


def test_a_state_that_is_given_as_a_store(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The advice does not start a console in the state."""
    (tmp_path / "state1" / "service-processor").mkdir(parents=True)
    for words in (["status"], ["lshmc", "-V"]):
        err = error_of(capfd, "hmc", "--store", tmp_path / "state1", *words)
        assert f"{tmp_path}/state1 is a system's state: use --state {tmp_path}/state1" in err
        assert "hmc serve" not in err


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[None]:
    """A server of another kind at a socket: it sends these bytes to one client, and closes."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            served, _ = listener.accept()
            with served, suppress(ConnectionError):
                served.recv(4096)
                served.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join(20)


ENDS = {
    "this is the data channel of a partition; the control channel is {run}/control.sock": MAGIC + b"\0\1\n",
    "this is a socket of a management console; ": b'{"exit": 1, "say": "secret"}\n',
    "the program that listens there is no control channel": b"SSH-2.0\n",
}


@pytest.mark.parametrize("expected", ENDS)
def test_no_answer_of_another_socket_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], expected: str
) -> None:
    """The answer is described, not printed, because its bytes may be binary."""
    path, answer = tmp_path / "lpar2.sock", ENDS[expected]
    with answering(path, answer):
        err = error_of(capsys, "hmc", "--socket", path, "status")
    assert expected.format(run=tmp_path) in err
    assert answer[:5].decode() not in err
    assert "\\x00" not in err


def test_a_folder_in_place_of_its_control_socket(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error names the folder's socket, not a missing server."""
    err = error_of(capsys, "hmc", "--socket", tmp_path, "status")
    assert f"it is a folder; the socket of a system is {tmp_path}/run/control.sock" in err


def test_a_control_channel_in_place_of_a_data_channel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error names the mistake, because the end of the session alone would not show it."""
    with answering(tmp_path / "control.sock", b""):
        err = error_of(capsys, "lpar", "--socket", tmp_path / "control.sock", "lpar1", "ls")
    assert "is the control channel of a system; the data channel of lpar1 is run/lpar1.sock" in err


@pytest.mark.parametrize(
    "words",
    [["lstskey", "--sealed", "f"], ["chtskey", "-o", "return", "--sealed", "f"], ["chtskey", "-o", "return"]],
    ids=" ".join,
)
def test_a_form_that_only_a_system_has(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """The console's usage has no such form, and names no way to it."""
    monkeypatch.setenv("SWPKS_HMC", str(store))
    for place in ([], ["--store", store]):
        assert "with --state or --socket" in error_of(capsys, "hmc", *place, *words)


def test_a_trace_of_many_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    """A trace of many seeds is refused; earlier it was accepted, and printed nothing."""
    assert "--trace prints the history of one seed" in error_of(
        capsys, "simulate", "--seeds", "0-1", "--trace"
    )


def test_an_empty_path_of_a_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    """An empty path is refused: it comes from an unset variable, and is no working directory."""
    err = error_of(capsys, "qemu", "--partition", "a", "--kernel", "")
    assert "the path of a file is empty" in err
    assert "directory" not in err


def test_the_help_names_the_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """The help names the lines too, although argparse knows only the verbs."""
    with pytest.raises(SystemExit):
        main(["hmc", "--help"])
    assert set(LINES) <= set(capsys.readouterr().out.replace(",", " ").split())


class InterruptedModule(ModuleType):
    """A module whose import is interrupted by Ctrl-C."""

    def __getattr__(self, name: str) -> object:
        raise KeyboardInterrupt


def test_an_interrupt_of_the_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt gives exit status 130, and no traceback."""
    monkeypatch.setitem(sys.modules, "swpks.cli.main", InterruptedModule("swpks.cli.main"))
    try:
        assert first_module() == 130
    finally:
        gc.enable()


ADVICE = {
    "revoke": (Opcode.REVOKE_OBJECT, Status.H_FUNCTION, "level NEXT: swpks serve --firmware NEXT"),
    "rm": (Opcode.REMOVE_OBJECT, Status.H_AUTHORITY, "; or the policy of the object forbids it"),
}


@pytest.mark.parametrize("verb", ADVICE)
def test_a_refusal_has_its_way_out(verb: str) -> None:
    """The refusal names the level, and more reasons than the password."""
    opcode, status, expected = ADVICE[verb]
    args = argparse.Namespace(verb=verb, name="a", state=None, socket=None, password_file=None)
    error = advised(refused(opcode, HReturn(1, status, (0,) * 9, ())), args)
    assert error.message.endswith(expected)


def test_a_call_of_every_level_has_no_level() -> None:
    """A call of every level is refused for another reason, such as a keystore that is off."""
    args = argparse.Namespace(verb="rm", name="a", state=None, socket=None, password_file=None)
    answer = HReturn(1, Status.H_FUNCTION, (0,) * 9, ())
    assert "level" not in advised(refused(Opcode.REMOVE_OBJECT, answer), args).message


class NoServer:
    """Replaces `ServerProcess`: records the state, and starts nothing."""

    def __init__(self, state: Path, _partitions: list[str]) -> None:
        self.state = state

    def start(self) -> None:
        """Start nothing."""

    def stop(self) -> None:
        """Stop nothing."""

    def socket(self, name: str) -> Path:
        """Return the socket path of a server."""
        return self.state / "run" / f"{name}.sock"


def test_a_long_folder_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server of `swpks bench` has a socket path that the kernel accepts."""
    long = tmp_path / ("d" * 120)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    monkeypatch.setattr("swpks.bench.run.ServerProcess", NoServer)
    with own_server() as path:
        assert len(str(path)) <= LONGEST_SOCKET_PATH
        assert path.parents[2].resolve().is_relative_to(long)
