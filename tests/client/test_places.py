"""Places without a data channel: the error names the reason, the place and the remedy, without a wait."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from hcall_abi.errors import SwpksError
from hcall_abi.frames import MAGIC
from hcall_abi.mistakes import WrongValue
from hcall_abi.rules.rule import Fault
from hcall_client.blocking import BlockingChannel
from hcall_client.blocking_following import FollowingBlockingChannel
from hcall_client.channel import open_channel
from hcall_client.errors import ConnectionLost, NotReached, WrongSocket
from hcall_client.other_ends import OtherEnd
from swpks.cli.lpar_reach import unreached
from swpks.cli.lpar_sought import Sought
from tests.swpks.test_wrong_sockets import KINDS

SECONDS = 20.0
"""The timeout of an opening; the errors come much sooner."""
SOON = 5.0


@pytest.fixture(autouse=True)
def short_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a server sends no HELLO, the client asks for its kind after 0.01 s instead of 0.5 s."""
    monkeypatch.setattr("hcall_client.right_socket.SILENCE", 0.01)


def with_trio(place: Any, timeout: float) -> None:
    async def main() -> None:
        async with open_channel(place, patience=timeout):
            pytest.fail("the channel opened")

    trio.run(main)


Open = Callable[[Any, float], object]
all_clients = pytest.mark.parametrize(
    "opened",
    [
        lambda place, timeout: BlockingChannel.connect(place, timeout=timeout),
        lambda place, timeout: FollowingBlockingChannel(lambda: place, timeout=timeout),
        with_trio,
    ],
    ids=["blocking", "following", "trio"],
)


@contextmanager
def in_background(function: Callable[[], None]) -> Iterator[None]:
    """Run a function in a thread during the block, and raise its error at the end."""
    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(function)
        yield
        done.result(20)


def answer_second(listener: socket.socket, answer: bytes) -> None:
    """Send nothing to the first client, and these bytes to the second one after its request."""
    with listener.accept()[0], listener.accept()[0] as second:
        assert second.recv(4096).startswith(b"GET ")
        second.sendall(answer)


ENDS: dict[OtherEnd, bytes] = {each: KINDS[each][0] for each in KINDS if each is not OtherEnd.DATA}


@all_clients
@pytest.mark.parametrize("kind", ENDS, ids=lambda kind: kind.name)
def test_a_socket_of_another_kind(tmp_path: Path, opened: Open, kind: OtherEnd) -> None:
    """The error soon names the kind, and the sockets that are meant; it shows none of the received bytes."""
    run = tmp_path / "run"
    path = run / ("mobility.sock" if kind is OtherEnd.MOBILITY else "control.sock")
    began = time.monotonic()
    with listens(path) as listener, listens(run / "lpar1.sock"):  # noqa: SIM117 - the thread ends first
        with in_background(lambda: answer_second(listener, ENDS[kind])), pytest.raises(WrongSocket) as caught:
            opened(path, SECONDS)
    assert time.monotonic() - began < SOON
    assert caught.value.found is kind
    right = "DIR/run/NAME.sock, where DIR is" if kind is OtherEnd.MOBILITY else f"{run}/lpar1.sock"
    told = f"{path} is {kind.value}; needed is the data channel of a partition: {right}"
    assert caught.value.message.startswith(told)
    assert "secret" not in str(caught.value)


@all_clients
def test_a_web_server_on_tcp(opened: Open) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        told = f"{host}:{port} is the socket of a web server; needed is the data .*: the ready line of a"
        serve = partial(answer_second, listener, ENDS[OtherEnd.WEB])
        with in_background(serve), pytest.raises(WrongSocket, match=told):
            opened((host, port), SECONDS)


@all_clients
@pytest.mark.parametrize(
    "name,found", [("file", OtherEnd.FILE), ("folder", OtherEnd.FOLDER), ("store", OtherEnd.STORE)]
)
def test_a_file_or_a_folder(tmp_path: Path, opened: Open, name: str, found: OtherEnd) -> None:
    """It is no reason to wait, also if the channel follows its partition."""
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "console.sqlite").touch()
    began = time.monotonic()
    with pytest.raises(
        WrongSocket, match=f"{tmp_path}/{name} is {found.value}; needed is the data"
    ) as caught:
        opened(tmp_path / name, 20.0)
    assert caught.value.found is found
    assert time.monotonic() - began < SOON


def listens(path: Path) -> socket.socket:
    """Return a socket that listens at a path."""
    path.parent.mkdir(exist_ok=True)
    found = socket.socket(socket.AF_UNIX)
    found.bind(str(path))
    found.listen()
    return found


