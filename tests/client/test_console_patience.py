"""One timeout bounds a console's call, whether the peer sends nothing or a few bytes now and then."""

from __future__ import annotations

import contextlib
import errno
import math
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock

from hcall_client import blocking, console
from hcall_client.console import PLACES, BlockingConsole, Console, ConsoleUnreachable, show_system
from hcall_client.in_thread import Threads
from hcall_client.patience import LEAST, TOO_LATE, Patience

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 30000000\r\n\r\n"


class Ticks:
    """A clock that advances by a fifth of a second at each reading."""

    seconds = 50.0

    def __call__(self) -> float:
        self.seconds += 0.2
        return self.seconds


class Clock:
    """A clock that a test sets."""

    seconds = 50.0

    def __call__(self) -> float:
        return self.seconds


@contextlib.contextmanager
def peer(path: Path, serve: Callable[[socket.socket], object]) -> Iterator[None]:
    """A listener; a thread serves its first connection with `serve`."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def work() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                serve(connection)

        thread = threading.Thread(target=work)
        thread.start()
        yield
        thread.join(20)
        assert not thread.is_alive()


def trickle(connection: socket.socket) -> None:
    """Send an answer without an end, byte by byte."""
    connection.recv(65536)
    connection.sendall(HEAD)
    while True:
        connection.sendall(b" ")


def answer(connection: socket.socket) -> None:
    """Answer in three pieces: too many for a client that has time for two."""
    connection.recv(65536)
    for piece in (HEAD, b" ", b" "):
        connection.sendall(piece)
    listen(connection)


def listen(connection: socket.socket) -> None:
    """Receive, and send nothing."""
    while connection.recv(65536):
        pass


def blocking_call(path: Path) -> None:
    """Call with a timeout of 0.1 seconds."""
    BlockingConsole(path, 0.1).call(show_system())


def call_with_trio(path: Path) -> None:
    """Call with the same timeout on Trio."""
    trio.run(Console(path, 0.1).call, show_system())


@pytest.mark.parametrize("serve", [trickle, listen])
@pytest.mark.parametrize("call", [blocking_call, call_with_trio])
def test_a_call_ends_in_time(
    tmp_path: Path, serve: Callable[[socket.socket], object], call: Callable[[Path], object]
) -> None:
    """A call ends at its timeout, although the server sends a byte from time to time, or nothing."""
    path = tmp_path / "control.sock"
    with peer(path, serve), pytest.raises(ConsoleUnreachable, match=TOO_LATE):
        call(path)


def test_a_connection_leaves_less_time_for_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One timeout covers all steps: the time that an earlier step uses is missing in the later steps."""
    path, clock, waits = tmp_path / "control.sock", Clock(), list[float]()
    look = Patience.look

    def noted(patience: Patience, longest: float = 1.0) -> float | None:
        wait = look(patience, math.inf)
        waits.append(wait or 0.0)
        clock.seconds += 4
        return wait

    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=clock))
    monkeypatch.setattr(Patience, "look", noted)
    with peer(path, answer), pytest.raises(ConsoleUnreachable, match=TOO_LATE):
        BlockingConsole(path, 10).call(show_system())
    assert waits[:3] == [10, 6, 2]


def test_a_request_that_is_not_taken_ends_in_time(tmp_path: Path) -> None:
    """If the socket's buffer is full and the server reads nothing, the request ends at its timeout."""
    from hcall_client.patient_http import UnixConnection

    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        connection = UnixConnection("swpks", str(path), Patience(0.1, Ticks()))
        with contextlib.closing(connection), pytest.raises(TimeoutError, match=TOO_LATE):
            connection.request("POST", "/", bytes(1 << 22))


