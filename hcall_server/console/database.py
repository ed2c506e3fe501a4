"""The console's database: one SQLite file, with durable changes (spec/console.md#store).

The console writes rarely, so it does so on its loop: a commit with a copy takes about 10 milliseconds.
"""

# Answered changes are in one file
#
# NVRAM has a write-ahead log: until a checkpoint, a commit is in a second file.  Here that would be a danger.
# An operator who removes ``console.sqlite-wal`` while the console runs would remove answered changes.  So
# this database has a rollback journal.  Its second file has the old pages, and only during a commit.
#
# With an exclusive lock, SQLite leaves the journal open.  It ends a commit with zeros in the header of the
# journal, and syncs them.  An operator may remove the file between two changes.  Nothing is lost then.  But
# after a kill during the next change, SQLite would not find the journal that undoes this change.  So the
# console checks the name before each change, and opens the database again if the file is gone.
#
# A kill may leave a journal that is not on the disk, or not as it is read.  `journal.py` settles it before
# SQLite opens it.
#
# SQLite accepts an empty file as a database.  A console would begin anew with it, without its copies.  So an
# empty file counts as damaged, and a new database gets its name only when it is complete.

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hcall_abi.errors import OperatorError, StorageError
from hcall_abi.later import of_later_release
from hcall_abi.rules import hmc as rules
from hcall_server.console.journal import settle_journal
from hcall_server.files import InPlace, refuse_link, sync_folder
from hcall_server.sqlite_lock import Claim

APPLICATION_ID = 0x53504B43
"""``SPKC``, in the SQLite header: the file is the store of a console."""
STORE_LEVEL = 2
"""Level 2 has the register of migrations; a store of level 1 gets it when it is opened."""

READ_LEVELS = (1, STORE_LEVEL)
"""The levels of stores that this release opens."""

_PRAGMAS = (
    "locking_mode = EXCLUSIVE",
    "journal_mode = DELETE",
    "synchronous = EXTRA",
    "foreign_keys = ON",
    "cell_size_check = ON",
    "trusted_schema = OFF",
    "secure_delete = ON",
)
_REGISTER = """CREATE TABLE register (
    uuid TEXT PRIMARY KEY, name TEXT NOT NULL, kind TEXT NOT NULL, epoch INTEGER NOT NULL,
    decision TEXT NOT NULL, moved INTEGER NOT NULL, source TEXT NOT NULL, target TEXT NOT NULL,
    owner TEXT NOT NULL, over INTEGER NOT NULL, final BLOB NOT NULL, others TEXT NOT NULL)"""
_SCHEMA = (
    _REGISTER,
    "CREATE TABLE console (id TEXT NOT NULL, name TEXT NOT NULL)",
    """CREATE TABLE system (
        key INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, system_id TEXT NOT NULL,
        type_model_serial TEXT NOT NULL, place TEXT NOT NULL, trusted_key_id TEXT NOT NULL DEFAULT '',
        removed INTEGER NOT NULL DEFAULT 0)""",
    """CREATE TABLE copy (
        number INTEGER PRIMARY KEY AUTOINCREMENT, system INTEGER NOT NULL REFERENCES system (key),
        uuid TEXT NOT NULL, name TEXT NOT NULL, restores INTEGER NOT NULL, generation INTEGER NOT NULL,
        time INTEGER NOT NULL, kbytes INTEGER NOT NULL, firmware TEXT NOT NULL,
        trusted_key_id TEXT NOT NULL, received REAL NOT NULL, blob BLOB NOT NULL)""",
    """CREATE TABLE former (
        system INTEGER NOT NULL REFERENCES system (key), system_id TEXT NOT NULL,
        PRIMARY KEY (system, system_id))""",
    "CREATE INDEX copy_of_store ON copy (system, uuid)",
    """CREATE TABLE trusted_key (
        system INTEGER NOT NULL REFERENCES system (key), id TEXT NOT NULL, sealed BLOB NOT NULL,
        PRIMARY KEY (system, id))""",
    """CREATE TABLE forgotten (
        system INTEGER NOT NULL REFERENCES system (key), uuid TEXT NOT NULL, PRIMARY KEY (system, uuid))""",
    """CREATE TABLE seen (
        uuid TEXT PRIMARY KEY, restores INTEGER NOT NULL, generation INTEGER NOT NULL,
        ipl_count INTEGER NOT NULL)""",
    """CREATE TABLE link (
        system INTEGER PRIMARY KEY REFERENCES system (key), connected INTEGER NOT NULL, since REAL NOT NULL,
        heard REAL NOT NULL, view BLOB)""",
    """CREATE TABLE job (
        number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, system INTEGER NOT NULL
        REFERENCES system (key), state TEXT NOT NULL, plan BLOB NOT NULL, progress BLOB NOT NULL)""",
)
_BESIDE = ("-journal", "-wal", "-shm")
"""Files that SQLite makes beside a database; the files of a lost database would damage a new one."""
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_NO_CODE = 0
_ODD = ("Could not decode to UTF-8", "no such table", "no such column")
"""Messages about damage that have no code of damage: Python's about text, SQLite's about missing tables."""
_TABLES = frozenset(("console", "system", "copy", "trusted_key", "forgotten", "job", "register"))


