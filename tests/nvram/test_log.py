"""A start replaces the log of a killed server by a durable copy, and only if it has NVRAM for itself."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from unittest import mock

import pytest

from hcall_abi.errors import OperatorError, SwpksError
from hcall_server.nvram import NvramError, NvramInUseError, log
from hcall_server.nvram.sqlite import SqliteNvram

RECORDS = {"a": b"1", "b": bytes(9000)}


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """NVRAM of a killed server: its last commits are in the log."""
    (tmp_path / "live").mkdir()
    with closing(SqliteNvram(tmp_path / "live" / "nvram.db")) as nvram:
        nvram.commit(dict(RECORDS))
        shutil.copytree(tmp_path / "live", tmp_path / "killed")
    return tmp_path / "killed" / "nvram.db"


def log_of(path: Path) -> Path:
    """Return the path of the log."""
    return path.with_name(f"{path.name}-wal")


def left_of(path: Path) -> Path:
    """Return the path of an unfinished copy of the log."""
    return path.with_name(f"{path.name}-wal.new")


def files(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the files of NVRAM, with inode numbers, sizes and times.

    They are not opened: a close would end the locks of this process.
    """
    found = {each.name: each.stat() for each in path.parent.iterdir()}
    return {name: (each.st_ino, each.st_size, each.st_mtime_ns) for name, each in found.items()}


def loaded(path: Path) -> dict[str, bytes]:
    """Return the records that a start finds."""
    with closing(SqliteNvram(path)) as nvram:
        return nvram.load()


def copy_fails(number: int) -> mock._patch[mock.Mock]:
    """Let the copy fail with an error of the system."""
    return mock.patch.object(log, "replace_private", side_effect=OSError(number, os.strerror(number)))


def test_the_log_of_a_killed_server_is_replaced(killed: Path) -> None:
    """R-21: The log is another file after the start, with mode 0600, and no record is lost."""
    log_of(killed).chmod(0o644)
    before = log_of(killed).stat()
    with closing(SqliteNvram(killed)) as nvram:
        after = log_of(killed).stat()
        assert after.st_ino != before.st_ino
        assert stat.S_IMODE(after.st_mode) == 0o600
        assert nvram.load() == RECORDS
        nvram.commit({"c": b"3"})
    assert loaded(killed) == {**RECORDS, "c": b"3"}


def test_sqlite_opens_the_copy(killed: Path) -> None:
    """R-21: The copy is complete before SQLite opens anything."""
    whole = log_of(killed).read_bytes()
    found: list[bytes] = []
    real = sqlite3.connect

    def connect(*given: object, **named: object) -> sqlite3.Connection:
        found.append(log_of(killed).read_bytes())
        assert not left_of(killed).exists()
        return real(*given, **named)  # type: ignore[call-overload]

    with mock.patch.object(sqlite3, "connect", connect):
        assert loaded(killed) == RECORDS
    assert found == [whole]


def test_a_start_after_a_stop_copies_nothing(killed: Path) -> None:
    """A usual start has no log, and does no more than look for one."""
    loaded(killed)
    with copy_fails(errno.EIO), mock.patch.object(log, "alone", side_effect=AssertionError):
        assert loaded(killed) == RECORDS


def test_frames_of_an_older_run_are_left_out(killed: Path) -> None:
    """R-21: The copy ends before the first frame with another salt than the header, as SQLite does."""
    whole = log_of(killed).read_bytes()
    stale = whole[32:44] + bytes(4) + whole[48:]
    log_of(killed).write_bytes(whole + stale)
    assert log.renew_log(killed, log_of(killed))
    assert log_of(killed).read_bytes() == whole
    with log_of(killed).open("ab") as file:
        file.truncate(1 << 40)
    assert log.renew_log(killed, log_of(killed))
    assert log_of(killed).read_bytes() == whole
    assert loaded(killed) == RECORDS


@pytest.mark.parametrize("content", [b"?", bytes(100), b"\x37\x7f\x06\x82" + bytes(100)])
def test_a_file_that_is_no_log_of_sqlite_is_left(killed: Path, content: bytes) -> None:
    """R-02: A start does not copy a file that SQLite ignores, or a log of a later version of SQLite."""
    log_of(killed).write_bytes(content)
    before = files(killed)
    assert log.renew_log(killed, log_of(killed))
    assert files(killed) == before


@pytest.mark.parametrize("empty", [False, True])
def test_an_unfinished_copy_is_removed(killed: Path, tmp_path: Path, empty: bool) -> None:
    """R-02: A kill may have left a part of a copy. A link in its place is removed, and not followed."""
    if empty:
        loaded(killed)
    left_of(killed).write_bytes(b"a part")
    assert loaded(killed) == RECORDS
    target = tmp_path / "target"
    target.write_bytes(b"of another program")
    left_of(killed).symlink_to(target)
    assert loaded(killed) == RECORDS
    assert not os.path.lexists(left_of(killed))
    assert target.read_bytes() == b"of another program"


