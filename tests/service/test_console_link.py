"""A real server and its attached console: the reader is killed, or the server is killed or stopped."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import trio

from hcall_abi.control_bodies import KeptCopy
from hcall_abi.control_views import ConsoleLinkView
from hcall_client.console import (
    attach_console,
    detach_console,
    forget_copies,
    keep_copy,
    show_copy,
    show_health,
    show_system,
)
from swpks.testing import ServerProcess
from tests.control_channel.streams import ID, request, streamed

READER = """
import socket, sys
reader = socket.socket(socket.AF_UNIX)
reader.connect(sys.argv[1])
reader.sendall(bytes.fromhex(sys.argv[2]))
while b"event: hello" not in reader.recv(65536):
    pass
print("hello", flush=True)
reader.recv(1 << 20)
sys.stdin.read()
"""
"""A console in its own process, which opens its stream and then waits to be killed."""


def reading(server: ServerProcess) -> subprocess.Popen[str]:
    """Start a process that holds the console's stream."""
    command = [sys.executable, "-c", READER, str(server.control_socket), request(ID).hex()]
    reader = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert reader.stdout is not None
    assert reader.stdout.readline() == "hello\n"
    return reader


def link(server: ServerProcess) -> ConsoleLinkView:
    """Return the console as the server shows it."""
    found = server.console.call(show_system()).console
    assert found is not None
    return found


def until(condition: Callable[[], Any]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline


def test_a_killed_console_is_away_and_a_killed_server_remembers_it(server: ServerProcess) -> None:
    """After a kill of the reader, the console is away.

    After a kill of the server, NVRAM has the console and its copies.
    """
    server.start()
    console = server.console
    console.call(attach_console(ID, "hmc1"))
    reader = reading(server)
    assert link(server).connected
    reader.kill()
    reader.communicate()
    until(lambda: not link(server).connected)
    copy = console.call(show_copy("alpha"))
    kept = KeptCopy(uuid=copy.uuid, restores=copy.restores, generation=copy.generation, time=copy.time)
    console.call(keep_copy("alpha", kept))
    server.kill()
    began = time.time()
    server.start()
    assert (link(server).id, link(server).name, link(server).connected) == (ID, "hmc1", False)
    assert link(server).since >= int(began)
    (alpha, beta) = console.call(show_system()).partitions
    assert alpha.copy is not None
    assert (alpha.copy.generation, alpha.copy.time) == (copy.generation, copy.time)
    assert beta.copy is None
    assert console.call(forget_copies([])).console is not None
    assert console.call(detach_console(ID, "hmc1")).console is None


def test_the_command_shows_the_console(server: ServerProcess) -> None:
    """`status` shows the console's name, id and last contact. `health` shows the console and stays good."""
    server.start()
    assert "console" not in server.hmc("status")
    server.console.call(attach_console(ID, "hmc1"))
    shown = server.hmc("status")
    assert re.search(
        rf"^console hmc1 \({ID}\), away since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC$", shown, re.M
    )
    assert re.search(r"^alpha .* none$", shown, re.M)
    assert re.search(r"^console hmc1 .* away since ", server.hmc("health"), re.M)
    assert server.console.call(show_health()).ok


async def test_a_server_stops_at_once_while_streams_are_open(server: ServerProcess) -> None:
    """The server sends its event to the readers first, and does not wait for the grace of requests."""
    server.start()
    server.console.call(attach_console(ID, "hmc1"))
    path = str(server.control_socket)
    async with streamed(path, ID) as console, streamed(path) as spectator:
        for reader in console, spectator:
            await reader.until("hello")
        began = trio.current_time()
        await trio.to_thread.run_sync(server.stop)
        assert trio.current_time() - began < 1
        for reader in console, spectator:
            assert (await reader.rest())[-1] == "stopping"
