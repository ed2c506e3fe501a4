"""Clients that flood a real server, never open, or never read: each gets the right GOODBYE.

Their number and memory stay bounded, and other clients are served.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hcall_abi.frames import GoodbyeReason
from hcall_client.blocking import BlockingChannel
from hcall_client.calls import read_object, write_object
from swpks.testing import ServerProcess
from tests.faults import raw
from tests.faults.conftest import Serve
from tests.faults.damage import OS, logged

pytestmark = pytest.mark.process

CONFIG = """
[limits]
open_seconds = 1.5
send_seconds = 0.2
goodbye_seconds = 0.1
max_unopened = 64
"""
MIB = 1 << 20


@pytest.fixture
def server(serve: Serve, tmp_path: Path) -> ServerProcess:
    """A server with two partitions and short timeouts."""
    config = tmp_path / "swpks.toml"
    config.write_text(CONFIG)
    return serve(tmp_path / "state", ["bad:64", "good:64"], ["--config", str(config)])


@pytest.fixture
def neighbour(server: ServerProcess) -> Iterator[BlockingChannel]:
    """A session that the other clients must not disturb."""
    with server.connect_blocking("good") as channel:
        channel.call(write_object(OS, b"x", b"data"))
        yield channel
        assert channel.call(read_object(OS, b"x")).data == b"data"
    assert server.stop() == 0
    assert not logged(server, "connection.crashed", 0)


def memory_of(server: ServerProcess) -> int:
    """Return the resident memory of the server in bytes."""
    pages = Path(f"/proc/{server.pid}/statm").read_text("ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def reason(sock: socket.socket) -> int:
    """Return the reason in the GOODBYE that ended a connection without a session."""
    frames, rest = raw.parse(raw.read_all(sock))
    assert [each.kind for each in frames] == [raw.HELLO, raw.GOODBYE]
    assert not rest
    return frames[-1].reason


def test_three_hundred_that_never_open(server: ServerProcess, neighbour: BlockingChannel) -> None:
    """R-01: connections that never send an OPEN make room for later ones, and all of them are ended in time.

    A part of an OPEN extends no timeout. A client that connects after them is served.
    """
    before = memory_of(server)
    with contextlib.ExitStack() as stack:
        peers = []
        for n in range(300):
            sock = stack.enter_context(raw.connect(server.socket("bad")))
            sock.sendall(raw.open_frame()[: n % 3 * 20])
            peers.append(sock)
            neighbour.call(read_object(OS, b"x"))
        with server.connect_blocking("bad") as another:
            another.call(write_object(OS, b"y", b"z"))
        assert memory_of(server) - before < 8 * MIB
        for sock in peers:
            assert reason(sock) == GoodbyeReason.IDLE_TOO_LONG


def test_readers_that_never_read(server: ServerProcess, neighbour: BlockingChannel) -> None:
    """R-01: a client that reads none of its 60 KB answers costs under 1 MiB, then gets GOODBYE 6."""
    with server.connect_blocking("bad") as channel:
        channel.call(write_object(OS, b"x", os.urandom(60_000)))
    question = raw.call_frame(read_object(OS, b"x"), 1)
    before = memory_of(server)
    with contextlib.ExitStack() as stack:
        peers = [stack.enter_context(raw.connect(server.socket("bad"))) for _ in range(10)]
        for sock in peers:
            sock.sendall(raw.open_frame())
            raw.read_frames(sock, 2)
        for sock in peers:
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.sendall(question * 3000)
        most = memory_of(server)
        hung_up = select.poll()
        for sock in peers:
            hung_up.register(sock, 0)
        while left := {sock.fileno() for sock in peers} - {fd for fd, _ in hung_up.poll(20_000)}:
            neighbour.call(read_object(OS, b"x"))
            most = max(most, memory_of(server))
            assert left
        for sock in peers:
            sock.setblocking(True)
            output = raw.read_all(sock)
            frames, _ = raw.parse(output)
            assert {each.kind for each in frames} <= {raw.HRETURN, raw.GOODBYE}
            assert len(output) < 2 * MIB
        assert most - before < len(peers) * MIB
    ends = [line["reason"] for line in logged(server, "session.ended", len(peers))]
    assert ends == ["too_slow_to_read"] * len(peers)
