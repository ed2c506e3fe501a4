"""Every kind of object at each path in a command: a clear error, no traceback, no hang."""

from __future__ import annotations

import io
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hcall_server.machine import logs
from swpks.cli.main import main
from swpks.testing import ServerProcess
from tests.scarcity.places import (
    KINDS,
    below_a_file,
    fifo,
    folder,
    forbidden,
    gone,
    loop,
    made,
    missing,
    no_hang,
    too_long,
)

AT = "PATH"
"""Stands for the path in a command line."""
LPAR = ("lpar", "alpha", "--state", "STATE")
TCP = ("lpar", "alpha", "--tcp", "TCP")

READ: dict[str, tuple[str, ...]] = {
    "serve --config": ("serve", "--state", "NEW", "--listen", "udp:nowhere", "--config", AT),
    "lpar --access-key-file": (*TCP, "config", "--access-key-file", AT),
    "lpar --password-file": (*LPAR, "write", "label", "--in", "/dev/null", "--password-file", AT),
    "lpar write --in": (*LPAR, "write", "label", "--in", AT),
    "lpar update --auth": (*LPAR, "update", "db", "--auth", AT),
    "lpar wrap --in": (*LPAR, "wrap", "key", "--in", AT),
    "lpar unwrap --in": (*LPAR, "unwrap", "--in", AT),
    "lpar set-password": (*LPAR, "set-password", "--consumer", "9", "--new-password-file", AT),
    "lpar raw": (*LPAR, "raw", "0x43C", "--segment", f"0x1000:in:@{AT}"),
    "qemu --kernel": ("qemu", "--partition", "a", "--state", "NEW", "--kernel", AT),
    "qemu --initrd": ("qemu", "--partition", "a", "--state", "NEW", "--kernel", "/dev/null", "--initrd", AT),
}
WRITTEN: dict[str, tuple[str, ...]] = {
    "lpar read --out": (*LPAR, "read", "given", "--out", AT),
}
PLACES: dict[str, tuple[str, ...]] = {
    "serve --state": ("serve", "--listen", "tcp:192.0.2.1:1", "--state", AT),
    "lpar --state": ("lpar", "alpha", "config", "--state", AT),
    "lpar --socket": ("lpar", "alpha", "config", "--socket", AT),
    "hmc --state": ("hmc", "status", "--state", AT),
    "hmc --socket": ("hmc", "status", "--socket", AT),
    "asmi --state": ("asmi", "clear-all", "--state", AT),
    "qemu --state": ("qemu", "--partition", "a", "--kernel", "/dev/null", "--state", AT),
    "demo --state": ("demo", "--state", AT),
}
COMMANDS = {**READ, **WRITTEN, **PLACES}


class Done(NamedTuple):
    """The exit status of a command, and its last output."""

    status: int
    last_words: str


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Values for the options of the server in command lines."""
    folder = tmp_path_factory.mktemp("places")
    server = ServerProcess(folder / "state", ["alpha:64"], ["--listen", "tcp:127.0.0.1:0"]).start()
    assert server.run("lpar", "alpha", "write", "given", data=b"data").returncode == 0
    yield {
        "STATE": str(server.state),
        "TCP": f"127.0.0.1:{server.ready['tcp_port']}",
        "NEW": str(folder / "new"),
    }
    server.kill()


def run(command: tuple[str, ...], words: dict[str, str], path: Path, monkeypatch: pytest.MonkeyPatch) -> Done:
    """Run a command in this process; return how it ended."""
    error, output = io.TextIOWrapper(io.BytesIO()), io.TextIOWrapper(io.BytesIO())
    given = [words.get(word, word.replace(AT, str(path))) for word in command]
    with monkeypatch.context() as patched, no_hang():
        patched.setattr("sys.stderr", error)
        patched.setattr("sys.stdout", output)
        try:
            status = main(given)
        except SystemExit as end:  # argparse has printed the usage
            status = int(end.code or 0)
        finally:
            logs.configure(level="warning")
    error.flush()
    return Done(status, error.buffer.getvalue().decode())


FINE = {
    "lpar write --in": {"binary"},
    "lpar raw": {"empty", "binary"},
    "lpar read --out": {"missing", "lost_link", "endless", "empty", "huge", "binary"},
}
"""The kinds of paths with which a command may succeed."""
REFUSED_CALLS = {"lpar raw"}
"""Commands whose h-call is refused with any file; the refusal is their output."""


def cases() -> Iterator[Any]:
    """Yield each command with each kind of object.

    For the demo, a missing folder is no error and is left out.
    """
    for command in COMMANDS:
        for kind in KINDS:
            if (command, kind) != ("demo --state", missing):
                yield pytest.param(command, kind, id=f"{command}-{kind.__name__}")


@pytest.mark.process
@pytest.mark.parametrize("command,kind", list(cases()))
def test_a_path_that_leads_elsewhere(
    command: str,
    kind: Callable[[Path], Path],
    words: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If a command can't use an object, the command ends soon, with a message and an exit status."""
    with made(kind, tmp_path / "place") as path:
        status, reported = run(COMMANDS[command], words, path, monkeypatch)
    fine = kind.__name__ in FINE.get(command, ())
    assert (status, reported) == (int(command in REFUSED_CALLS), "") if fine else status in {1, 2, 3}, (
        reported
    )
    assert fine or re.search(r"^swpks.*: ", reported, re.MULTILINE)
    assert "Traceback" not in reported


@pytest.mark.process
def test_no_password_is_made_that_cannot_be_kept(
    words: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-05: if --out can't be written, the command fails before GEN_PASSWORD.

    So the next attempt succeeds.
    """
    command = (*LPAR, "gen-password", "--consumer", "boot-loader", "--out", AT)
    for n, kind in enumerate((below_a_file, fifo, loop, folder, forbidden, too_long)):
        with made(kind, tmp_path / str(n)) as path:
            assert run(command, words, path, monkeypatch).status == 2
    kept = tmp_path / "kept"
    kept.write_bytes(bytes(1000))
    assert run(command, words, kept, monkeypatch) == (0, "")
    assert len(kept.read_bytes()) == 64
    assert run(command, words, kept, monkeypatch).status == 1
    assert len(kept.read_bytes()) == 64


@pytest.mark.process
def test_a_secret_may_come_through_a_pipe(
    words: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret may come through a pipe. It is read to its end, even if the writer is late."""
    key = (Path(words["STATE"]) / "access-keys" / "alpha.key").read_bytes()
    for seconds in (0.0, 0.05):
        reader, writer = os.pipe()
        late = threading.Timer(seconds, _send, (writer, key))
        late.start()
        if not seconds:
            late.join()
        done = run((*TCP, "config", "--access-key-file", AT), words, Path(f"/dev/fd/{reader}"), monkeypatch)
        late.join()
        os.close(reader)
        assert done == (0, "")


def _send(writer: int, content: bytes) -> None:
    os.write(writer, content)
    os.close(writer)


@pytest.mark.process
@pytest.mark.parametrize("command", COMMANDS)
def test_a_relative_path_without_a_working_directory(
    command: str, words: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the working directory is gone, the message names the relative path."""
    with gone(tmp_path / "gone"):
        done = run(COMMANDS[command], words, Path("place"), monkeypatch)
    assert done.status == 2
    assert "place" in done.last_words
    assert "command.folder" in done.last_words or command == "lpar raw"
