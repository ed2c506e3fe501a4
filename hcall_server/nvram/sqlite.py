"""NVRAM in one SQLite file: durable commits, one owner, damage found at open (spec/sealed.md#nvram)."""

# NVRAM uses the write-ahead log (WAL) with synchronous=FULL.  Of SQLite's journals, it needs the fewest syncs
# for a durable commit.  Measured for a 64 KiB record, medians of interleaved runs on one machine, in
# microseconds:
#
#     WAL                          230 to 430
#     rollback journal DELETE      760
#     rollback journal PERSIST     820
#     rollback journal TRUNCATE    3,000
#
# An ordinary rowid table takes 15 % less than one WITHOUT ROWID.  A checkpoint after every thousand pages
# keeps the log near 4 MB; smaller and larger limits cost the same.

from __future__ import annotations

import contextlib
import shlex
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hcall_abi.later import of_later_release
from hcall_abi.rules import storage as rules
from hcall_server.files import refuse_link, sync_file, sync_folder
from hcall_server.nvram.files import demand_plain_companions, make_private_file, unusable
from hcall_server.nvram.log import renew_log
from hcall_server.nvram.mark import FileMark
from hcall_server.nvram.names import COMMIT
from hcall_server.nvram.place import NvramFiles
from hcall_server.nvram.seam import NvramError, NvramInUseError, PlaceCheck, Trouble
from hcall_server.sqlite_lock import Claim

APPLICATION_ID = 0x53504B53
"""``SPKS``, in the SQLite header: the file is our NVRAM."""
SCHEMA_LEVEL = 2
CHECKPOINT_PAGES = 1000

