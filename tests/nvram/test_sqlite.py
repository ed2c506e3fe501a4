"""The SQLite back end: private files, one owner, and clear errors for a full or failing disk."""

import contextlib
import resource
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hcall_abi.errors import OperatorError, StorageError
from hcall_server.nvram import NvramError, NvramInUseError
from hcall_server.nvram.sqlite import CHECKPOINT_PAGES, SqliteNvram
from tests.service.folder import old_state

BLOB = bytes(range(256)) * 256


@pytest.fixture
def nvram(tmp_path: Path) -> Iterator[SqliteNvram]:
    opened = SqliteNvram(tmp_path / "nvram.db")
    yield opened
    opened.close()


def test_every_file_is_private(tmp_path: Path, nvram: SqliteNvram) -> None:
    """R-02: the file, its log and its mark have mode 0600. An old file with another mode gets it too."""
    nvram.commit({"a": BLOB})
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"nvram.db": 0o600, "nvram.db-wal": 0o600, "nvram.db-mark": 0o600}
    nvram.close()
    (tmp_path / "nvram.db").chmod(0o644)
    SqliteNvram(tmp_path / "nvram.db").close()
    assert stat.S_IMODE((tmp_path / "nvram.db").stat().st_mode) == 0o600


def test_a_commit_is_synced_before_it_returns(nvram: SqliteNvram) -> None:
    """R-21: SQLite's setting guarantees that a commit is durable when it returns."""
    settings = {name: nvram._pragma(name) for name in ("journal_mode", "synchronous", "locking_mode")}
    assert settings == {"journal_mode": "wal", "synchronous": 2, "locking_mode": "exclusive"}


def test_a_second_server_is_refused(tmp_path: Path, nvram: SqliteNvram) -> None:
    """NVRAM has one owner.

    If another server opens the same NVRAM, it is refused, in this process or another. The first server
    stays the owner.
    """
    path = tmp_path / "nvram.db"
    for _ in range(2):
        with pytest.raises(NvramInUseError, match=f"another server uses this state: {path}"):
            SqliteNvram(path)
        assert "NvramInUseError: another server uses this state" in opened_elsewhere(path)
    nvram.commit({"a": b"1"})
    nvram.close()
    assert opened_elsewhere(path) == ""


def opened_elsewhere(path: Path) -> str:
    return in_another_process(f"SqliteNvram(Path({str(path)!r}))").stderr


def in_another_process(code: str) -> subprocess.CompletedProcess[str]:
    imports = "import os; from pathlib import Path; from hcall_server.nvram.sqlite import SqliteNvram; "
    return subprocess.run([sys.executable, "-c", imports + code], capture_output=True, text=True, check=False)


def test_a_killed_owner_leaves_no_lock(tmp_path: Path) -> None:
    """R-21: the lock ends with its process, and the commits of the process are there."""
    path = tmp_path / "nvram.db"
    code = f"n = SqliteNvram(Path({str(path)!r})); n.commit({{'a': b'1'}}); os.kill(os.getpid(), 9)"
    assert in_another_process(code).returncode == -9
    again = SqliteNvram(path)
    assert again.load() == {"a": b"1"}
    again.close()


def test_the_log_does_not_grow_without_bound(tmp_path: Path, nvram: SqliteNvram) -> None:
    """R-23: the log of commits stays below some megabytes, however long the server runs."""
    for _ in range(300):
        nvram.commit({"partition/00001/image": BLOB})
    one_commit = 2 * len(BLOB)
    assert (tmp_path / "nvram.db-wal").stat().st_size < CHECKPOINT_PAGES * 4120 + one_commit
    assert (tmp_path / "nvram.db").stat().st_size < 4 * len(BLOB)


def test_it_can_be_used_by_one_thread_after_another(nvram: SqliteNvram) -> None:
    """The server's thread may open NVRAM, and a worker thread may commit to it."""
    worker = threading.Thread(target=nvram.commit, args=({"a": BLOB},))
    worker.start()
    worker.join(10)
    assert nvram.load() == {"a": BLOB}


def keeps_everything_through_trouble(
    nvram: SqliteNvram, kind: str, trouble: contextlib.AbstractContextManager
) -> None:
    """Assert R-23: commits fail with `kind` and change nothing.

    After the fault, a repeated commit succeeds.
    """
    before = {"small": b"1", "large": BLOB}
    nvram.commit(dict(before))
    with trouble:
        for _ in range(3):
            with pytest.raises(NvramError) as caught:
                nvram.commit({"small": None, "large": BLOB * 40, "new": BLOB})
            assert caught.value.kind == kind
            assert nvram.load() == before
    nvram.commit({"small": None, "new": BLOB})
    assert nvram.load() == {"large": BLOB, "new": BLOB}


