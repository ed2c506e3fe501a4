"""Snapshots in files outside of a state, and the passphrase of the terminal, with the real command."""

import os
import pty
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from swpks.cli.main import main
from swpks.testing import ServerFailed, ServerProcess, WrongOption
from swpks.testing.own_process import COMMAND
from tests.snapshots.world import WORDS

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """Return a running server whose partition has an object, and its snapshot in a file outside."""
    folder = tmp_path_factory.mktemp("golden")
    words = folder / "words"
    words.write_text(f"{WORDS}\n")
    words.chmod(0o600)
    server = ServerProcess(folder / "state").start()
    assert server.run("lpar", "lpar1", "write", "old", "--wait", data=b"data").returncode == 0
    found = SimpleNamespace(server=server, words=words, file=folder / "base.portable")
    save = ["snapshot", "save", str(found.file), "--portable", "--passphrase-file", str(words)]
    done = server.run(*save)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().startswith(f"saved {found.file} (portable, ")
    assert server.run(*save).returncode == 1  # it exists
    assert server.run(*save, "--force").returncode == 0
    yield found
    server.kill()


def test_a_server_starts_from_a_snapshot(golden: SimpleNamespace, tmp_path: Path) -> None:
    """R-74, R-83: the first start loads the file; its partitions run, and a second start loads nothing."""
    server = ServerProcess(tmp_path / "s", snapshot=golden.file, passphrase=WORDS)
    assert WORDS not in repr(vars(server))
    server.start()
    try:
        assert server.run("lpar", "lpar1", "read", "old").stdout == b"data"
        assert server.run("lpar", "lpar1", "write", "new", "--wait", data=b"more").returncode == 0
        assert server.access_key() != golden.server.access_key()
        server.kill()
        server.start()
        assert server.run("lpar", "lpar1", "read", "new").stdout == b"more"
        assert list((server.state / "snapshots").iterdir()) == []
        assert WORDS not in server.log
    finally:
        server.kill()


def test_a_server_whose_snapshot_does_not_open(golden: SimpleNamespace, tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "s", snapshot=golden.file, passphrase="another passphrase")
    with pytest.raises(ServerFailed, match=r"^snapshot='.*base.portable': .*the passphrase is another one"):
        server.start()
    assert server.pid is None
    damaged = tmp_path / "damaged"
    damaged.write_bytes(b"other")
    server = ServerProcess(tmp_path / "t", snapshot=damaged, passphrase=WORDS)
    with pytest.raises(ServerFailed, match="damaged is none: it begins with other bytes"):
        server.start()
    with pytest.raises(WrongOption, match=r"passphrase has 5 characters") as refusal:
        ServerProcess(tmp_path / "u", snapshot=golden.file, passphrase="short")
    assert "short" not in str(refusal.value)


def test_files_that_are_refused(
    golden: SimpleNamespace, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each refusal names the file and the remedy, and leaves no copy in the state."""
    state, socket = str(golden.server.state), str(golden.server.control_socket)

    def refused(*words: str) -> str:
        assert main(["snapshot", *words]) == 1
        return capfd.readouterr().err

    file = str(golden.file)
    assert "own snapshot stays in its state" in refused("--state", state, "save", str(tmp_path / "x"))
    assert "remove it by rm" in refused("--state", state, "rm", file)
    assert "not by --socket" in refused("--socket", socket, "show", file)
    assert "No such file" in refused("--state", state, "show", str(tmp_path / "absent"))
    (tmp_path / "other").write_text("text")
    assert f"{tmp_path / 'other'} is none" in refused("--state", state, "load", str(tmp_path / "other"))
    assert "is no state" in refused("--state", str(tmp_path), "load", file)
    words = ["--passphrase-file", str(golden.words), "--portable"]
    assert "is no folder" in refused("--state", state, "save", str(tmp_path / "none" / "x"), *words)
    assert "running: lpar1" in refused("--state", state, "load", file, *words[:2], "--keep-uuid")
    assert list((golden.server.state / "snapshots").iterdir()) == []


def _typed(server: ServerProcess, *words: str, lines: list[str]) -> tuple[int, str]:
    """Run `swpks snapshot` on a terminal of its own, answer each question, and return status and output."""
    process, terminal = pty.fork()
    if process == 0:  # the child: this program ends it in every case
        try:
            os.execv(sys.executable, [*COMMAND, "snapshot", "--state", str(server.state), *words])
        finally:
            os._exit(99)
    shown = b""
    with os.fdopen(terminal, "r+b", buffering=0) as both:
        while True:
            try:
                more = both.read(1024)
            except OSError:  # Linux reports the end of the other side as EIO
                break
            if not more:
                break
            shown += more
            # getpass has switched the echo off before it asks
            if lines and shown.endswith((b"snapshot: ", b"again: ")):
                both.write(f"{lines.pop(0)}\n".encode())
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert not lines
    assert WORDS.encode() not in shown
    return status, shown.decode()


@pytest.mark.usefixtures("not_measured")
def test_the_passphrase_of_the_terminal(golden: SimpleNamespace) -> None:
    """R-83: a save asks twice; load, show and diff of a portable one ask once, others never."""
    server = golden.server
    portable = ["save", "typed", "--portable"]
    status, shown = _typed(server, *portable, lines=[WORDS, f"{WORDS}!"])
    assert (status, "the two passphrases differ" in shown) == (2, True)
    status, shown = _typed(server, *portable, lines=["\4"])  # Ctrl-D
    assert (status, "the input ended" in shown) == (2, True)
    assert _typed(server, *portable, lines=[WORDS, WORDS])[0] == 0
    assert "3 old: 4 bytes" in _typed(server, "show", "typed", lines=[WORDS])[1]
    assert "not checked" in _typed(server, "show", "typed", lines=[""])[1]
    assert "no difference" in _typed(server, "diff", "typed", str(golden.file), lines=[WORDS])[1]
    status, shown = _typed(server, "load", "typed", lines=[f"{WORDS}?"])
    assert (status, "rule snapshot.authentic" in shown) == (1, True)
    assert _typed(server, "save", "own", lines=[])[0] == 0
    assert "3 old: 4 bytes" in _typed(server, "show", "own", lines=[])[1]
    server.hmc("power", "lpar1", "off")
    status, shown = _typed(server, "load", "typed", "--keep-uuid", lines=[WORDS])
    assert (status, "lpar1: off" in shown) == (0, True)
    for name in ("typed", "own"):
        assert server.run("snapshot", "rm", name).returncode == 0
    server.hmc("power", "lpar1", "on")
