"""`swpks snapshot` on a running server, and on the folder of a stopped one."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from swpks.cli.main import main
from swpks.testing.process import ServerProcess
from tests.snapshots.world import WORDS

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("not_measured")]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """Return a running server with one partition."""
    server = ServerProcess(tmp_path / "state", ["lpar1:64"])
    server.start()
    yield server
    if server.pid is not None:
        server.stop()


def test_a_snapshot_of_a_running_and_of_a_stopped_system(
    server: ServerProcess, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """R-83: the command works through the channel and under the lock.  No output has the passphrase."""
    state = ["--state", str(server.state)]
    file = tmp_path / "words"
    file.write_text(f"{WORDS}\n")
    file.chmod(0o600)

    def run(*words: str) -> tuple[int, str, str]:
        status = main(["snapshot", *state, *words])
        return status, *capfd.readouterr()

    assert server.run("lpar", "lpar1", "write", "old", "--wait", data=b"CANARY-data").returncode == 0
    assert run("save", "base")[0] == 0
    assert run("save", "base")[0] == 1
    assert run("save", "p", "--portable", "--passphrase-file", str(file))[0] == 0
    assert server.run("lpar", "lpar1", "write", "new", "--wait", data=b"CANARY-data").returncode == 0
    assert "+ 3 new: 11 bytes" in run("diff", "base")[1]
    status, _, refusal = run("load", "base")
    assert (status, "rule snapshot.idle" in refusal) == (1, True)
    server.hmc("power", "lpar1", "off")
    assert run("load", "base")[0] == 0
    assert "not checked" in run("show", "p")[1]
    server.stop()
    # nothing listens: the same commands work on the folder
    assert "no difference" in run("diff", "base")[1]
    assert "3 old: 11 bytes" in run("show", "p", "--passphrase-file", str(file))[1]
    assert run("save", "later", "--force")[0] == 0
    status, shown, _ = run("--json", "load", "later")
    loaded = json.loads(shown)["loaded"][0]
    assert (status, loaded["name"], loaded["restores"]) == (0, "lpar1", 2)
    assert run("load", "absent")[0] == 1
    assert "later" not in run("rm", "later")[1]
    server.start()
    assert server.run("lpar", "lpar1", "read", "old").stdout == b"CANARY-data"
    assert server.run("lpar", "lpar1", "read", "new").returncode == 1
    everything = b"".join(each.read_bytes() for each in (server.state / "snapshots").iterdir())
    assert b"CANARY" not in everything
    assert WORDS.encode() not in everything