@contextlib.contextmanager
def few_pages(nvram: SqliteNvram) -> Iterator[None]:
    nvram._pragma(f"max_page_count = {nvram._pragma('page_count') + 2}")
    yield
    nvram._pragma("max_page_count = 1000000")


@contextlib.contextmanager
def small_files() -> Iterator[None]:
    """Limit the size of files to 256 KiB. SQLite reports the error EFBIG as an I/O error."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256 << 10, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_database_loses_nothing(nvram: SqliteNvram) -> None:
    """R-23: if the file may not grow, its records stay, and the same connection works afterwards."""
    keeps_everything_through_trouble(nvram, "full", few_pages(nvram))


def test_an_io_error_loses_nothing(tmp_path: Path, nvram: SqliteNvram) -> None:
    """R-23: if a write fails in the middle of a commit, the records stay, also for the next server."""
    keeps_everything_through_trouble(nvram, "io", small_files())
    nvram.close()
    again = SqliteNvram(tmp_path / "nvram.db")
    assert again.load() == {"large": BLOB, "new": BLOB}
    again.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 1 MiB; the test is skipped if this process may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "swpks-test", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a file system is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@contextlib.contextmanager
def full(disk: Path) -> Iterator[None]:
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    yield
    ballast.unlink()


def test_a_really_full_disk_loses_nothing(small_disk: Path) -> None:
    """R-23: if the kernel returns ENOSPC, the same commit succeeds after space is freed."""
    nvram = SqliteNvram(small_disk / "nvram.db")
    keeps_everything_through_trouble(nvram, "full", full(small_disk))
    with full(small_disk):
        nvram.close()
        again = SqliteNvram(small_disk / "nvram.db")
        assert again.load() == {"large": BLOB, "new": BLOB}
        again.close()


def test_a_start_after_a_kill_on_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    """R-23: A really full disk has no room for a copy of the log. The start works."""
    nvram = SqliteNvram(tmp_path / "nvram.db")
    nvram.commit({"large": BLOB})
    for path in tmp_path.glob("nvram.db*"):
        subprocess.run(["cp", path, small_disk], check=True)
    nvram.close()
    with full(small_disk):
        again = SqliteNvram(small_disk / "nvram.db")
        assert again.load() == {"large": BLOB}
        assert not (small_disk / "nvram.db-wal.new").exists()
        with pytest.raises(NvramError) as caught:
            again.commit({"new": BLOB})
        assert caught.value.kind == "full"
    again.commit({"new": BLOB})
    assert again.load() == {"large": BLOB, "new": BLOB}
    again.close()


def test_a_full_disk_at_the_first_start_is_named(small_disk: Path) -> None:
    """R-23: if a new NVRAM does not fit on the disk, the error says so. The next start makes it."""
    with full(small_disk), pytest.raises(NvramError, match=r"nvram\.db") as caught:
        SqliteNvram(small_disk / "nvram.db")
    assert caught.value.kind == "full"
    SqliteNvram(small_disk / "nvram.db").close()


def test_a_bug_in_a_caller_leaves_the_connection_usable(nvram: SqliteNvram) -> None:
    """R-23: any error in the middle of a transaction rolls it back."""
    with pytest.raises(NvramError):
        nvram.commit({"a": b"1", "b": object()})  # type: ignore[dict-item]
    nvram.commit({"c": b"3"})
    assert nvram.load() == {"c": b"3"}


def test_use_after_closing_is_an_error_and_no_crash(nvram: SqliteNvram) -> None:
    """R-23: a commit after close is refused, so that it is not lost silently."""
    nvram.close()
    with pytest.raises(NvramError):
        nvram.commit({"a": b"1"})


@pytest.mark.parametrize(
    "statement,reason",
    [
        ("PRAGMA application_id = 7", "is damaged: it is not an NVRAM file"),
        ("PRAGMA user_version = 3", "has level 3 of a later release, and this release reads levels 1 and 2"),
        ("CREATE TABLE extra (a)", "is damaged: its tables are not those of its level"),
        ("DROP TABLE record", "is damaged: its tables are not those of its level"),
        (
            "CREATE TABLE commits (number INTEGER NOT NULL)",
            "is damaged: its tables are not those of its level",
        ),
    ],
)
def test_another_database_is_refused(tmp_path: Path, nvram: SqliteNvram, statement: str, reason: str) -> None:
    """R-02: a SQLite file of another program or of a later level is refused by name, and stays unchanged."""
    nvram.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "nvram.db")) as connection, connection:
        connection.execute(statement)
    with pytest.raises(NvramError, match=f"nvram.db {reason}") as caught:
        SqliteNvram(tmp_path / "nvram.db")
    assert caught.value.kind == "corrupt"


@pytest.mark.parametrize("content", [b"not a database" * 100, bytes(8192)])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    """R-02: a file that is no database is reported as damaged, and stays unchanged."""
    path = tmp_path / "nvram.db"
    path.write_bytes(content)
    with pytest.raises(StorageError, match=f"{path} is damaged"):
        SqliteNvram(path)
    assert path.read_bytes() == content


def test_a_place_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """A missing folder, or a folder in place of the file, is an error of the operator."""
    (tmp_path / "folder").mkdir()
    for path in tmp_path / "missing" / "nvram.db", tmp_path / "folder":
        with pytest.raises(OperatorError, match=f"{path} can't be used"):
            SqliteNvram(path)


def test_a_record_of_a_wrong_type_is_refused(tmp_path: Path, nvram: SqliteNvram) -> None:
    """R-02: if a record is a number and no blob, it is reported as damage."""
    nvram._connection.execute("INSERT INTO record VALUES ('system', 7)")
    with pytest.raises(NvramError, match="wrong types"):
        nvram.load()


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The NVRAM file of a state of level 1, with its mark."""
    return old_state(tmp_path / "old", "89ecc72", "stopped") / "nvram.sqlite"