def test_a_failed_copy_changes_nothing(killed: Path) -> None:
    """R-21, R-22: If the copy fails, the start is refused, and SQLite moves no commit of the log."""
    before = files(killed)
    with copy_fails(errno.EIO), pytest.raises(NvramError, match=f"{log_of(killed)}: ") as caught:
        SqliteNvram(killed)
    assert caught.value.kind == "io"
    with copy_fails(errno.EACCES), pytest.raises(OperatorError, match=r"-wal can't be used"):
        SqliteNvram(killed)
    assert files(killed) == before
    assert loaded(killed) == RECORDS


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_room_for_a_copy(killed: Path, number: int) -> None:
    """R-23: Without room for a copy the start works: SQLite moves the log into the database."""
    with copy_fails(number), closing(SqliteNvram(killed)) as nvram:
        assert nvram.load() == RECORDS
        assert not log_of(killed).stat().st_size
        nvram.commit({"c": b"3"})
    assert loaded(killed) == {**RECORDS, "c": b"3"}


def test_no_room_at_all(killed: Path) -> None:
    """R-21, R-23: If the log can be neither copied nor moved, the start works, and no commit is accepted.

    A commit behind others that may be lost would be lost with them. When SQLite can move the log again, the
    same commit succeeds.
    """

    class Full(sqlite3.Connection):
        left = 2

        def execute(self, statement: str, *given: object) -> sqlite3.Cursor:
            if "wal_checkpoint" in statement and Full.left:
                Full.left -= 1
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise error
            return super().execute(statement, *given)  # type: ignore[arg-type]

    real = sqlite3.connect
    with (
        copy_fails(errno.ENOSPC),
        mock.patch.object(sqlite3, "connect", lambda *a, **k: real(*a, **k, factory=Full)),
        closing(SqliteNvram(killed)) as nvram,
    ):
        assert nvram.load() == RECORDS
        with pytest.raises(NvramError) as caught:
            nvram.commit({"c": b"3"})
        assert caught.value.kind == "full"
        assert nvram.load() == RECORDS
        nvram.commit({"c": b"3"})
        nvram.commit({"d": b"4"})
    assert loaded(killed) == {**RECORDS, "c": b"3", "d": b"4"}


def opened_elsewhere(path: Path) -> str:
    """Open NVRAM in another process; return its errors."""
    imports = "from pathlib import Path; from hcall_server.nvram.sqlite import SqliteNvram"
    program = [sys.executable, "-c", f"{imports}; SqliteNvram(Path({str(path)!r}))"]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    return done.stderr


@pytest.mark.process
def test_a_second_opener_leaves_the_log(killed: Path) -> None:
    """R-22: While a server has commits in its log, no second opener replaces it, in any process.

    A refused opener in the same process must not end the locks of the first one.
    """
    with closing(SqliteNvram(killed)) as nvram:
        nvram.commit({"c": b"3"})
        before = files(killed)
        for _ in range(2):
            with pytest.raises(NvramInUseError):
                SqliteNvram(killed)
            assert "NvramInUseError: another server uses this state" in opened_elsewhere(killed)
        assert files(killed) == before
        nvram.commit({"d": b"4"})
    assert loaded(killed) == {**RECORDS, "c": b"3", "d": b"4"}


READER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("SELECT count(*) FROM record").fetchall()
print("open", flush=True)
sys.stdin.read()
"""


@pytest.mark.process
def test_a_tool_that_has_the_database_open(killed: Path) -> None:
    """R-22: While another program has the database open, a start is refused, and changes nothing."""
    program = [sys.executable, "-c", READER, str(killed)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout
        assert reader.stdout.readline() == "open\n"
        before = files(killed)
        with pytest.raises(NvramInUseError):
            SqliteNvram(killed)
        assert files(killed) == before
        reader.kill()
    assert loaded(killed) == RECORDS


def test_a_forgotten_nvram_holds_nothing(killed: Path) -> None:
    """An object that was never closed ends its claim with its last reference, as SQLite ends its lock."""
    forgotten = SqliteNvram(killed)
    forgotten.mark.close()
    with pytest.raises(NvramInUseError):
        SqliteNvram(killed)
    del forgotten
    gc.collect()
    assert loaded(killed) == RECORDS


def test_a_refused_start_holds_nothing(killed: Path) -> None:
    """The next start is not refused because an earlier one in this process was."""
    killed.with_name("nvram.db-mark").unlink()
    killed.with_name("nvram.db-mark").mkdir()
    for _ in range(2):
        with pytest.raises(SwpksError) as caught:
            SqliteNvram(killed)
        assert not isinstance(caught.value, NvramInUseError)
    killed.with_name("nvram.db-mark").rmdir()
    assert loaded(killed) == RECORDS
