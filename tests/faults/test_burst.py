"""Many clients of a real server at once: each is served within its own timeout, and no session is ended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import trio

from hcall_client.blocking import BlockingChannel
from hcall_client.calls import get_config
from hcall_client.channel import open_channel
from hcall_client.console import BlockingConsole, show_health
from swpks.testing import ServerProcess
from tests.faults.damage import ended_by, logged

pytestmark = pytest.mark.process

NAMES = ("lpar1", "lpar2", "lpar3", "lpar4")
PATIENCE = 60.0
"""Seconds that each client of a burst waits at most."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with its default limits.

    At the end of the test it must have ended no session, and no connection may have crashed.
    """
    made = ServerProcess(tmp_path_factory.mktemp("burst") / "state", [f"{name}:64" for name in NAMES])
    try:
        yield made.start()
        assert not ended_by(made)
        assert not logged(made, "connection.crashed", 0)
    finally:
        made.kill()


def sockets(server: ServerProcess, count: int, names: tuple[str, ...]) -> list[Path]:
    """Return a socket path for each of `count` clients; they take the partitions in turn."""
    return [server.socket(names[n % len(names)]) for n in range(count)]


def with_trio(paths: list[Path], hold: bool) -> int:
    """Open all sessions at once with Trio's client; return their number.

    With `hold`, no session closes before the last one is open.
    """
    opened = 0

    async def talk(path: Path, all_open: trio.Event) -> None:
        nonlocal opened
        async with open_channel(path, patience=PATIENCE) as channel:
            await channel.call(get_config())
            opened += 1
            if opened == len(paths) or not hold:
                all_open.set()
            await all_open.wait()

    async def burst() -> None:
        all_open = trio.Event()
        async with trio.open_nursery() as nursery:
            for path in paths:
                nursery.start_soon(talk, path, all_open)

    trio.run(burst)
    return opened


def with_threads(paths: list[Path], hold: bool) -> int:
    """Open all sessions at once with the blocking client, one thread each; return their number.

    With `hold`, no session closes before the last one is open.
    """
    together = threading.Barrier(len(paths) if hold else 1)
    opened: list[int] = []

    def talk(path: Path) -> None:
        with BlockingChannel.connect(path, timeout=PATIENCE) as channel:
            channel.call(get_config())
            opened.append(channel.partition)
            together.wait(PATIENCE)

    run_at_once([partial(talk, path) for path in paths])
    return len(opened)


def run_at_once(jobs: list[Callable[[], object]]) -> None:
    """Run jobs in threads that start at the same time."""
    begin = threading.Barrier(len(jobs))
    stack = threading.stack_size(256 * 1024)
    threads = [threading.Thread(target=_begin, args=(begin, job)) for job in jobs]
    threading.stack_size(stack)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)


def _begin(together: threading.Barrier, job: Callable[[], object]) -> None:
    together.wait(PATIENCE)
    job()


@pytest.mark.parametrize(
    "clients,count,names,hold",
    [
        (with_trio, 200, NAMES[:1], True),
        (with_threads, 200, NAMES[:1], True),
        (with_trio, 1000, NAMES, True),
        (with_threads, 1000, NAMES, True),
        # One partition has room for 256 sessions, so these clients end theirs at once.
        (with_threads, 1000, NAMES[:1], False),
    ],
)
def test_a_burst_is_served(
    server: ServerProcess,
    clients: Callable[[list[Path], bool], int],
    count: int,
    names: tuple[str, ...],
    hold: bool,
) -> None:
    """Every client is served without an error. A client that is refused for lack of room tries again."""
    assert clients(sockets(server, count, names), hold) == count


def test_a_burst_of_the_console_is_answered(server: ServerProcess) -> None:
    """The console sends two hundred requests at once, each on a new connection, and gets every answer."""
    answers: list[bool] = []
    console = BlockingConsole(server.control_socket, PATIENCE)
    run_at_once([lambda: answers.append(console.call(show_health()).ok)] * 200)
    assert answers == [True] * 200
    assert server.run("hmc", "status").returncode == 0
