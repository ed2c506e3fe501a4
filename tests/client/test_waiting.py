"""If a server has no free place, clients wait for one within their timeouts (spec/protocol.md#waiting).

A client process may be stopped and continued. The time of the stop counts in no timeout, so the client
still accepts an answer that came in time.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from hcall_abi.errors import SwpksError
from hcall_abi.frames import Goodbye, GoodbyeReason, OpenStatus
from hcall_client.blocking import BlockingChannel
from hcall_client.calls import raw_call
from hcall_client.channel import open_channel
from hcall_client.console import BlockingConsole, Console, ConsoleUnreachable, show_system
from hcall_client.errors import ConnectionLost, OpenRefused, SessionEnded
from hcall_client.patience import COUNTED, LAST_PAUSE, Attempts, Patience
from swpks.cli.main import main
from tests.client.peer import HELLO, Closed, Peer, answer, scripted

Open = Callable[[Any, float | None], int]
"""Opens a session at a target within a timeout and returns the partition's number."""


def blocking(target: Any, seconds: float | None) -> int:
    """The blocking client."""
    with BlockingChannel.connect(target, timeout=seconds) as channel:
        return channel.partition


def with_trio(target: Any, seconds: float | None) -> int:
    """The client on Trio."""

    async def talk() -> int:
        async with open_channel(target, patience=seconds) as channel:
            return channel.partition

    return trio.run(talk)


both = pytest.mark.parametrize("opened", [blocking, with_trio])


class Listener:
    """A server that runs one script for each connection, in order; the last script serves all later ones."""

    def __init__(self, path: Path, *scripts: Callable[[Peer], Any], backlog: int = 64) -> None:
        self.path = path
        self.count = 0
        self._scripts = scripts
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen(backlog)

    async def _serve(self, stream: trio.SocketStream) -> None:
        script = self._scripts[min(self.count, len(self._scripts) - 1)]
        self.count += 1
        async with stream:
            # The client may have closed the connection before.
            with contextlib.suppress(trio.BrokenResourceError, Closed):
                await script(Peer(stream))

    async def _listen(self) -> None:
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(self._socket))
        await trio.serve_listeners(self._serve, [listener])

    @contextlib.contextmanager
    def serving(self) -> Iterator[Path]:
        """Serve for the length of a block, in a thread."""
        token: list[tuple[trio.lowlevel.TrioToken, trio.CancelScope]] = []
        started = threading.Event()

        async def run() -> None:
            with trio.CancelScope() as scope:
                token.append((trio.lowlevel.current_trio_token(), scope))
                started.set()
                await self._listen()

        thread = threading.Thread(target=trio.run, args=(run,))
        thread.start()
        started.wait(10)
        try:
            yield self.path
        finally:
            ((loop, scope),) = token
            loop.run_sync_soon(scope.cancel)
            thread.join(10)


async def full(peer: Peer) -> None:
    """A partition that has no place for a session."""
    await peer.greet(status=OpenStatus.TOO_MANY_SESSIONS)


async def crowded(peer: Peer) -> None:
    """A listener that ends this connection, to give its place to a newer one."""
    await peer.send(HELLO, Goodbye(GoodbyeReason.IDLE_TOO_LONG, "too many connections wait for OPEN"))


async def serves(peer: Peer) -> None:
    """A server with a place."""
    await peer.greet()
    await peer.goodbye()


@both
@pytest.mark.parametrize("refuse", [full, crowded])
def test_a_refusal_for_lack_of_a_place_is_repeated(tmp_path: Path, opened: Open, refuse: Any) -> None:
    """If the server has no free place, the client opens again until its timeout.

    This is safe, because no call runs before OPENED.
    """
    listener = Listener(tmp_path / "s", refuse, refuse, serves)
    with listener.serving() as path:
        assert opened(path, 30) == 7
    assert listener.count == 3


