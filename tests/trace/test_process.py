"""Traces of a real server, read by Wireshark's own programs."""

import subprocess
from pathlib import Path

import pytest

from hcall_client.calls import gen_password, read_object, write_object
from swpks.cli.main import main
from swpks.testing import ServerProcess
from tests.trace.reader import read_capture

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("not_measured")]

FIELDS = ("frame.p2p_dir", "exported_pdu.prot_name", "ip.src", "exported_pdu.dst_port")


def by_tshark(path: Path, *options: str) -> list[str]:
    """Return the lines of tshark about a file, which must be without an error."""
    done = subprocess.run(["tshark", "-r", path, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_traces_of_a_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """R-82: `serve --trace` and `hmc trace` record calls without their secrets, and tshark reads the files.

    After kill -9 the file of the server can still be read.
    """
    path = tmp_path / "all.pcapng"
    server = ServerProcess(tmp_path / "state", ["alpha:64"], ["--trace", str(path)]).start()
    try:
        assert hmc(server, "off") == 1
        assert "alpha is not traced" in capsys.readouterr().err
        assert hmc(server, "on") == 0
        assert "traces/alpha-1-1.pcapng of the state, without secrets" in capsys.readouterr().out
        with server.connect_blocking("alpha") as channel:
            owner = channel.call(gen_password(3, 32))
            for number in range(10):
                channel.call(write_object(owner, b"label-%d" % number, b"a secret of alpha"))
                channel.call(read_object(owner, b"label-%d" % number))
        assert hmc(server, "off") == 0
        assert "46 frames" in capsys.readouterr().out
    finally:
        server.kill()
    inner = tmp_path / "state" / "traces" / "alpha-1-1.pcapng"
    for each in (path, inner):
        assert owner.password not in each.read_bytes()
        assert b"a secret" not in each.read_bytes()
    options = ["-T", "fields", *(word for field in FIELDS for word in ("-e", field))]
    lines = by_tshark(inner, *options)
    assert len(lines) == 46
    assert lines[:2] == ["0\tswpks\t127.0.0.1\t1", "1\tswpks\t127.0.0.2\t1"]
    assert read_capture(inner).received == 46
    counted = subprocess.run(["capinfos", "-c", "-M", path], capture_output=True, text=True, check=True)
    assert int(counted.stdout.split()[-1]) >= 40


def hmc(server: ServerProcess, word: str) -> int:
    """Run `swpks hmc trace alpha on|off` in this process; return its exit status."""
    return main(["hmc", "--state", str(server.state), "trace", "alpha", word])


def test_a_failed_start_leaves_no_trace(tmp_path: Path) -> None:
    """If the start fails after the file of `--trace` was made, the file is removed."""
    path = tmp_path / "all.pcapng"
    taken = "tcp:192.0.2.1:1"  # an address for documentation: this machine does not have it
    assert main(["serve", "--state", str(tmp_path / "state"), "--trace", str(path), "--listen", taken]) == 2
    assert not path.exists()
