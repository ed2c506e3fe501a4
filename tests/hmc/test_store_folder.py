"""The folder of a console: accepted and refused folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from hcall_abi.errors import OperatorError
from hcall_server.console.store import ConsoleStore
from swpks.hmc.store_folder import StoreFolder


def test_a_selective_backup_is_accepted(tmp_path: Path) -> None:
    """A folder is accepted by its database, also if a backup left the lock out."""
    folder = tmp_path / "hmc"
    with StoreFolder(folder) as held:
        ConsoleStore(held.database).close()
    (folder / "lock").unlink()
    with StoreFolder(folder) as held:
        assert held.path == folder


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: (path.parent / "letter").touch()])
def test_other_things_are_no_store(make, tmp_path: Path) -> None:
    """A subfolder with the name of the database is no database."""
    folder = tmp_path / "hmc"
    folder.mkdir(mode=0o700)
    make(folder / "console.sqlite")
    with pytest.raises(OperatorError, match="holds other things"):
        StoreFolder(folder)
