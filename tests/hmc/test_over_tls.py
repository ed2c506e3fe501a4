"""A console that reaches its system over TCP with mutual TLS, both as real processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hcall_client.control_transport import TlsFiles
from swpks.testing import ConsoleProcess, ServerFailed, ServerProcess
from tests.certificates import Authority

pytestmark = pytest.mark.process


def options(files: TlsFiles) -> list[str]:
    """Return the TLS options of the system or of the console."""
    return ["--tls-cert", str(files.cert), "--tls-key", str(files.key), "--tls-ca", str(files.ca)]


def test_a_system_at_https(console: ConsoleProcess, tmp_path: Path) -> None:
    """Over TLS, verbs, lines, copies and recoveries work as over a Unix socket."""
    authority = Authority(tmp_path)
    server = ["--control", "tcp:127.0.0.1:0", *options(authority.server())]
    system = ServerProcess(tmp_path / "sys1", ["lpar1:64"], server).start()
    try:
        where = f"https://{system.ready['control_tcp']}"
        console.systems, console.options = [f"sys1={where}"], options(authority.client())
        console.start().log_lines("system.connected")
        (shown,) = json.loads(console.hmc("systems", "--json"))
        assert (shown["where"], shown["connected"]) == (where, True)
        assert console.hmc("lssyscfg", "-r", "lpar", "-m", "sys1", "-F", "name") == "lpar1\n"
        assert "done, 1 of 1" in console.hmc("backup")
        stranger = Authority(tmp_path, "stranger").client("other")
        console.stop()
        console.options = options(stranger)
        console.start()
        console.log_lines("system.away")
        with pytest.raises(ServerFailed) as refused:
            console.hmc("health")
        assert "sys1 is away since" in str(refused.value)
        console.stop()
        console.options = []
        with pytest.raises(ServerFailed) as failed:
            console.start()
        assert "needs a certificate" in str(failed.value)
    finally:
        system.kill()
