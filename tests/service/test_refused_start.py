"""R-44: A refused start leaves no new folder, and does not change an existing state."""

from __future__ import annotations

import argparse
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

from hcall_server.machine import logs
from hcall_server.nvram.mark import SLOTS
from hcall_server.sealing.commits import MARK, MARK_MAGIC
from hcall_server.service.settings import PartitionSettings, Settings
from swpks.cli.main import main, whole_parser
from tests.service.folder import assembled

FILE = "FILE"
"""Stands for the path of a file that has wrong fields."""
TAKEN = "tcp:127.0.0.1:TAKEN"
"""Stands for an address that another program has."""
TLS = ("--tls-cert", FILE, "--tls-key", FILE, "--tls-ca", FILE)
LONG = "n" * 120

REFUSED = {
    "--state": [[], ["--state", f"DIR/{LONG}"]],
    "--config": [["--config", f"DIR/{LONG}"], ["--config", FILE]],
    "--name": [["--name", ""], ["--name", "a/b"]],
    "--tpm": [
        ["--tpm", "foo"],
        ["--tpm", ""],
        ["--tpm", "swtpm:"],
        ["--tpm", f"swtpm:/{LONG}"],
        ["--tpm", "swtpm:/no/such/socket"],
        ["--tpm", "tcti:"],
        ["--tpm", "embedded", "--tpm", "foo"],
        ["--tpm", "swtpm:/a", "--tpm", "swtpm://a/../a"],
    ],
    "--firmware": [["--firmware", "FW1"]],
    "--partition": [
        ["--partition", ""],
        ["--partition", "b:1"],
        ["--partition", "b:64", "--partition", "c:1"],
        ["--partition", "b:64", "--partition", "b:64"],
        ["--partition", "b:64,no_such_attribute=1"],
        ["--partition", "b:64,secure_boot=9"],
    ],
    "--listen": [
        ["--listen", "x"],
        ["--listen", TAKEN],
        ["--listen", "tcp:192.0.2.1:0", "--partition", "b:8"],
    ],
    "--control": [["--control", "tcp:127.0.0.1:0"], ["--control", "x", *TLS]],
    "--tls-cert": [["--tls-cert", FILE], ["--control", "tcp:127.0.0.1:0", *TLS]],
    "--tls-key": [["--tls-key", FILE]],
    "--tls-ca": [["--tls-ca", FILE]],
    "--mobility": [["--mobility", "x"], ["--mobility", TAKEN, "--partition", "b:8"]],
    "--metrics": [
        ["--metrics", "x"],
        ["--metrics", "tcp:0.0.0.0:0"],
        ["--metrics", TAKEN, "--partition", "b:8"],
    ],
    "--nvram": [
        ["--nvram", "x"],
        ["--nvram", "etcd:127.0.0.1:1"],
        ["--nvram", "etcd:127.0.0.1:1", "--partition", "b:1"],
        ["--standby"],
    ],
    "--nvram-prefix": [["--nvram-prefix", "a"], ["--nvram", "etcd:127.0.0.1:1", "--nvram-prefix", "/"]],
    "--nvram-lease": [["--nvram-lease", "1"], ["--nvram-lease", "x"], ["--nvram-lease", "5"]],
    "--nvram-tls-ca": [
        ["--nvram-tls-ca", FILE],
        ["--nvram", "etcd:https://127.0.0.1:1", "--nvram-tls-ca", FILE],
        ["--nvram", "etcd:http://127.0.0.1:1", "--nvram-tls-ca", FILE],
    ],
    "--nvram-tls-cert": [["--nvram", "etcd:127.0.0.1:1", "--nvram-tls-ca", FILE, "--nvram-tls-cert", FILE]],
    "--nvram-tls-key": [["--nvram", "etcd:127.0.0.1:1", "--nvram-tls-ca", FILE, "--nvram-tls-key", FILE]],
    "--ready-fd": [["--ready-fd", "x"], ["--ready-fd", "9999"], ["--ready-fd", "-1"]],
    "--flush-delay": [["--flush-delay", "-1"], ["--flush-delay", "nan"]],
    "--confirm-wait": [["--confirm-wait", "1e9"]],
    "--copy-interval": [["--copy-interval", "0"]],
    "--trace": [
        ["--trace", "/dev/null"],
        ["--trace", "/dev/null/a.pcapng"],
        ["--trace", ""],
        ["--trace", "DIR/above/state/presence"],
        ["--trace", "DIR/above/state"],
        ["--trace", "DIR/above/../above/state/run/a.pcapng"],
        ["--trace-secrets"],
    ],
    "--trace-limit": [["--trace-limit", "0"], ["--trace", "all.pcapng", "--trace-limit", "nan"]],
    "--log-level": [["--log-level", "x"]],
    "--log-format": [["--log-format", "x"]],
}
"""Wrong command lines by the option that is wrong in them."""
LINES = [line for lines in REFUSED.values() for line in lines]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Configure the log again after each test: these starts run in the test's process."""
    yield
    logs.configure(level="warning")


