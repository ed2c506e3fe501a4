"""A real server process with `--metrics`: the ready line, a scrape, and starts that are refused."""

from __future__ import annotations

import socket
import urllib.request
from pathlib import Path

import pytest

from swpks.testing import ServerProcess
from tests.service.processes import serve

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("not_measured")]


def test_a_scrape_of_a_real_server(server: ServerProcess, tmp_path: Path) -> None:
    """The ready line has the chosen port; the command line has priority over the file."""
    config = tmp_path / "swpks.toml"
    config.write_text('metrics = "tcp:192.0.2.1:1"\n')
    server.options = ["--config", str(config), "--metrics", "tcp:127.0.0.1:0"]
    address = server.start().ready["metrics"]
    assert address.startswith("127.0.0.1:")
    assert not address.endswith(":0")
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=20) as answer:
        assert b'swpks_partition_running{partition="alpha"} 1.0' in answer.read()
    assert address in server.log
    server.stop()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(address.rsplit(":", 1), timeout=20)


def test_a_busy_port_is_refused(tmp_path: Path) -> None:
    """A port that is in use is named, before the state is made."""
    state = tmp_path / "state"
    words = ("--state", str(state), "--partition", "a:4", "--metrics")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = serve(*words, f"tcp:127.0.0.1:{port}")
    assert (done.returncode, "rule socket.address:" in done.stderr) == (2, True), done.stderr
    assert f"can't listen at 127.0.0.1, port {port}: Address already in use" in done.stderr
    assert not state.exists()
