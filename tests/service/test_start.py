"""The start of a server: the modules that are loaded at the ready line, and the garbage collector."""

import gc
import json
import socket
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from hcall_abi.errors import OperatorError
from hcall_server.service import server
from hcall_server.service.settings import Settings
from hcall_server.service.state import State
from swpks import __main__

pytestmark = pytest.mark.process

LATER = {
    "asyncio*": "no server",
    "starlette*": "the first request to the console",
    "hypercorn*": "the first request to the console",
    "h11": "the first request to the console",
    "h2": "the first request to the console",
    "msgspec*": "the first request to the console, and a file of settings",
    "anyio*": "the first request to the console",
    "httpx*": "the asynchronous client of a console",
    "prometheus_client*": "the first request for metrics",
    "tomllib*": "a file of settings",
    "cryptography.x509*": "the first signed update",
    "cryptography.hazmat.asn1*": "the first signed update",
    "cryptography.hazmat.primitives.asymmetric*": "the first signed update",
    "elftools*": "swpks qemu",
    "matplotlib*": "the benchmark",
    "http.*": "the client of a console",
    "hcall_server.snapshots*": "the first request about snapshots",
    "hcall_server.sealing.snapshot*": "the first request about snapshots",
    "hcall_abi.snapshot_*": "the first request about snapshots",
    "hcall_client*": "no server",
    "swpks.testing*": "no server",
}
"""Modules that no start needs, and their later user."""


@pytest.fixture(scope="module")
def at_ready(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the figures of a fresh server at its ready line (at_ready.py)."""
    state = tmp_path_factory.mktemp("start") / "state"
    script = Path(__file__).with_name("at_ready.py")
    command = [sys.executable, str(script), "serve", "--state", str(state), "--partition", "alpha:64"]
    done = subprocess.run(
        [*command, "--ready-fd", "1"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_start_loads_nothing_that_it_does_not_need(at_ready: dict[str, Any]) -> None:
    """A start loads only the modules it needs, because each module costs every start time.

    Each row names a module and the code that loads it later.
    """
    loaded = {name for name in at_ready["modules"] for each in LATER if fnmatch(name, each)}
    assert loaded == set()
    assert {"trio", "hcall_server.service.server"} <= set(at_ready["modules"])


def test_the_collector_is_on_once_the_server_is_ready(at_ready: dict[str, Any]) -> None:
    """The collector is off during the start. Afterwards it skips the objects of the start."""
    assert at_ready["ready"]["running"] == ["alpha"]
    assert at_ready["collects"] is True
    assert at_ready["frozen"] > 10_000
    assert at_ready["young"] < at_ready["frozen"] / 100


def test_other_commands_collect_when_they_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """All commands but `swpks serve` run with the garbage collector on."""
    seen: list[bool] = []

    def add_parser(subparsers: Any) -> None:
        seen.append(gc.isenabled())
        subparsers.add_parser("hmc").set_defaults(run=run)

    def run(_: object) -> int:
        seen.append(gc.isenabled())
        return 7

    monkeypatch.setattr("swpks.cli.hmc.add_parser", add_parser)
    monkeypatch.setattr(sys, "argv", ["swpks", "hmc"])
    try:
        assert __main__.main() == 7
    finally:
        gc.enable()
    assert seen == [False, True]


def test_a_start_that_is_refused_releases_the_state(tmp_path: Path) -> None:
    """If the start fails because an address is in use, NVRAM and the lock are free again."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(listen=(f"tcp:127.0.0.1:{taken.getsockname()[1]}",))
        with pytest.raises(OperatorError, match="in use"):
            server.run(tmp_path / "state", settings, lambda ready: None)
    state = State(tmp_path / "state")
    try:
        state.seams().nvram.close()
        assert state.idle(10)
    finally:
        state.close()
