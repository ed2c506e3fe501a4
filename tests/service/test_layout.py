"""States with NVRAM at the top level: a start moves it into the folders of the parts and loses nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from hcall_abi.consumers import SecureBoot
from hcall_abi.errors import OperatorError, StorageError, SwpksError
from hcall_abi.rules import storage as rules
from hcall_server.machine.machine import Machine
from tests.service.folder import assembled, old_state

OBJECTS = {
    "stopped": {b"disk-key"},
    "killed": {b"disk-key", b"late"},
}
"""The labels in alpha. The last one was confirmed before a kill and is only in the log."""


def labels(machine: Machine, name: str) -> set[bytes]:
    """Return the labels of a partition's objects."""
    keystore = machine.system.find(name).keystore
    assert keystore is not None
    return {each.label for each in keystore.contents.snapshot().objects}


@pytest.mark.parametrize("what", OBJECTS)
def test_a_state_of_9ad1d50_opens(tmp_path: Path, what: str) -> None:
    """R-21, R-40: The first start wraps the root key, and the second finds both copies. All records stay."""
    state = old_state(tmp_path / "state", "9ad1d50", what)
    for row in ("wrapped-copy-lost", "whole"):
        with assembled(state) as machine:
            assert machine.access.row == row
            assert labels(machine, "alpha") == OBJECTS[what]
            assert labels(machine, "beta") == {b"other"}
            assert machine.system.find("alpha").next_secure_boot == SecureBoot.ENFORCE
            assert machine.system.find("gamma").keystore is None
        assert not list(state.glob("nvram*"))


def refusal(state: Path) -> SwpksError:
    """Return the error of a start. The files at the top stay in place."""
    before = sorted(state.glob("nvram*"))
    with pytest.raises((OperatorError, StorageError)) as caught, assembled(state):
        pass
    assert sorted(state.glob("nvram*")) == before
    return caught.value


def test_two_layouts_are_refused(tmp_path: Path) -> None:
    """R-22: If an old database is put back beside the new one, the start is refused."""
    state = old_state(tmp_path / "state", "9ad1d50", "stopped")
    with assembled(state):
        pass
    old = old_state(tmp_path / "old", "9ad1d50", "stopped")
    (old / "nvram.sqlite").rename(state / "nvram.sqlite")
    error = refusal(state)
    assert error.rule is rules.STATE_LAYOUT
    assert "keep the right one" in error.message
    (state / "nvram.sqlite").unlink()
    with assembled(state) as machine:
        assert labels(machine, "alpha") == {b"disk-key"}


def test_a_mark_without_its_database_is_refused(tmp_path: Path) -> None:
    """R-22: A mark without its database means lost records, so the start makes no new ones.

    When the database is put back, the start succeeds.
    """
    state = old_state(tmp_path / "state", "9ad1d50", "stopped")
    database = (state / "nvram.sqlite").rename(tmp_path / "database")
    error = refusal(state)
    assert error.rule is rules.STATE_LAYOUT
    assert "put NVRAM and its mark back together" in error.message
    database.rename(state / "nvram.sqlite")
    with assembled(state) as machine:
        assert labels(machine, "alpha") == {b"disk-key"}


@pytest.mark.parametrize("name", ["nvram.sqlite", "nvram.sqlite-mark"])
def test_only_plain_files_are_moved(tmp_path: Path, name: str) -> None:
    """R-02: If the database is a link or a folder, it is not moved and the start is refused."""
    state = old_state(tmp_path / "state", "9ad1d50", "stopped")
    away = (state / name).rename(tmp_path / "away")
    (state / name).symlink_to(away)
    assert refusal(state).rule is rules.STATE_LINK
    (state / name).unlink()
    (state / name).mkdir()
    assert refusal(state).rule is rules.NVRAM_WRITABLE


def test_a_card_of_level_1_beside_cleared_records_is_recovery(tmp_path: Path) -> None:
    """R-48: If NVRAM was cleared, access keys show that partitions existed, so the system is in Recovery."""
    state = old_state(tmp_path / "state", "89ecc72", "stopped")
    for path in state.glob("nvram*"):
        path.unlink()
    with assembled(state) as machine:
        assert machine.system.state.value == "Recovery"
        assert machine.recovery.lost == ["alpha", "beta", "gamma"]
