"""The path of the state folder, and a storage device that fails."""

from __future__ import annotations

import contextlib
import errno
import itertools
from pathlib import Path

import pytest

from hcall_abi.errors import SwpksError
from hcall_abi.rules import storage as rules
from hcall_abi.rules.rule import Fault
from hcall_server.machine import logs
from hcall_server.service import server as server_module
from hcall_server.service.settings import PartitionSettings, Settings
from swpks.cli.main import main
from swpks.testing import ServerProcess
from tests.scarcity.nth import failing
from tests.service.folder import assembled


@pytest.mark.parametrize(
    "words",
    [
        ["serve", "--state", ""],
        ["demo", "--state="],
        ["hmc", "--state", "", "status"],
        ["lpar", "a", "config", "--state", ""],
        ["asmi", "clear-all", "--state", ""],
    ],
    ids=lambda words: words[0],
)
def test_an_empty_path_is_no_state(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty path is refused, because it would mean the working directory."""
    with contextlib.chdir(tmp_path):
        assert main(words) == 2
    said = capsys.readouterr().err
    assert f"rule {rules.STATE_NAMED.id}: " in said
    assert "name a folder" in said
    assert list(tmp_path.iterdir()) == []


def test_serve_takes_the_state_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`serve` takes the state from --state, or else from SWPKS_STATE.

    Without both, the message names them.
    """
    served: list[Path] = []

    def run(folder: Path, *_: object, **__: object) -> None:
        served.append(folder)

    monkeypatch.setattr(server_module, "run", run)
    monkeypatch.setenv("SWPKS_STATE", str(tmp_path / "a"))
    try:
        assert main(["serve", "--debuggable"]) == 0
        assert main(["serve", "--debuggable", "--state", str(tmp_path / "b")]) == 0
        assert served == [tmp_path / "a", tmp_path / "b"]
        monkeypatch.delenv("SWPKS_STATE")
        assert main(["serve", "--debuggable"]) == 2
    finally:
        logs.configure(level="warning")
    assert "name the state folder: --state DIR (or SWPKS_STATE) [" in capsys.readouterr().err


@pytest.mark.process
@pytest.mark.usefixtures("not_measured")
def test_a_partition_without_a_size_is_announced(tmp_path: Path) -> None:
    """A new partition without a size has no keystore. The first start reports it, with the right form."""
    server = ServerProcess(tmp_path / "state", ["alpha", "beta:8"]).start()
    assert server.ready["keystore_off"] == ["alpha"]
    assert "; alpha has no keystore: --partition alpha:KBYTES gives it one\n" in server.log
    server.stop()
    again = ServerProcess(tmp_path / "state", ["beta"]).start()
    announced = again.log.count("has no keystore")
    again.stop()
    # Only the first start announces that alpha has no keystore.
    assert (again.ready["keystore_off"], announced) == (["alpha"], 1)


def _first_start(folder: Path, nth: int) -> tuple[bool, SwpksError | None]:
    """Start on a new state while the n-th sync fails; return whether that sync was reached, and the error."""
    settings = Settings(partition=(PartitionSettings.of("a", 8),))
    with failing(nth, errno.EIO, "fsync") as sync:
        try:
            with assembled(folder / "state", settings):
                return sync.failed, None
        except SwpksError as error:
            return sync.failed, error


def test_a_device_that_fails_at_a_sync_is_named(tmp_path: Path) -> None:
    """If any sync of a first start fails, the error is one of the storage and names the file."""
    refused: list[SwpksError] = []
    for nth in itertools.count(1):
        came, error = _first_start(tmp_path / str(nth), nth)
        if not came:
            break
        if error:
            refused.append(error)
            assert str(tmp_path / str(nth)) in error.message
    assert {error.fault for error in refused} == {Fault.STORAGE}
    assert rules.STATE_DEVICE in [error.rule for error in refused]
