"""Damage to a stopped server's state, done behind its back, and what a start then says of it."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from hcall_client.calls import Authorization, read_object, write_object
from swpks.testing import ServerProcess

OS = Authorization(3)
LABEL = b"canary"


def secret(name: str) -> bytes:
    """What the one object of a partition holds."""
    return b"secret of " + name.encode()


def make_state(folder: Path, names: Iterable[str]) -> Path:
    """A state with these partitions, an object in each, whose server has stopped in good order."""
    names = list(names)
    server = ServerProcess(folder / "state", [f"{name}:4" for name in names]).start()
    for name in names:
        with server.connect_blocking(name) as channel:
            channel.call(write_object(OS, LABEL, secret(name)))
    assert server.stop() == 0
    return server.state


def copy_of(state: Path, to: Path) -> Path:
    """A copy that may be damaged."""
    shutil.copytree(state, to, ignore=shutil.ignore_patterns("*.sock"))
    return to


def records(state: Path) -> dict[str, bytes]:
    """Every record, read without the server."""
    with closing(sqlite3.connect(state / "nvram.sqlite")) as nvram:
        return dict(nvram.execute("SELECT name, blob FROM record"))


def put(state: Path, changed: dict[str, bytes | None]) -> None:
    """Put other bytes in place of records, or remove them."""
    with closing(sqlite3.connect(state / "nvram.sqlite")) as nvram, nvram:
        for name, blob in changed.items():
            if blob is None:
                nvram.execute("DELETE FROM record WHERE name = ?", (name,))
            else:
                nvram.execute("UPDATE record SET blob = ? WHERE name = ?", (blob, name))


def flipped(blob: bytes, byte: int, bit: int = 0) -> bytes:
    """The same bytes but for one bit."""
    return blob[:byte] + bytes([blob[byte] ^ 1 << bit]) + blob[byte + 1 :]


def contents(state: Path) -> dict[str, bytes]:
    """Every file that has to outlive a start that is refused, byte for byte."""
    kept = [path for path in state.rglob("*") if path.is_file() and path.name != "lock"]
    return {str(path.relative_to(state)): path.read_bytes() for path in kept}


def serves(server: ServerProcess, name: str) -> bool:
    """Whether a partition serves what it always held."""
    with server.connect_blocking(name) as channel:
        return channel.call(read_object(OS, LABEL)).data == secret(name)


class Console:
    """The control channel over one connection, without the client that belongs to it."""

    def __init__(self, server: ServerProcess) -> None:
        self._connection = http.client.HTTPConnection("swpks")
        self._connection.sock = socket.socket(socket.AF_UNIX)
        self._connection.sock.connect(str(server.control_socket))

    def __enter__(self) -> Console:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and decoded answer of one request."""
        headers = {"content-type": "application/json"} if body is not None else {}
        content = json.dumps(body) if body is not None else None
        self._connection.request(method, path, content, headers)
        answer = self._connection.getresponse()
        return answer.status, json.loads(answer.read())


def logged(server: ServerProcess, event: str) -> list[dict[str, Any]]:
    """The lines of the server's log with this event."""
    lines = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


Damage = Callable[[Path], None]
"""Does something to a state folder."""