async def test_a_transport_ends_in_time(autojump_clock: MockClock) -> None:
    """The timeout also holds for a transport that has no timeouts itself."""

    class Silent(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await trio.sleep_forever()
            raise AssertionError

    with pytest.raises(ConsoleUnreachable, match=TOO_LATE):
        await Console(Silent(), 30).call(show_system())
    assert trio.current_time() == pytest.approx(30)


async def test_a_place_is_waited_for_in_time(autojump_clock: MockClock) -> None:
    """If two hundred calls run at once, those that wait for a thread end at their own timeouts."""
    threads, ended = Threads(1), 0

    async def call() -> None:
        nonlocal ended
        with pytest.raises(TimeoutError, match=TOO_LATE):
            await threads.run(lambda: pytest.fail("no place was free"), Patience(30, lambda: 0.0))
        ended += 1

    async with threads.places, trio.open_nursery() as nursery:
        for _ in range(200):
            nursery.start_soon(call)
    assert ended == 200
    assert trio.current_time() == pytest.approx(30)
    assert threads.places.borrowed_tokens == 0


async def test_a_console_takes_no_places_of_others(tmp_path: Path) -> None:
    """If Trio's default limiter is used up, calls of a console still run."""
    default = trio.to_thread.current_default_thread_limiter()
    borrowers = [object() for _ in range(int(default.total_tokens))]
    for each in borrowers:
        default.acquire_on_behalf_of_nowait(each)
    with pytest.raises(ConsoleUnreachable, match=r"No such file"), trio.fail_after(20):
        await Console(tmp_path / "none").call(show_system())
    for each in borrowers:
        default.release_on_behalf_of(each)
    assert PLACES == 32


# Addresses


class Address:
    """A socket of a simulated network. An "address" is a function that `connect` calls."""

    made: list[Address]

    def __init__(self, *_: object) -> None:
        self.timeout: float | None = None
        self.closed = False
        Address.made.append(self)

    def settimeout(self, seconds: float | None) -> None:
        self.timeout = seconds

    def connect(self, address: Callable[[Address], None]) -> None:
        address(self)

    def setsockopt(self, *_: object) -> None:
        """Accept every option."""

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Address]]:
    """Return a function that connects to a host with the given kinds of addresses and returns its sockets.

    The timeout is ten seconds; None means no timeout.
    """
    clock = Clock()

    def silent(sock: Address) -> None:
        clock.seconds += sock.timeout or 130.0
        raise TimeoutError("timed out")

    def refusing(_: Address) -> None:
        raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")

    kinds: dict[str, Callable[[Address], None]] = {
        "silent": silent,
        "refusing": refusing,
        "open": lambda _: None,
    }

    def made(*names: str, seconds: float | None = 10.0, resolving: float = 0.0) -> list[Address]:
        Address.made = []
        found = [(0, 0, 0, "", kinds[name]) for name in names]

        def resolve(*_: object, **__: object) -> list[Any]:
            clock.seconds += resolving
            return found

        fake = SimpleNamespace(**vars(socket) | {"socket": Address, "getaddrinfo": resolve})
        monkeypatch.setattr(blocking, "socket", fake)
        with contextlib.suppress(OSError):
            blocking._connect_tcp("host", 1, Patience(seconds, clock))
        return Address.made

    return made


def test_an_address_that_never_answers_leaves_time_for_the_next(connect: Any) -> None:
    """Each address gets an equal share of the time left. If one refuses early, the others get its share."""
    assert [each.timeout for each in connect("silent", "silent", "open")] == pytest.approx([10 / 3] * 3)
    assert [each.timeout for each in connect("refusing", "silent", "open")] == pytest.approx([10 / 3, 5, 5])
    assert [each.timeout for each in connect("silent", "open", resolving=9)] == pytest.approx([0.5, 0.5])
    assert [each.timeout for each in connect("silent", "open", resolving=10)] == [LEAST, LEAST]
    assert [each.timeout for each in connect("silent", "open", seconds=None)] == [None, None]
    assert [each.closed for each in connect("refusing", "open", "open")] == [True, False]
    assert [each.closed for each in connect("silent", "refusing")] == [True, True]


def test_the_second_address_of_a_name_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """On real sockets the first address refuses, and the console connects to the second."""
    with socket.create_server(("127.0.0.1", 0)) as dead:
        unused = dead.getsockname()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kind = (socket.AF_INET, socket.SOCK_STREAM, 0, "")
        found = [(*kind, address) for address in (unused, listener.getsockname())]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        with blocking._connect_tcp("host", 1, Patience(20, Ticks())) as connected:
            assert connected.getpeername() == listener.getsockname()
