"""Kills of a real server between commit and answer of a load, and after the writing of a file."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hcall_client.console import show_partition
from hcall_server.failpoints import VARIABLE
from swpks.testing import ServerProcess
from tests.parts.life import erase

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("not_measured")]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """Return a running server whose partition has an object."""
    server = ServerProcess(tmp_path / "state").start()
    assert server.run("lpar", "lpar1", "write", "old", "--wait", data=b"CANARY-old").returncode == 0
    yield server
    server.kill()


def snapshot(server: ServerProcess, *words: str, status: int = 0) -> str:
    """Run `swpks snapshot` with these words; return its output."""
    done = server.run("snapshot", *words)
    assert done.returncode == status, done.stderr
    return done.stdout.decode()


def killed_at(server: ServerProcess, point: str, *words: str) -> None:
    """Let the server kill itself at a fail point of this command, and start it again without the point."""
    server.environment[VARIABLE] = point
    server.restart()
    server.hmc("power", "lpar1", "off")
    snapshot(server, *words, status=3)
    assert server.wait() == -9
    del server.environment[VARIABLE]
    server.start()


def test_a_kill_before_the_answer(server: ServerProcess) -> None:
    """R-83: after the kill the file of a save is whole, and a load is in force; both can be repeated."""
    killed_at(server, "saved", "save", "base")
    assert "base  own" in snapshot(server, "list")
    assert "no difference" in snapshot(server, "diff", "base")
    # A save that is killed earlier leaves a second file, which the next one replaces.
    (server.state / "snapshots" / "base.snapshot.new").write_bytes(b"half")
    snapshot(server, "save", "base", "--force")
    assert [each.name for each in (server.state / "snapshots").iterdir()] == ["base.snapshot"]

    assert server.run("lpar", "lpar1", "write", "new", "--wait", data=b"CANARY-new").returncode == 0
    before = server.console.call(show_partition("lpar1"))
    killed_at(server, "loaded", "load", "base")
    after = server.console.call(show_partition("lpar1"))
    assert (after.uuid, after.restores) == (before.uuid, before.restores + 1)
    assert (after.generation, after.ipl_count) > (before.generation, before.ipl_count)
    assert server.run("lpar", "lpar1", "read", "old").stdout == b"CANARY-old"
    assert server.run("lpar", "lpar1", "read", "new").returncode == 1
    server.hmc("power", "lpar1", "off")
    assert "lpar1: off" in snapshot(server, "load", "base")


def test_erases_destroy_snapshots(server: ServerProcess, tmp_path: Path) -> None:
    """R-61, R-62, R-83: both erases destroy own and portable snapshots, and name them before.

    A file outside stays.  It opens with its passphrase on the new system, and the own one is opened by none.
    """
    words, outside = tmp_path / "words", tmp_path / "outside.portable"
    words.touch(0o600)
    words.write_text("correct horse battery")
    secret = ["--passphrase-file", str(words)]
    shelf = server.state / "snapshots"

    def save() -> None:
        snapshot(server, "save", "own")
        snapshot(server, "save", "p", "--portable", *secret)

    save()
    snapshot(server, "save", str(outside), "--portable", *secret)
    kept = (shelf / "own.snapshot").read_bytes()
    server.stop()
    asked = server.run("asmi", "--state", str(server.state), "clear-all")
    assert f"the snapshots in {shelf}, also portable ones" in asked.stdout.decode()
    erase(server, "clear-all")
    assert not shelf.exists()
    erase(server, "reset-settings")
    server.partitions = []
    server.start()
    own = tmp_path / "own.snapshot"
    own.write_bytes(kept)
    refusal = server.run("snapshot", "load", str(own))
    assert (refusal.returncode, b"rule snapshot.system" in refusal.stderr) == (1, True)
    assert "lpar1: off, made again" in snapshot(server, "load", str(outside), *secret)
    server.hmc("power", "lpar1", "on")
    assert server.run("lpar", "lpar1", "read", "old").stdout == b"CANARY-old"
    save()
    server.stop()
    erase(server, "reset-settings")
    assert not shelf.exists()