@both
@pytest.mark.parametrize(
    "refuse,error,match", [(full, OpenRefused, "TOO_MANY_SESSIONS"), (crowded, SessionEnded, "wait for OPEN")]
)
def test_the_last_refusal_is_raised_when_the_time_is_over(
    tmp_path: Path, opened: Open, refuse: Any, error: type[SwpksError], match: str
) -> None:
    """At the timeout the client raises the last refusal, which has the reason.

    Without a timeout the client raises the first refusal at once.
    """
    listener = Listener(tmp_path / "s", refuse)
    with listener.serving() as path:
        with pytest.raises(error, match=match):
            opened(path, None)
        assert listener.count == 1
        with pytest.raises(error, match=match):
            opened(path, 0.1)
        assert listener.count > 1


async def stopping(peer: Peer) -> None:
    await peer.send(HELLO, Goodbye(GoodbyeReason.SERVER_STOPPING, "the server stops"))


async def refusing_proof(peer: Peer) -> None:
    await peer.greet(status=OpenStatus.NOT_AUTHORISED)


async def off(peer: Peer) -> None:
    await peer.greet(status=OpenStatus.NOT_ACTIVATED)


async def gone(peer: Peer) -> None:
    await peer.send(HELLO)


@both
@pytest.mark.parametrize(
    "script,error",
    [(stopping, SessionEnded), (refusing_proof, OpenRefused), (off, OpenRefused), (gone, ConnectionLost)],
)
def test_no_other_refusal_is_repeated(
    tmp_path: Path, opened: Open, script: Any, error: type[SwpksError]
) -> None:
    """A client opens only once if the key is wrong, the partition is off, or the server stops.

    These troubles do not pass by themselves.
    """
    listener = Listener(tmp_path / "s", script)
    with listener.serving() as path, pytest.raises(error):
        opened(path, 30)
    assert listener.count == 1


@both
def test_nobody_there_is_no_reason_to_wait(tmp_path: Path, opened: Open) -> None:
    """After ECONNREFUSED or ENOENT the client does not wait, because no server listens."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead"))
    places = (("dead", errno.ECONNREFUSED, "no server listens"), ("none", errno.ENOENT, "no socket is"))
    for name, number, reason in places:
        with pytest.raises(type(OSError(number, "")), match=f"{reason} there .at .*/{name}") as caught:
            opened(tmp_path / name, 30)
        assert caught.value.errno == number


@both
@pytest.mark.parametrize("patience", [30, None])
def test_a_full_queue_is_waited_for(
    tmp_path: Path, opened: Open, patience: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a non-blocking socket, connect() to a full queue fails with EAGAIN.

    The client waits and tries again.
    """
    listener = Listener(tmp_path / "s", serves, backlog=0)
    waits, outcome = threading.Event(), list[int]()
    pause_after = Attempts.pause_after

    def noticed(attempts: Attempts, error: Exception) -> float:
        waits.set()
        return pause_after(attempts, error)

    with socket.socket(socket.AF_UNIX) as first:
        first.connect(str(listener.path))
        with pytest.raises(TimeoutError, match="full all the time"):
            opened(listener.path, 0.05)
        monkeypatch.setattr(Attempts, "pause_after", noticed)
        thread = threading.Thread(target=lambda: outcome.append(opened(listener.path, patience)))
        thread.start()
        assert waits.wait(10)
    with listener.serving():
        thread.join(10)
    assert outcome == [7]


@contextlib.contextmanager
def full_queue(path: Path) -> Iterator[None]:
    """A listening socket whose queue is full."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as waiting:
        listener.bind(str(path))
        listener.listen(0)
        waiting.connect(str(path))
        yield


def test_both_consoles_and_the_command_wait_for_a_full_queue(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both consoles and the command try until their timeouts. Their error says that the queue was full."""
    path = tmp_path / "control.sock"
    with full_queue(path):
        with pytest.raises(ConsoleUnreachable, match="full all the time"):
            BlockingConsole(path, 0.05).call(show_system())
        with pytest.raises(ConsoleUnreachable, match="full all the time"):
            trio.run(Console(path, 0.05).call, show_system())
        assert main(["hmc", "--socket", str(path), "--timeout", "0.05", "status"]) == 3
    assert "full all the time" in capsys.readouterr().err


