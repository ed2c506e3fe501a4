"""A console settles the journal of a killed one before SQLite opens it, and only if it is alone."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from hcall_abi.errors import OperatorError, StorageError
from hcall_abi.rules import hmc as rules
from hcall_server.console import database as module
from hcall_server.console import journal
from hcall_server.console.database import Database
from hcall_server.files import replace_private


def add(database: Database, number: int) -> None:
    """Make one change."""
    with database.changes() as connection:
        connection.execute("INSERT INTO console VALUES (?, ?)", (str(number), "console"))


def count(database: Database) -> int:
    """Return the number of changes."""
    return int(database.rows("SELECT count(*) FROM console")[0][0])


def found(path: Path) -> int:
    """Return the number of changes that a new console finds."""
    database = Database(path)
    try:
        return count(database)
    finally:
        database.close()


def journal_of(path: Path) -> Path:
    """Return the path of the journal."""
    return path.with_name(f"{path.name}-journal")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed database with one change."""
    made = tmp_path / "console.sqlite"
    database = Database(made)
    add(database, 1)
    database.close()
    return made


def killed(path: Path, folder: Path, *, during: bool) -> Path:
    """Return a copy of the files as a kill leaves them: after a second change, or in the middle of it."""
    folder.mkdir()
    database = Database(path)
    with database.changes() as connection:
        connection.execute("PRAGMA cache_size = 1")  # pages reach the file before the commit
        for number in range(300):
            connection.execute("INSERT INTO console VALUES (?, ?)", (str(number), "x" * 500))
        if during:
            copy_files(path, folder)
    if not during:
        copy_files(path, folder)
    database.close()
    return folder / path.name


def copy_files(path: Path, folder: Path) -> None:
    """Copy database and journal in another process, because a close would end the locks of this one."""
    subprocess.run(["cp", path, journal_of(path), folder], check=True)


def test_a_journal_without_a_header_is_removed(path: Path, tmp_path: Path) -> None:
    """R-21: The change that it belongs to stays."""
    cut = killed(path, tmp_path / "cut", during=False)
    assert journal_of(cut).read_bytes()[:1] == b"\0"
    assert found(cut) == 301
    assert not journal_of(cut).exists()


def test_a_journal_with_a_header_is_copied_and_undoes_its_change(path: Path, tmp_path: Path) -> None:
    """R-22: The unfinished change is undone, by a journal that is durable."""
    cut = killed(path, tmp_path / "cut", during=True)
    content = journal_of(cut).read_bytes()
    assert content[:1] != b"\0"
    copied: list[tuple[Path, bytes]] = []

    def replace(path: Path, content: bytes) -> None:
        copied.append((path, content))
        replace_private(path, content)

    with mock.patch.object(journal, "replace_private", replace):
        assert found(cut) == 1
    assert copied == [(journal_of(cut), content)]


def test_without_room_the_old_journal_serves(path: Path, tmp_path: Path) -> None:
    """R-23: Without room for a copy, the console starts with the old journal."""
    cut = killed(path, tmp_path / "cut", during=True)
    with mock.patch.object(journal, "replace_private", side_effect=OSError(errno.ENOSPC, "full")):
        assert found(cut) == 1


def test_a_journal_that_can_not_be_copied(path: Path, tmp_path: Path) -> None:
    """R-22: If the copy fails, the start is refused by a rule. The next start works."""
    cut = killed(path, tmp_path / "cut", during=True)
    fails = mock.patch.object(journal, "replace_private", side_effect=OSError(errno.EIO, "I/O error"))
    for _ in range(2):
        with fails, pytest.raises(StorageError, match="I/O error") as caught:
            Database(cut)
        assert caught.value.rule is rules.HMC_STORE_WRITTEN
    assert found(cut) == 1


def test_a_fifo_is_left_to_sqlite(path: Path) -> None:
    """A start does not wait at a pipe in place of a journal, before SQLite reads it."""
    os.mkfifo(journal_of(path))
    with mock.patch.object(journal, "alone", side_effect=AssertionError):
        journal.settle_journal(path)


READER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN")
connection.execute("SELECT count(*) FROM console").fetchall()
print("open", flush=True)
sys.stdin.read()
"""


@pytest.mark.process
def test_a_journal_in_use_is_left(path: Path, tmp_path: Path) -> None:
    """While another program reads the database, or this process has it open, the journal is left as it is."""
    cut = killed(path, tmp_path / "cut", during=False)
    before = journal_of(cut).stat()
    program = [sys.executable, "-c", READER, str(cut)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout
        assert reader.stdout.readline() == "open\n"
        with pytest.raises(OperatorError, match="another console uses"):
            Database(cut)
        reader.kill()
    assert journal_of(cut).stat() == before
    database = Database(cut)
    add(database, 2)
    before = journal_of(cut).stat()
    with pytest.raises(OperatorError, match="another console uses"):
        Database(cut)
    assert journal_of(cut).stat() == before
    add(database, 3)
    database.close()
    assert found(cut) == 303


def test_after_a_failed_commit_the_database_is_opened_again(path: Path, tmp_path: Path) -> None:
    """R-21: If COMMIT fails, the change may be there. The console settles that before its next answer."""

    class Failing(sqlite3.Connection):
        left = 1

        def execute(self, statement: str, *given: object) -> sqlite3.Cursor:
            done = super().execute(statement, *given)  # type: ignore[arg-type]
            if statement == "COMMIT" and self.in_transaction is False and Failing.armed and Failing.left:
                Failing.left -= 1
                raise sqlite3.OperationalError("disk I/O error")
            return done

        armed = False

    real = sqlite3.connect
    with mock.patch.object(sqlite3, "connect", lambda *a, **k: real(*a, **k, factory=Failing)):
        database = Database(path)
        Failing.armed = True
        with pytest.raises(StorageError):
            add(database, 2)
        with mock.patch.object(module, "settle_journal", side_effect=OSError(errno.EIO, "I/O error")):
            for _ in range(2):
                with pytest.raises(StorageError, match="I/O error"):
                    count(database)
        assert count(database) == 2
        assert not journal_of(path).exists()
        add(database, 3)
        database.close()
    assert found(path) == 3
