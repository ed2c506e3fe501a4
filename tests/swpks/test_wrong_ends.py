"""Commands with a wrong folder, socket or option: the error names the right one."""

from __future__ import annotations

import argparse
import gc
import re
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
from hcall_client.console import BlockingConsole, ConsoleUnreachable, show_system
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
from tests.swpks.commands import parser


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The store of a console that does not run."""
    folder = tmp_path / "hmc"
    with StoreFolder(folder) as held:
        ConsoleStore(held.database).close()
    return folder


def error_of(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Return the error of a command that must fail; the error is one line, with its rule at the end."""
    assert main(list(map(str, words))) in (1, 2, 3)
    return capsys.readouterr().err


@pytest.mark.parametrize("use, rule", [(State, "state.empty"), (LockedState, "state.exists")])
def test_no_system_is_made_in_a_store(store: Path, use, rule: str) -> None:
    """No system is made in a console's store. The store stays unchanged and still opens."""
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
    """If a start refuses a partition's name, it makes no system."""
    state = tmp_path / "state"
    assert main(["serve", "--state", str(state), "--partition", f"{name}:64"]) == 2
    assert "name.form" in capsys.readouterr().err
    assert not state.exists()


def test_a_store_that_is_given_as_a_state(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If --state names a console's store, the error does not advise to start a system in it."""
    err = error_of(capsys, "hmc", "--state", store, "status")
    assert f"{store} is a console's store: use --store {store}" in err
    assert "swpks serve" not in err
    err = error_of(capsys, "lpar", "--state", store, "lpar1", "ls")
    assert f"{store} is a console's store: name the state of a system" in err


def test_a_state_that_is_given_as_a_store(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """If --store names a system's state, the error does not advise to start a console in it."""
    (tmp_path / "state1" / "service-processor").mkdir(parents=True)
    for words in (["status"], ["lshmc", "-V"]):
        err = error_of(capfd, "hmc", "--store", tmp_path / "state1", *words)
        assert f"{tmp_path}/state1 is a system's state: use --state {tmp_path}/state1" in err
        assert "hmc serve" not in err


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[None]:
    """Listen at a socket as another kind of server: answer one request with these bytes, then close.

    If the bytes are a HELLO of the data channel, they are sent before the request.
    """
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            served, _ = listener.accept()
            with served, suppress(ConnectionError):
                if greets := answer.startswith(MAGIC):
                    served.sendall(answer)
                served.recv(4096)
                if not greets:
                    served.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join(20)


GREETING = MAGIC + b"\0\1\n"
ANSWERS = {
    "the data channel of a partition (swpks lpar NAME --socket {path})": GREETING,
    "the control channel of a system (swpks hmc --socket {path})": b"HTTP/1.1 404 \r\n"
    b"content-type: application/problem+json\r\n\r\n",
    "the socket of a web server": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "the socket of a management console (swpks hmc --store {above})": b'{"exit": 1, "say": "secret"}\n',
    "the where socket of a management console (swpks qemu --where {path})": b"error: no system has it\n",
}
"""The kind and the use of each socket in an error, and its answer to a request of another protocol."""
LPAR = ("lpar", "lpar1", "ls", "--socket")
BENCH = ("bench", "--socket")
HMC = ("hmc", "status", "--socket")
DATA = "this command needs the data channel of a partition: "
CONTROL = "this command needs the control channel of a system: "


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands wait only 50 ms for bytes from a silent socket."""
    monkeypatch.setattr("swpks.cli.wrong_socket.SILENCE", 0.05)


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("words", [LPAR, BENCH, HMC], ids=lambda words: words[0])
@pytest.mark.parametrize("kind", ANSWERS)
def test_a_socket_of_another_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, words: tuple[str, ...]
) -> None:
    """The error names the kind of socket, which follows from its answer. It prints no bytes of the answer."""
    path, own = tmp_path / "s" / "any.sock", "control" if words is HMC else "data"
    if kind.startswith(f"the {own} channel") or (words is HMC and "web" in kind):
        # This test has nothing to check if the socket has the right kind, or speaks HTTP like `swpks hmc`.
        return
    path.parent.mkdir()
    with answering(path, ANSWERS[kind]):
        err = error_of(capsys, *words, path)
    assert f": {path} is {kind.format(path=path, above=tmp_path)}; this command needs the {own} ch" in err
    assert err.count("\n") == 1
    assert "rule command.socket" in err
    assert not any(each in err for each in ("\\x00", "secret", "no system"))


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("words", [LPAR, BENCH, HMC], ids=lambda words: words[0])
def test_a_mobility_channel_closes_without_an_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    """A mobility channel closes without an answer. So its file name decides its kind, even through a link."""
    link = tmp_path / "any.sock"
    link.symlink_to("mobility.sock")
    with answering(tmp_path / "mobility.sock", b""):
        err = error_of(capsys, *words, link)
    assert f": {link} is the mobility channel of a system (it is for other systems alone); " in err


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("words", [LPAR, BENCH], ids=lambda words: words[0])
def test_a_name_alone_makes_no_mobility_channel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    """A socket with another name that closes without an answer is not called a mobility channel."""
    with answering(tmp_path / "control.sock", b""):
        err = error_of(capsys, *words, tmp_path / "control.sock")
    assert "control.sock is a socket that closes without an answer" in err


@pytest.mark.parametrize("words, needed", [(LPAR, DATA), (BENCH, DATA), (HMC, CONTROL)])
def test_a_file_or_folder_in_place_of_a_socket(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], needed: str
) -> None:
    """If --socket is a file or a folder, the error says what it is, and which option is meant for it."""
    things = {name: tmp_path / name for name in ("plain", "folder", "state", "store")}
    for folder in ("folder", "state/service-processor", "store"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("plain", "store/console.sqlite"):
        (tmp_path / file).touch()
    kinds = {
        "plain": "a file and no socket",
        "folder": "a folder",
        "state": "the state folder of a system "
        f"(swpks hmc or swpks lpar NAME, with --state {tmp_path}/state)",
        "store": f"the store of a management console (swpks hmc --store {tmp_path}/store)",
    }
    for name, kind in kinds.items():
        assert f": {things[name]} is {kind}; {needed}" in error_of(capsys, *words, things[name])


def test_the_needed_socket_is_named_if_it_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If the needed socket is in the same folder, the error names it."""
    run = tmp_path / "run"
    run.mkdir()
    with socket.socket(socket.AF_UNIX) as data, socket.socket(socket.AF_UNIX) as control:
        data.bind(str(run / "lpar1.sock"))
        control.bind(str(run / "control.sock"))
        assert f"{DATA}--socket {run}/lpar1.sock [" in error_of(capsys, *LPAR, tmp_path)
        assert f"{CONTROL}--socket {run}/control.sock [" in error_of(capsys, *HMC, tmp_path)
        assert f"{DATA}--socket DIR/run/NAME.sock, where DIR is the state folder of a system [" in error_of(
            capsys, *BENCH, tmp_path
        )


@pytest.mark.usefixtures("soon")
def test_a_program_of_another_protocol(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If another program listens at the socket, the error says so, and proposes no option."""
    with answering(tmp_path / "a.sock", b"SSH-2.0\n"):
        err = error_of(capsys, *HMC, tmp_path / "a.sock")
    assert "the program that listens there is no control channel" in err
    assert "SSH" not in err


CONTROL_ENDS = {
    "this is the data channel of a partition; the control channel is {run}/control.sock": GREETING,
    "this is the socket of a management console; the control channel of a system is its run/c": b"{}\n",
}


@pytest.mark.parametrize("expected", CONTROL_ENDS)
def test_a_program_learns_the_kind_as_well(tmp_path: Path, expected: str) -> None:
    """In a program, the error of `BlockingConsole` names the kind of socket and the path of the right one."""
    with (
        answering(tmp_path / "a.sock", CONTROL_ENDS[expected]),
        pytest.raises(ConsoleUnreachable, match=re.escape(expected.format(run=tmp_path))),
    ):
        BlockingConsole(tmp_path / "a.sock").call(show_system())
    with pytest.raises(ConsoleUnreachable, match=f"it is a folder; .* is {tmp_path}/run/control.sock"):
        BlockingConsole(tmp_path).call(show_system())


@pytest.mark.parametrize(
    "words",
    [["lstskey", "--sealed", "f"], ["chtskey", "-o", "return", "--sealed", "f"], ["chtskey", "-o", "return"]],
    ids=" ".join,
)
def test_a_form_that_only_a_system_has(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """If a line works only at a system, the error at a console says: with --state or --socket."""
    monkeypatch.setenv("SWPKS_HMC", str(store))
    for place in ([], ["--store", store]):
        assert "with --state or --socket" in error_of(capsys, "hmc", *place, *words)


def test_a_trace_of_many_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    """`swpks simulate --trace` refuses several seeds."""
    assert "--trace prints the history of one seed" in error_of(
        capsys, "simulate", "--seeds", "0-1", "--trace"
    )


def test_an_empty_path_of_a_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    """An empty path for --kernel is refused as empty, and not taken for the working directory."""
    err = error_of(capsys, "qemu", "--partition", "a", "--kernel", "")
    assert "the path of a file is empty" in err
    assert "directory" not in err


def test_the_help_names_the_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """The help of `swpks hmc` lists the console's lines, although argparse knows only its verbs."""
    with pytest.raises(SystemExit):
        main(["hmc", "--help"])
    assert set(LINES) <= set(capsys.readouterr().out.replace(",", " ").split())


class InterruptedModule(ModuleType):
    """A module whose import raises KeyboardInterrupt, as after Ctrl-C."""

    def __getattr__(self, name: str) -> object:
        raise KeyboardInterrupt


def test_an_interrupt_of_the_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """If Ctrl-C interrupts an import, the command ends with status 130 and no traceback."""
    monkeypatch.setitem(sys.modules, "swpks.cli.main", InterruptedModule("swpks.cli.main"))
    try:
        assert first_module() == 130
    finally:
        gc.enable()


def parsed(verb: str) -> argparse.Namespace:
    """Return the options of `swpks lpar lpar1 VERB x`, without a state from the environment."""
    args = parser().parse_args(["lpar", "lpar1", verb, "x"])
    # The environment may set SWPKS_STATE, so the state is removed.
    args.state = None
    return args


ADVICE = {
    "revoke": (
        Opcode.REVOKE_OBJECT,
        Status.H_FUNCTION,
        "if its level is below NEXT: `swpks serve --firmware NEXT`",
    ),
    "rm": (Opcode.REMOVE_OBJECT, Status.H_AUTHORITY, "; or the policy of the object forbids it"),
}


@pytest.mark.parametrize("verb", ADVICE)
def test_a_refusal_has_its_way_out(verb: str) -> None:
    """The error of a refused call says what the operator can check, such as the level or the password."""
    opcode, status, expected = ADVICE[verb]
    error = advised(refused(opcode, HReturn(1, status, (0,) * 9, ())), parsed(verb))
    assert error.message.endswith(expected)


def test_the_size_of_a_partition_behind_an_equals_sign(capsys: pytest.CaptureFixture[str]) -> None:
    """For `--partition NAME=KBYTES` the error shows the right form, NAME:KBYTES."""
    err = error_of(capsys, "serve", "--state", "nowhere", "--partition", "lpar1=64")
    assert "partition 'lpar1=64': the form is NAME:KBYTES, with a colon" in err
    assert "partition.form" in err


def test_a_call_of_every_level_has_no_level() -> None:
    """A call of every level is refused for another reason, such as a keystore that is off."""
    answer = HReturn(1, Status.H_FUNCTION, (0,) * 9, ())
    assert "level" not in advised(refused(Opcode.REMOVE_OBJECT, answer), parsed("rm")).message


class NoServer:
    """A stand-in for `ServerProcess`: it records the state's path, and starts nothing."""

    def __init__(self, state: Path, _partitions: list[str]) -> None:
        self.state = state

    def start(self) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""

    def socket(self, name: str) -> Path:
        """Return the path of a socket in the state."""
        return self.state / "run" / f"{name}.sock"


def test_a_long_folder_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a long TMPDIR, the server of `swpks bench` still gets a socket path that the kernel accepts."""
    long = tmp_path / ("d" * 120)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    monkeypatch.setattr("swpks.bench.run.ServerProcess", NoServer)
    with own_server() as path:
        assert len(str(path)) <= LONGEST_SOCKET_PATH
        assert path.parents[2].resolve().is_relative_to(long)
