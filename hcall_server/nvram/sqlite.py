"""NVRAM in one SQLite file: durable commits, one owner, damage found at open (spec/sealed.md#nvram).

Write-ahead log with synchronous=FULL: of SQLite's journals the one with the fewest syncs for a
durable commit.  Measured for a 64 KiB record, medians of interleaved runs on one machine, in
microseconds: WAL 230 to 430, rollback journal DELETE 760, PERSIST 820, TRUNCATE 3,000; an ordinary
rowid table 15 % less than one WITHOUT ROWID.  A checkpoint after every thousand pages keeps the log
near 4 MB; smaller and larger limits cost the same.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hcall_abi.rules import storage as rules
from hcall_server.files import sync_folder
from hcall_server.nvram.files import demand_plain_companions, make_private_file, unusable
from hcall_server.nvram.mark import HighWaterMark
from hcall_server.nvram.seam import NvramError, NvramInUseError, Trouble

APPLICATION_ID = 0x53504B53
"""``SPKS``, in the SQLite header: the file is our NVRAM."""
SCHEMA_LEVEL = 1
CHECKPOINT_PAGES = 1000

_SCHEMA = {
    "commits": "CREATE TABLE commits (number INTEGER NOT NULL)",
    "record": "CREATE TABLE record (name TEXT PRIMARY KEY NOT NULL, blob BLOB NOT NULL)",
}
_PRAGMAS = (
    "locking_mode = EXCLUSIVE",  # one owner, and no shared-memory file
    "journal_mode = WAL",
    "synchronous = FULL",
    f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
    "journal_size_limit = 8388608",  # a log that once grew large gives its space back
    "cell_size_check = ON",
    "trusted_schema = OFF",
    "secure_delete = ON",  # replaced blobs are sealed anyway; it costs nothing measurable
)
_KINDS: dict[int, Trouble] = {
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_BUSY: "busy",
    sqlite3.SQLITE_LOCKED: "busy",
    sqlite3.SQLITE_CORRUPT: "corrupt",
    sqlite3.SQLITE_NOTADB: "corrupt",
}
_UNUSABLE = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY})
_NO_CODE = 0


_PUT = "INSERT INTO record VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET blob = excluded.blob"
_REMOVE = "DELETE FROM record WHERE name = ?"
_COUNT = "UPDATE commits SET number = ?"


class SqliteNvram:
    """Records in the SQLite file `path`, mode 0600, with its high-water mark in `path`-mark.

    Raises NvramInUseError when another server has it open, OperatorError when the file can't be
    used at all, NvramError of kind ``corrupt`` when what is there is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        make_private_file(path)
        demand_plain_companions(path)
        with self._translated("corrupt", opening=True):
            self._connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            with self._translated("corrupt", opening=True):
                self._number = self._take_possession()
            self._mark = self._open_mark()
        except BaseException:
            self._connection.close()
            raise

    def __repr__(self) -> str:
        return f"SqliteNvram({str(self._path)!r})"

    def load(self) -> dict[str, bytes]:
        """Return every record."""
        with self._translated("corrupt"):
            rows = self._connection.execute("SELECT name, blob FROM record").fetchall()
        for name, blob in rows:
            if not isinstance(name, str) or not isinstance(blob, bytes):
                raise self._corrupt("a record has values of wrong types")
        return dict(rows)

    def commit(self, changes: Mapping[str, bytes | None]) -> None:
        """Put or remove records in one transaction; durable on return, all or nothing.

        After an error the connection is ready for the next try.
        """
        if not changes:
            return
        with self._translated("io"):
            self._transaction(changes)
        self._number += 1
        self._mark.note(self._number)

    def close(self) -> None:
        """Let go of the file; the log is folded into it if that is possible, else at the next open."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
        self._mark.close()

    def _transaction(self, changes: Mapping[str, bytes | None]) -> None:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            for name, blob in changes.items():
                execute(_REMOVE, (name,)) if blob is None else execute(_PUT, (name, blob))
            execute(_COUNT, (self._number + 1,))
            execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise

    def _roll_back(self) -> None:
        """End a failed transaction; some errors have ended it already."""
        if self._connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def _take_possession(self) -> int:
        """Lock the file, make or check what is in it, and return the number of its last commit."""
        for pragma in _PRAGMAS:
            self._connection.execute(f"PRAGMA {pragma}")
        found = dict(self._connection.execute("SELECT name, sql FROM sqlite_master WHERE sql NOT NULL"))
        application, level = self._pragma("application_id"), self._pragma("user_version")
        if not found and not application:
            self._make_schema()
        elif application != APPLICATION_ID:
            raise self._corrupt("it is not an NVRAM file")
        elif level != SCHEMA_LEVEL:
            raise self._corrupt(f"it has level {level} where this release knows level {SCHEMA_LEVEL}")
        elif found != _SCHEMA:
            raise self._corrupt("its tables are not those of its level")
        return self._checked_number()

    def _make_schema(self) -> None:
        """Make the tables, in the file itself and not only in its log."""
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA.values():
            execute(statement)
        execute("INSERT INTO commits VALUES (0)")
        execute(f"PRAGMA application_id = {APPLICATION_ID}")
        execute(f"PRAGMA user_version = {SCHEMA_LEVEL}")
        execute("COMMIT")
        execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _checked_number(self) -> int:
        """Return the number of the last commit, after SQLite has checked the whole file.

        The check finds records that damage made vanish, which no seal can; it takes about as long
        as loading (1 to 3 ms for 64 images of 64 KiB).
        """
        verdict = self._pragma("integrity_check(1)")
        if verdict != "ok":
            raise self._corrupt(str(verdict).replace("\n", " "))
        rows = self._connection.execute("SELECT number FROM commits").fetchall()
        if len(rows) != 1 or not isinstance(rows[0][0], int):
            raise self._corrupt("it has no commit number")
        return rows[0][0]

    def _open_mark(self) -> HighWaterMark:
        """Return the high-water mark after comparing it: the file may not be older than it says."""
        path = self._path.with_name(self._path.name + "-mark")
        mark = HighWaterMark(path)
        try:
            noted = mark.read()
            if noted > self._number:
                raise self._older_than(noted, path)
            if noted < self._number or not noted:
                mark.note(self._number, sync=True)
                sync_folder(path.parent)
        except BaseException:
            mark.close()
            raise
        return mark

    def _pragma(self, name: str) -> Any:
        """Return the first value that a pragma gives."""
        return self._connection.execute(f"PRAGMA {name}").fetchone()[0]

    @contextlib.contextmanager
    def _translated(self, unclear: Trouble, *, opening: bool = False) -> Iterator[None]:
        """Turn SQLite's errors into ours; one that names no cause is `unclear`.

        Damaged names make SQLite quote bytes that are no text, in results and in its own messages.
        """
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:
            code = getattr(error, "sqlite_errorcode", _NO_CODE) & 0xFF
            if opening and code == sqlite3.SQLITE_BUSY:
                raise NvramInUseError(str(self._path)) from None
            if opening and code in _UNUSABLE:
                raise unusable(self._path, str(error)) from None
            raise self._trouble(_KINDS.get(code, unclear), str(error)) from None

    def _trouble(self, kind: Trouble, reason: str) -> NvramError:
        return (
            self._corrupt(reason) if kind == "corrupt" else NvramError(kind, f"NVRAM: {self._path}: {reason}")
        )

    def _corrupt(self, reason: str) -> NvramError:
        return NvramError(
            "corrupt",
            f"NVRAM: {self._path} is damaged: {reason}",
            rules.NVRAM_FILE,
        )

    def _older_than(self, noted: int, mark: Path) -> NvramError:
        return NvramError(
            "corrupt",
            f"NVRAM: {self._path} is damaged or an older copy: its last commit is {self._number}, but "
            f"{noted} was confirmed; removing {mark} accepts it as it is",
            rules.NVRAM_AGE,
        )
