"""Damage to the state of a stopped server, and what the next start reports about it."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hcall_abi.control_views import Problem
from hcall_abi.frames import GoodbyeReason
from hcall_client.calls import Authorization, read_object, write_object
from hcall_client.console import ConsoleRefused, ConsoleRequest
from hcall_server.nvram.names import partition_name
from swpks.testing import ServerProcess
from tests.service.folder import assembled

OS = Authorization(3)
LABEL = b"canary"


def secret(name: str) -> bytes:
    """Return the data of the only object in a partition."""
    return b"secret of " + name.encode()


def make_state(folder: Path, names: Iterable[str]) -> Path:
    """Make a state with these partitions, with one object in each; the server has stopped in good order."""
    names = list(names)
    server = ServerProcess(folder / "state", [f"{name}:4" for name in names]).start()
    for name in names:
        with server.connect_blocking(name) as channel:
            channel.call(write_object(OS, LABEL, secret(name)))
    assert server.stop() == 0
    return server.state


def copy_of(state: Path, to: Path) -> Path:
    """Return a copy of the state, which the test may damage."""
    shutil.copytree(state, to, ignore=shutil.ignore_patterns("*.sock"))
    return to


def records(state: Path) -> dict[str, bytes]:
    """Return every record in NVRAM, read without the server."""
    with closing(sqlite3.connect(state / "service-processor" / "nvram.sqlite")) as nvram:
        return dict(nvram.execute("SELECT name, blob FROM record"))


def names(state: Path) -> dict[str, str]:
    """Return, for each partition's name, the name of its record."""
    with assembled(state) as machine:
        partitions = machine.system.partitions.values()
        return {each.name: partition_name(each.profile.uuid) for each in partitions}


def put(state: Path, changed: dict[str, bytes | None]) -> None:
    """Replace records in NVRAM, or remove those whose value is None."""
    with closing(sqlite3.connect(state / "service-processor" / "nvram.sqlite")) as nvram, nvram:
        for name, blob in changed.items():
            if blob is None:
                nvram.execute("DELETE FROM record WHERE name = ?", (name,))
            else:
                nvram.execute("UPDATE record SET blob = ? WHERE name = ?", (blob, name))


def flipped(blob: bytes, byte: int, bit: int = 0) -> bytes:
    """Return the bytes with one bit flipped."""
    return blob[:byte] + bytes([blob[byte] ^ 1 << bit]) + blob[byte + 1 :]


def contents(state: Path) -> dict[str, bytes]:
    """Return the bytes of every file that a refused start must not change."""
    kept = [path for path in state.rglob("*") if path.is_file() and path.name != "lock"]
    return {str(path.relative_to(state)): path.read_bytes() for path in kept}


def serves(server: ServerProcess, name: str) -> bool:
    """Return whether a partition still returns its original object."""
    with server.connect_blocking(name) as channel:
        return channel.call(read_object(OS, LABEL)).data == secret(name)


def refused(server: ServerProcess, request: ConsoleRequest[Any]) -> Problem:
    """Return the problem with which the server refuses this request."""
    with pytest.raises(ConsoleRefused) as caught:
        server.console.call(request)
    assert caught.value.problem.status == 409
    return caught.value.problem


def logged(server: ServerProcess, event: str, least: int = 1) -> list[dict[str, Any]]:
    """Wait until the log has `least` lines with this event; return these lines.

    An empty result is certain only after the server has stopped.
    """
    return [json.loads(line) for line in server.log_lines(f'"event": "{event}"', least)]


Damage = Callable[[Path], None]
"""Damages a state folder."""


def ended_by(server: ServerProcess) -> list[dict[str, Any]]:
    """Stop a server; return the log lines of sessions that it ended for another reason than this stop."""
    assert server.stop() == 0
    ends = logged(server, "session.ended", 0)
    return [line for line in ends if line["reason"] != GoodbyeReason.SERVER_STOPPING.name.lower()]