@pytest.fixture
def taken() -> Iterator[str]:
    """An address at which another program listens."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield f"tcp:127.0.0.1:{other.getsockname()[1]}"


def refused(line: list[str], state: Path, taken: str) -> bool:
    """Start a server that must be refused; return whether it was refused."""
    folder = state.parents[1]
    (folder / "file").write_text("no_such_field = 1\n")
    words = [word.replace(FILE, str(folder / "file")).replace("DIR", str(folder)) for word in line]
    words = [word.replace(TAKEN, taken) for word in words]
    given = [] if "--state" in line else ["--state", str(state)] if line else []
    try:
        return main(["serve", "--debuggable", *given, *words]) in (2, 3)
    except SystemExit as ended:
        return ended.code == 2


class Entry(NamedTuple):
    """One file or folder of a state, for a comparison before and after a start.

    A folder has no `data` and no time `written`, because NVRAM makes and removes files in it. The lock file
    also has neither, because each start writes it. For the mark of NVRAM, `data` is only its number.
    """

    mode: int
    inode: int
    data: bytes | int | None
    written: int


def content(folder: Path) -> dict[str, Entry]:
    """Return the entries of all files and folders below a folder, by path."""
    return {str(path): _entry(path) for path in folder.rglob("*")}


def _entry(path: Path) -> Entry:
    found = path.lstat()
    if path.name == "nvram.sqlite-mark":
        data = path.read_bytes()
        slots = (data[at:] for at in SLOTS)
        numbers = [MARK.parse(slot).number for slot in slots if slot.startswith(MARK_MAGIC)]
        return Entry(found.st_mode, found.st_ino, max(numbers), 0)
    if path.name == "lock" or not path.is_file():
        return Entry(found.st_mode, found.st_ino, None, 0)
    return Entry(found.st_mode, found.st_ino, path.read_bytes(), found.st_mtime_ns)


def test_each_option_with_a_value_has_a_wrong_one() -> None:
    """Each option of `serve` with a value has a wrong value in the table REFUSED."""
    (commands,) = (each for each in whole_parser()._actions if isinstance(each, argparse._SubParsersAction))
    options = [each for each in commands.choices["serve"]._actions if each.nargs != 0]
    assert {each.option_strings[0] for each in options} == set(REFUSED)


@pytest.mark.parametrize("line", LINES, ids=lambda line: " ".join(line)[:40] or "none")
def test_no_folder_is_left(
    line: list[str], tmp_path: Path, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused start leaves neither the state nor a folder above it."""
    monkeypatch.delenv("SWPKS_STATE", raising=False)
    assert refused(line, tmp_path / "above" / "state", taken)
    assert [path.name for path in tmp_path.rglob("*") if path.name != "file"] == []


def test_an_empty_folder_stays_and_foreign_files_too(tmp_path: Path, taken: str) -> None:
    """A refused start does not remove an empty folder of the operator, and touches no foreign files."""
    state = tmp_path / "above" / "state"
    state.mkdir(parents=True)
    assert refused(["--partition", "b:1"], state, taken)
    assert list(state.iterdir()) == []
    (state / "mine").write_text("content")
    assert refused(["--partition", "b:1"], state, taken)
    assert [path.name for path in state.iterdir()] == ["mine"]


def test_a_state_that_is_there_is_not_changed(tmp_path: Path, taken: str) -> None:
    """R-44: No refused line in LINES changes an existing state.

    Its settings, keys and parts stay, and so does the number of NVRAM's mark.
    """
    state = tmp_path / "above" / "state"
    state.parent.mkdir()
    with assembled(state, Settings(partition=(PartitionSettings.of("a", 64),))) as machine:
        assert trio.run(machine.encryptor.flush)
    before = content(state)
    for line in LINES:
        if "--state" not in line and line:
            assert refused([*line, "--name", "other"] if "--name" not in line else line, state, taken), line
            assert content(state) == before, line
    with assembled(state) as machine:
        assert list(machine.system.partitions) == ["a"]


def test_the_lock_of_a_refused_start_stands_in_no_way(tmp_path: Path, taken: str) -> None:
    """After a refused start, the next start can lock the file.

    The file still has the id of the last process that had the lock. The next start ignores that id.
    """
    state = tmp_path / "above" / "state"
    with assembled(state):
        own = (state / "lock").read_text()
        assert refused(["--partition", "b:64"], state, taken), "another start has the state"
        assert (state / "lock").read_text() == own == f"{os.getpid()}\n"
    (state / "lock").write_text("1\n")
    assert refused(["--partition", "b:1"], state, taken)
    assert (state / "lock").read_text() == own
    with (state / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
