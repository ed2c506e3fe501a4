"""Which folders a console accepts as its store."""

from __future__ import annotations

from pathlib import Path

import pytest

from hcall_abi.errors import OperatorError
from hcall_server.console.store import ConsoleStore
from swpks.hmc.store_folder import StoreFolder


def test_a_selective_backup_is_accepted(tmp_path: Path) -> None:
    """A folder with the database is accepted, also if its lock is missing, as after a selective backup."""
    folder = tmp_path / "hmc"
    with StoreFolder(folder) as held:
        ConsoleStore(held.database).close()
    (folder / "lock").unlink()
    with StoreFolder(folder) as held:
        assert held.path == folder


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: (path.parent / "letter").touch()])
def test_other_things_are_no_store(make, tmp_path: Path) -> None:
    """A folder in place of the database is refused."""
    folder = tmp_path / "hmc"
    folder.mkdir(mode=0o700)
    make(folder / "console.sqlite")
    with pytest.raises(OperatorError, match="holds other things"):
        StoreFolder(folder)


@pytest.mark.parametrize("left", ["profiles/sys1", "console.sqlite-wal"])
def test_a_lost_database_is_no_new_console(left: str, tmp_path: Path) -> None:
    """A store whose database was deleted is refused by name; an empty one begins a console."""
    folder = tmp_path / "hmc"
    for _ in range(2):  # a start that ended before its database was made
        with StoreFolder(folder):
            pass
    (folder / left).touch()
    with pytest.raises(OperatorError, match=r"sqlite is missing, and .* from a backup, or choose") as caught:
        StoreFolder(folder)
    assert caught.value.rule.id == "hmc.store-folder"
    (folder / "console.sqlite").touch(0o600)
    with StoreFolder(folder):
        pass