_RECORD_TABLE = "CREATE TABLE record (name TEXT PRIMARY KEY NOT NULL, blob BLOB NOT NULL)"
_SCHEMAS = {
    1: {"commits": "CREATE TABLE commits (number INTEGER NOT NULL)", "record": _RECORD_TABLE},
    SCHEMA_LEVEL: {"record": _RECORD_TABLE},
}
"""By level.  Level 1 had the number of the last commit in a table; now it is in the commit record."""
_FROM_LEVEL_1 = ("DROP TABLE IF EXISTS commits", f"PRAGMA user_version = {SCHEMA_LEVEL}")
"""Makes a file of level 1 one of the present level.

It is part of the first commit, which for records of level 1 is their conversion.  A state that an earlier
release has converted kept its tables: it loses them with its first commit as well.
"""
_PRAGMAS = (
    "locking_mode = EXCLUSIVE",  # only one process, so no file of shared memory
    "journal_mode = WAL",
    "synchronous = FULL",
    f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
    "journal_size_limit = 8388608",  # after growth, the log is cut back to this size
    "cell_size_check = ON",
    "trusted_schema = OFF",
    "secure_delete = ON",  # costs nothing measurable; replaced blobs are sealed anyway
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
_BESIDE = ("-wal", "-mark", "-journal", "-shm")
"""Files beside the database, by the ends of their names; SQLite makes the last two for short times only."""

_PUT = "INSERT INTO record VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET blob = excluded.blob"
_REMOVE = "DELETE FROM record WHERE name = ?"


class SqliteNvram:
    """Records in the SQLite file `path`, mode 0600, with its high-water mark in `path`-mark.

    NvramInUseError if another server has it open.  OperatorError if it is a link or can't be used.
    NvramError of kind ``corrupt`` if it is damaged.

    `beside` checks the other files that a later start needs.
    """

    def __init__(self, path: Path, beside: Iterable[PlaceCheck] = ()) -> None:
        self._path = path
        self._log = _beside(path, "-wal")
        self._beside = tuple(beside)
        self._renewal: tuple[str, ...] = ()
        self.old_number = 0
        """The number of the last commit in a file of level 1."""
        # These checks come before SQLite opens anything.  SQLite follows links, makes files that others may
        # read, and would wait for ever at a pipe in place of its log.
        for end in _BESIDE:
            refuse_link(_beside(path, end))
        make_private_file(path)
        demand_plain_companions(path)
        with contextlib.ExitStack() as undo:
            self._claim = self._claimed()
            undo.callback(self._claim.release)
            copied = renew_log(path, self._log)
            with self._translated("corrupt", opening=True):
                self._connection = self._connected()
                undo.callback(self._connection.close)
                self.old_number = self._take_possession()
                # The log may hold commits that are not on the disk.  A commit behind them would be lost with
                # them.
                self._unsure = not self._emptied_log() and not copied
            self.mark = self._open_mark()
            undo.callback(self.mark.close)
            self._place = NvramFiles(path, self._log, _beside(path, "-mark"))
            undo.pop_all()

    def __repr__(self) -> str:
        return f"SqliteNvram({str(self._path)!r})"

    always_newest = False
    ownership = None
    limits = None

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

        After an error the connection is ready for the next try.  The files are checked before and after the
        transaction: if a file has lost its name, SQLite still writes to it and reports success.
        """
        self._check_place()
        if not changes:
            return
        try:
            with self._translated("io"):
                if self._unsure:
                    self._empty_log()
                    self._unsure = False
                self._transaction(changes)
        finally:
            # This runs after a failure too.  SQLite may have written pages, and the next check must not take
            # them for the writes of another program.
            moved = self._place.written()
        if moved:
            raise self._moved(moved)
        self._check_beside()

    def last_commit(self) -> bytes | None:
        """Return the commit record; a commit that failed was rolled back."""
        with self._translated("corrupt"):
            found = self._connection.execute("SELECT blob FROM record WHERE name = ?", (COMMIT,)).fetchone()
        return None if found is None else found[0]

    def close(self) -> None:
        """Release the file.

        SQLite moves the commits of its log into the file, now or at the next open.
        """
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
        self.mark.close()
        self._claim.release()

    def _claimed(self) -> Claim:
        try:
            return Claim(self._path)
        except BlockingIOError:
            raise NvramInUseError(str(self._path)) from None
        except OSError as error:
            raise unusable(self._path, error.strerror or str(error)) from None

    def _connected(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=0, isolation_level=None, check_same_thread=False)

    def _transaction(self, changes: Mapping[str, bytes | None]) -> None:
        execute = self._connection.execute
        try:  # around BEGIN too: an open transaction would refuse every later commit
            execute("BEGIN IMMEDIATE")
            for name, blob in changes.items():
                execute(_REMOVE, (name,)) if blob is None else execute(_PUT, (name, blob))
            for statement in self._renewal:
                execute(statement)
            execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        # These statements are dropped only after success.  If a conversion fails, it is tried again with
        # them.
        self._renewal, self.old_number = (), 0

    def _check_place(self) -> None:
        """Raise NvramError if a later start would not find the files that this process has open."""
        if moved := self._place.trouble():
            # The commits in the lost log were confirmed.  Only this process can still read them, so they are
            # saved now.
            if self._place.only_log_lost:
                self._fold_log()
            raise self._moved(moved)
        self._check_beside()

    def _check_beside(self) -> None:
        for check in self._beside:
            if moved := check():
                raise self._moved(moved)

    def _fold_log(self) -> None:
        """Move all commits from the log into the database, because the log has lost its name."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._place.written()

    def _roll_back(self) -> None:
        """End a failed transaction, if the error has not ended it already."""
        if self._connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")

    def _take_possession(self) -> int:
        """Lock the file, and make or check its tables; return `old_number`."""
        for pragma in _PRAGMAS:
            self._connection.execute(f"PRAGMA {pragma}")
        found = dict(self._connection.execute("SELECT name, sql FROM sqlite_master WHERE sql NOT NULL"))
        application, level = self._pragma("application_id"), self._pragma("user_version")
        # Only a database without tables and without an application id is new.  With the id alone, it has lost
        # its tables, and is damaged.
        if not found and not application:
            self._make_schema()
            return 0
        if application != APPLICATION_ID:
            raise self._corrupt("it is not an NVRAM file")
        if level > SCHEMA_LEVEL:
            message = f"NVRAM: {self._path} has {of_later_release(level, _SCHEMAS)}"
            raise NvramError("corrupt", message, rules.STATE_LEVEL)
        if level not in _SCHEMAS:
            raise self._corrupt(f"it has the unknown level {level}")
        if found != _SCHEMAS[level]:
            raise self._corrupt("its tables are not those of its level")
        self._check_integrity()
        if level == SCHEMA_LEVEL:
            return 0
        self._renewal = _FROM_LEVEL_1
        return self._number_of_level_1()

    def _emptied_log(self) -> bool:
        """Empty the log; return False if SQLite can't do it, usually because the disk is full."""
        try:
            self._empty_log()
        except sqlite3.Error:
            # If the log was not copied either, a kill may have prevented its last sync.
            with self._synced():
                sync_file(self._log)
            return False
        return True

    def _empty_log(self) -> None:
        """Move the commits of the log into the file, and make the empty log durable."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        # Without this sync, an old part of the log would hide newer pages of the file after a power cut.
        with self._synced():
            sync_file(self._log)

    @contextlib.contextmanager
    def _synced(self) -> Iterator[None]:
        """Return a block that turns an OSError of a sync into NvramError."""
        try:
            yield
        except OSError as error:
            raise NvramError(
                "io", f"NVRAM: {error.filename or self._path}: {error.strerror or error}"
            ) from None

    def _make_schema(self) -> None:
        """Make the tables, in the file itself and not only in its log."""
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        execute(_RECORD_TABLE)
        execute(f"PRAGMA application_id = {APPLICATION_ID}")
        execute(f"PRAGMA user_version = {SCHEMA_LEVEL}")
        execute("COMMIT")
        execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _check_integrity(self) -> None:
        """Have SQLite check the whole file; NvramError if it is damaged.

        It takes about as long as loading (1 to 3 ms for 64 images of 64 KiB).
        """
        # A seal shows that a record was changed.  Only this check shows that damage has removed a record.
        verdict = self._pragma("integrity_check(1)")
        if verdict != "ok":
            raise self._corrupt(str(verdict).replace("\n", " "))

    def _number_of_level_1(self) -> int:
        """Return the number of the last commit in a file of sealed level 1."""
        rows = self._connection.execute("SELECT number FROM commits").fetchall()
        if len(rows) != 1 or not isinstance(rows[0][0], int):
            raise self._corrupt("it has no commit number")
        # An emptied table passes every other check.  The start would then take the system for a new one.
        if rows[0][0] and not self._connection.execute("SELECT count(*) FROM record").fetchone()[0]:
            raise self._corrupt("it has had commits, and its records are gone")
        return rows[0][0]

    def _open_mark(self) -> FileMark:
        path = _beside(self._path, "-mark")
        mark = FileMark(path)
        try:
            # This makes the entries of mark and log in the folder durable.  SQLite would ignore an error.
            with self._synced():
                sync_folder(path.parent)
        except BaseException:
            mark.close()
            raise
        return mark

    def _pragma(self, name: str) -> Any:
        """Return the first value of a pragma."""
        return self._connection.execute(f"PRAGMA {name}").fetchone()[0]

    @contextlib.contextmanager
    def _translated(self, unclear: Trouble, *, opening: bool = False) -> Iterator[None]:
        """Return a block that turns SQLite's errors into NvramError.

        An unknown code gets the kind `unclear`.
        """
        try:
            yield
        # A damaged name may be no valid text, in a result or in a message of SQLite.  Python then raises
        # UnicodeDecodeError.
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

    def _moved(self, reason: str) -> NvramError:
        return NvramError(
            "io",
            f"NVRAM: {reason}; nothing counts as flushed until the server's own file is back: put it back; "
            f"if it is deleted: stop the server, {self._replacing()}",
            rules.NVRAM_PLACE,
        )

    def _corrupt(self, reason: str) -> NvramError:
        return NvramError(
            "corrupt",
            f"NVRAM: {self._path} is damaged: {reason}; {self._way_out()}",
            rules.NVRAM_FILE,
        )

    def _way_out(self) -> str:
        """Return the remedies for a damaged file: nothing here repairs it."""
        return (
            f"put a backup of {self._path.parent} back (an older one needs swpks serve --accept-older); "
            f"without a backup: {self._replacing()}"
        )

    def _replacing(self) -> str:
        """Return the steps that begin with new NVRAM."""
        part = self._path.parent
        replace = f"swpks hmc replace {part.name} --state {shlex.quote(str(part.parent))}"
        return f"{replace}, and restore the stores from copies: spec/recovery.md"


def _beside(path: Path, end: str) -> Path:
    """Return the path of a file beside the database."""
    return path.with_name(path.name + end)