def test_a_connected_socket_has_one_attempt() -> None:
    """A connected socket has no address for a second attempt."""
    for opened in (blocking, with_trio):
        with scripted(full) as sock, pytest.raises(OpenRefused):
            opened(sock if opened is blocking else _stream(sock), 30)


def _stream(sock: socket.socket) -> Any:
    sock.setblocking(False)
    return trio.SocketStream(trio.socket.from_stdlib_socket(sock))


async def test_a_server_that_says_nothing(autojump_clock: MockClock) -> None:
    """If the server sends nothing, TimeoutError comes after the timeout; without one, the client waits on."""
    for patience, seconds in ((20.0, 20), (None, 1000)):
        ours, _theirs = trio.testing.memory_stream_pair()
        begin = trio.current_time()
        with trio.move_on_after(1000) as scope:
            with contextlib.suppress(TimeoutError):
                async with open_channel(ours, patience=patience):
                    pytest.fail("the channel opened")
        assert trio.current_time() - begin == pytest.approx(seconds)
        assert scope.cancelled_caught == (patience is None)


# Patience


class Time:
    """A clock that a test sets."""

    seconds = 50.0

    def __call__(self) -> float:
        return self.seconds


def spend(patience: Patience, time: Time, seconds: float) -> None:
    """Let this time pass, and call `look` before each part of it, as a client does."""
    while seconds > 1e-9:
        wait = patience.look()
        assert wait is not None
        time.seconds += min(wait, seconds)
        seconds -= min(wait, seconds)


def test_a_timeout_ends_in_time() -> None:
    """When the whole timeout has passed, the next `look` raises TimeoutError."""
    time = Time()
    patience = Patience(10, time)
    spend(patience, time, 9.5)
    assert patience.left() == pytest.approx(0.5)
    spend(patience, time, 0.5)
    with pytest.raises(TimeoutError, match="in time"):
        patience.look()
    assert patience.left() == 0


def test_a_pause_uses_up_next_to_nothing() -> None:
    """A stop of the process, however long, counts as at most COUNTED seconds of the timeout."""
    time = Time()
    patience = Patience(10, time)
    spend(patience, time, 4)
    patience.look()
    time.seconds += 3600
    assert patience.left() == pytest.approx(6 - COUNTED)
    time.seconds += 3600
    assert patience.left() == pytest.approx(6 - 2 * COUNTED)
    spend(patience, time, 5)


def test_one_long_wait_is_no_pause() -> None:
    """A long connect over TCP uses up the timeout."""
    time = Time()
    patience = Patience(10, time)
    assert patience.rest() == 10
    time.seconds += 8
    assert patience.left() == pytest.approx(2)


def test_no_timeout_is_for_ever() -> None:
    """Without a timeout the clock is not read."""
    patience = Patience(None, Time())
    assert patience.left() is None
    assert patience.look() is patience.rest() is None


def test_attempts_come_ever_more_seldom() -> None:
    """Pauses grow from milliseconds to a quarter of a second.

    They are random, so clients keep out of step.
    """
    attempts = Attempts(Patience(None, Time()))
    error = BlockingIOError(errno.EAGAIN, "full")
    pauses = [attempts.pause_after(error) for _ in range(20)]
    assert pauses[0] <= 0.005
    assert LAST_PAUSE / 2 < pauses[-1] <= LAST_PAUSE
    assert len(set(pauses)) > 15


def test_a_client_that_was_stopped_takes_the_answer_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that was stopped longer than its timeout accepts an answer that arrived during the stop."""
    time = Time()

    async def script(peer: Peer) -> None:
        await peer.greet()
        for _ in range(2):
            await peer.send(answer(await peer.call(), 0, 5))
        await peer.goodbye()

    with scripted(script) as sock, BlockingChannel.connect(sock, timeout=10) as channel:
        submit = channel._conversation.submit

        def stopped(request: Any) -> Any:
            pending = submit(request)
            time.seconds += 3600
            return pending

        monkeypatch.setattr("hcall_client.blocking.time", SimpleNamespace(monotonic=time))
        monkeypatch.setattr(channel._conversation, "submit", stopped)
        assert channel.call(raw_call(1)).registers[0] == 5
        assert len(channel.pipeline([raw_call(2)])) == 1