@pytest.mark.parametrize("statement", ["DELETE FROM commits", "UPDATE commits SET number = 'x'"])
def test_a_file_of_level_1_has_its_commit_number(old: Path, statement: str) -> None:
    """R-02: a file of level 1 without a valid commit number is refused.

    Its mark alone would prove nothing.
    """
    with contextlib.closing(sqlite3.connect(old)) as connection, connection:
        connection.execute(statement)
    with pytest.raises(NvramError, match="it has no commit number"):
        SqliteNvram(old)


def test_a_file_of_level_1_does_not_lose_all_its_records(old: Path) -> None:
    """R-22: A file with a commit number and no record is damaged. It does not count as a new system."""
    with contextlib.closing(sqlite3.connect(old)) as connection, connection:
        connection.execute("DELETE FROM record")
    with pytest.raises(NvramError, match="its records are gone"):
        SqliteNvram(old)


def shape(path: Path) -> tuple[int, int, list[tuple[str, ...]]]:
    """Return the properties of an NVRAM file except its records."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        application, level = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        tables = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name")
        return application, level, tables.fetchall()


def test_the_first_commit_makes_a_file_of_level_1_a_new_one(old: Path, nvram: SqliteNvram) -> None:
    """R-21: the first commit converts the tables of level 1 to those of a new file.

    Records that the commit does not name stay.
    """
    opened = SqliteNvram(old)
    assert opened.old_number > 0
    before = opened.load()
    opened.commit({"system": b"of level 2"})
    assert (opened.old_number, opened.load()) == (0, {**before, "system": b"of level 2"})
    opened.close()
    nvram.close()
    assert shape(old) == shape(old.parents[1] / "nvram.db")
    again = SqliteNvram(old)
    assert (again.old_number, again.load()) == (0, {**before, "system": b"of level 2"})
    again.close()


def test_a_failed_commit_leaves_a_file_of_level_1(old: Path) -> None:
    """R-22: if the first commit into a file of level 1 fails, tables and records are unchanged.

    The next attempt changes both.
    """
    opened = SqliteNvram(old)
    before, number = opened.load(), opened.old_number
    with pytest.raises(NvramError):
        opened.commit({"system": b"x", "other": object()})  # type: ignore[dict-item]
    with few_pages(opened), pytest.raises(NvramError):
        opened.commit({"system": BLOB * 40})
    assert (opened.old_number, opened.load()) == (number, before)
    opened.close()
    assert shape(old)[1] == 1
    again = SqliteNvram(old)
    assert (again.old_number, again.load()) == (number, before)
    again.commit({"system": b"x"})
    again.close()
    assert shape(old)[1] == 2