NOWHERE: list[tuple[str, type[OSError], str]] = [
    (
        "none.sock",
        FileNotFoundError,
        r"no socket is there \(at .*none.sock\); start the .* --state DIR",
    ),
    ("dead", ConnectionRefusedError, r"no server listens there \(at .*dead\); start the server"),
    ("file/x", NotADirectoryError, r"a part of the path is a file, .*file/x\); the path is wrong: the data "),
    ("x" * 200, OSError, r"the path has \d{3} bytes, .* 107 at most \(at .*\); use a shorter folder"),
    (
        "state/run/lpar9.sock",
        FileNotFoundError,
        "the system there serves lpar1, and lpar9 is powered off or unknown: "
        "swpks hmc --state .*/state power lpar9 on",
    ),
    (
        "ended/run/lpar1.sock",
        FileNotFoundError,
        "its system does not run: start it by swpks serve --state .*ed",
    ),
]


@all_clients
@pytest.mark.parametrize("name,kind,message", NOWHERE, ids=[row[0][:9] for row in NOWHERE])
def test_a_path_without_a_server(
    tmp_path: Path, opened: Open, name: str, kind: type[OSError], message: str
) -> None:
    """The error is NotReached, with the operator's fault, and the OSError that waiting programs catch.

    It has no words of a library.
    """
    (tmp_path / "file").touch()
    (tmp_path / "ended" / "service-processor").mkdir(parents=True)
    (tmp_path / "ended" / "run").mkdir()
    (tmp_path / "state").mkdir()
    listens(tmp_path / "dead").close()
    run = tmp_path / "state" / "run"
    with (
        listens(run / "control.sock"),
        listens(run / "lpar1.sock"),
        pytest.raises(OSError, match=message) as caught,
    ):
        opened(tmp_path / name, 0.01)
    error = caught.value
    assert isinstance(error, NotReached)
    assert error.fault is Fault.OPERATOR
    if kind is not NotADirectoryError:  # it has no class of its own
        assert isinstance(error, kind)
    assert error.errno
    for words in ("Errno", os.strerror(error.errno), "AF_UNIX"):
        assert words not in str(error)
    # The command has a text of its own, with the reason alone.
    assert "(at " not in str(unreached(Sought(("host", 1), "lpar1", 1.0), error))


@all_clients
def test_an_address_without_a_server(opened: Open) -> None:
    with socket.create_server(("127.0.0.1", 0)) as ended:
        address = ended.getsockname()
    place = f"127.0.0.1:{address[1]}"
    with pytest.raises(
        ConnectionRefusedError, match=rf"no server listens there \(at {place}\); the ready line"
    ):
        opened(address, 0.01)


@all_clients
@pytest.mark.parametrize(
    "place,message",
    [
        ("", "the path of a data channel is empty: write "),
        ("a\0b", "the path of a data channel has a zero byte: write "),
        (("localhost", 65537), "the port of a data channel is 1 to 65535, not 65537"),
        (("localhost", 0), "the port of a data channel is 1 to 65535, not 0"),
    ],
)
def test_no_place_at_all(opened: Open, place: Any, message: str) -> None:
    with pytest.raises(WrongValue, match=message):
        opened(place, 0.01)


@all_clients
def test_a_host_that_is_not_known(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    told = r"no address of this host is known \(at nowhere:1\); correct the name of the host \[operator"
    with pytest.raises(NotReached, match=told):
        opened(("nowhere", 1), 0.01)


@all_clients
def test_a_silent_server(tmp_path: Path, opened: Open) -> None:
    """A server that answers nothing is a timeout still, with its place."""
    told = r"the server did not answer in time \(at .*/silent\); its log says why, or whether it is stopped"
    with listens(tmp_path / "silent"), pytest.raises(TimeoutError, match=told):
        opened(tmp_path / "silent", 0.01)


@all_clients
def test_a_slow_data_channel(tmp_path: Path, opened: Open) -> None:
    """A slow HELLO is waited for: the second connection has found that this is a data channel."""
    with listens(tmp_path / "slow") as listener:

        def serve() -> None:
            first = listener.accept()[0]
            with first:
                with listener.accept()[0] as second:
                    second.sendall(MAGIC + b"\0\1\n")
                    second.recv(4096)
                first.shutdown(socket.SHUT_RDWR)

        lost = r"without GOODBYE \(at .*/slow\); its log says why, or it is another program's"
        with in_background(serve), pytest.raises((ConnectionLost, SwpksError), match=lost):
            opened(tmp_path / "slow", 0.1)


@all_clients
def test_a_slow_data_channel_of_a_system(tmp_path: Path, opened: Open) -> None:
    """It gets no second connection, whose request it would log as a broken rule."""
    run = tmp_path / "run"
    with listens(run / "control.sock"), listens(run / "lpar1.sock") as slow:
        with pytest.raises(TimeoutError):
            opened(run / "lpar1.sock", 0.1)
        slow.setblocking(False)
        slow.accept()[0].close()
        with pytest.raises(BlockingIOError):
            slow.accept()