class Database:
    """The open database in the file `path` (mode 0600), or in memory if `path` is None.

    StorageError if the file is damaged, is no database of a console, is of a newer release, or can't be
    written.  OperatorError if another console has it open.  After an error nothing has changed, and the
    caller may try again.
    """

    def __init__(self, path: Path | None) -> None:
        self._where = str(path) if path else "the store in memory"
        self._path = path
        self._place: InPlace | None = None
        self._journal: InPlace | None = None
        self._claim: Claim | None = None
        self._unsure = False
        if path:
            self._find_or_make(path)
            self._claim = self._claimed(path)
        try:
            self._connection = self._opened(path, new=path is None)
        except BaseException:
            self._release()
            raise
        if path:
            self._place = self._placed(path)

    def __repr__(self) -> str:
        return f"Database({self._where!r})"

    @property
    def folder(self) -> str:
        """The folder of the file, "" in memory."""
        return str(self._path.parent) if self._path else ""

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        self._demand_sure()
        with self._translated():
            return self._connection.execute(statement, values).fetchall()

    @contextlib.contextmanager
    def changes(self) -> Iterator[sqlite3.Connection]:
        """Return a block that is one transaction: all its changes become durable, or none."""
        self._demand_in_place()
        self._demand_sure()
        if self._journal and self._journal.lost():
            self._open_again()
        try:
            with self._translated():
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                # The file may have been removed during the block.  A commit into it would be answered, and
                # then lost with the file.
                self._demand_in_place()
                self._unsure = self._path is not None
                self._connection.execute("COMMIT")
                self._unsure = False
        except BaseException:
            if self._connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
            raise
        if self._path and self._journal is None:
            with contextlib.suppress(OSError):
                self._journal = InPlace(self._path.with_name(f"{self._path.name}-journal"))

    def damaged(self, reason: str) -> StorageError:
        """Return the error for a row with unexpected contents."""
        return self._unusable(reason)

    def close(self) -> None:
        """Release the file."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
        self._release()

    def _release(self) -> None:
        if self._claim:
            self._claim.release()

    def _demand_sure(self) -> None:
        """After a COMMIT that has failed, open the database again: it may have the change or not.

        Opening it makes either durable.  Otherwise a power cut could still change the answer.
        """
        if self._unsure:
            self._demand_in_place()
            self._open_again()
            self._unsure = False

    def _claimed(self, path: Path) -> Claim:
        try:
            return Claim(path)
        except BlockingIOError:
            raise self._in_use() from None
        except OSError as error:
            raise StorageError(rules.HMC_STORE_FILE, f"{path}: {error.strerror or error}") from None

    def _settle(self, path: Path) -> None:
        try:
            settle_journal(path)
        except BlockingIOError:
            raise self._in_use() from None
        except OSError as error:
            message = f"{error.filename or path}: {error.strerror or error}"
            raise StorageError(rules.HMC_STORE_WRITTEN, message) from None

    def _demand_in_place(self) -> None:
        if self._place and (lost := self._place.lost()):
            raise StorageError(
                rules.HMC_STORE_WRITTEN, f"{lost}: stop the console, and put its store back", advised=True
            )

    def _placed(self, path: Path) -> InPlace:
        """Return the check that a path still names the open file.

        If the file is gone already, close the database and raise StorageError.
        """
        try:
            return InPlace(path)
        except OSError as error:
            self.close()
            raise StorageError(rules.HMC_STORE_FILE, f"{path}: {error.strerror or error}") from None

    def _find_or_make(self, path: Path) -> None:
        """Make the database if there is none; StorageError if the path is no usable file."""
        refuse_link(path)
        try:
            if not os.path.lexists(path):
                self._make(path)
            found = path.lstat()
        except OSError as error:
            raise StorageError(rules.HMC_STORE_FILE, f"{path}: {error.strerror or error}") from None
        if not stat.S_ISREG(found.st_mode):
            kind = "a folder" if stat.S_ISDIR(found.st_mode) else "no plain file"
            raise self._unusable(f"it is {kind}")
        if not found.st_size:
            raise self._unusable("it is empty")

    def _make(self, path: Path) -> None:
        """Make a database under another name, and rename it when it is complete."""
        new = path.with_name(f"{path.name}.new")
        for each in (new, *(Path(f"{name}{end}") for name in (new, path) for end in _BESIDE)):
            each.unlink(missing_ok=True)
        new.touch(mode=0o600, exist_ok=False)
        # The database is closed before the rename, because SQLite's own files beside it would keep the old
        # name.
        self._opened(new, new=True).close()
        new.replace(path)
        sync_folder(path.parent)

    def _opened(self, path: Path | None, *, new: bool) -> sqlite3.Connection:
        if path and not new:
            self._settle(path)
        with self._translated():
            connection = sqlite3.connect(path or ":memory:", timeout=0, isolation_level=None)
        try:
            with self._translated():
                for pragma in _PRAGMAS:
                    connection.execute(f"PRAGMA {pragma}")
                # The pragma locking_mode alone takes no lock.  This transaction takes it now, so that a
                # second console is refused at its start.
                connection.execute("BEGIN EXCLUSIVE")  # the lock stays until the database is closed
                connection.execute("COMMIT")
                if new:
                    _make_schema(connection)
                self._check(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _open_again(self) -> None:
        """Open the database again after its journal file was removed."""
        self._connection.close()
        self._connection = self._opened(self._path, new=False)
        self._journal = None

    def _check(self, connection: sqlite3.Connection) -> None:
        """Raise StorageError for a database that is foreign, newer, or damaged."""
        if _pragma(connection, "application_id") != APPLICATION_ID:
            raise self._unusable("it is no store of a console")
        level = _pragma(connection, "user_version")
        if level not in READ_LEVELS:
            finding = of_later_release(level, READ_LEVELS) if level else "the unknown level 0"
            raise StorageError(rules.HMC_STORE_LEVEL, f"{self._where} has {finding}")
        # The check runs at each start.  So damage is found while the copies are not needed yet.  It stops at
        # its first finding.
        verdict = _pragma(connection, "integrity_check(1)")
        if verdict != "ok":
            raise self._unusable(str(verdict).replace("\n", " "))
        if level == 1:
            _add_register(connection)
        found = {
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        if missing := sorted(_TABLES - found):
            raise self._unusable(f"it has no table {missing[0]}")

    def _unusable(self, reason: str) -> StorageError:
        advice = (
            "put an undamaged store back, or begin with an empty folder: the systems leave all copies anew"
        )
        message = f"{self._where} is damaged or foreign: {reason}; {advice}"
        return StorageError(rules.HMC_STORE_FILE, message, advised=True)

    def _in_use(self) -> OperatorError:
        message = f"another console uses {self._where}: stop it first"
        return OperatorError(rules.HMC_STORE_OWNER, message, advised=True)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Return a block in which errors of SQLite become errors of rules."""
        try:
            yield
        except sqlite3.Error as error:
            # Only the low byte is the code of the error.  The bits above it are details, such as the kind of
            # I/O error.
            code = getattr(error, "sqlite_errorcode", _NO_CODE) & 0xFF
            # SQLite waits for no lock here (timeout 0), and only another console takes one.
            if code in _BUSY:
                raise self._in_use() from None
            if code in _DAMAGED or any(each in str(error) for each in _ODD):
                raise self._unusable(str(error)) from None
            message = (
                f"{self._where} can't be written ({error}): nothing was changed; make room, and repeat it"
            )
            raise StorageError(rules.HMC_STORE_WRITTEN, message) from None


def _make_schema(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {STORE_LEVEL}")
    connection.execute("COMMIT")


def _add_register(connection: sqlite3.Connection) -> None:
    """Convert the console's store from its level 1 to its level 2, which has the register of owners.

    Older releases refuse level 2.  Without the register they would restore stores that have moved.
    """
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(_REGISTER)
    connection.execute(f"PRAGMA user_version = {STORE_LEVEL}")
    connection.execute("COMMIT")


def _pragma(connection: sqlite3.Connection, name: str) -> Any:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]
