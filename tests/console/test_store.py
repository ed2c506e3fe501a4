"""The console's store: changes are durable, whole after a power cut, and refused with clear errors."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hcall_abi.errors import OperatorError, StorageError, SwpksError
from hcall_abi.rules import hmc as rules
from hcall_server.console.store import FINISHED_JOBS, ConsoleStore, JobProgress
from tests.console.facts import A, B, copy_of

BLOB = bytes(2000)


def filled(path: Path | None = None) -> ConsoleStore:
    """Return a store with one row of each kind."""
    store = ConsoleStore(path)
    store.set_identity("c" * 32, "console")
    store.add_system("lab", "5" * 32, "9105-22A*0123ABC", "/lab")
    store.keep_trusted_key(1, "k1", b"sealed")
    store.keep_copy(1, copy_of(A, 1), BLOB, [A, B], 2)
    store.keep_copy(1, copy_of(B, 1), BLOB, [A, B], 2)
    store.forget(1, [B])
    store.start_job("backup", 1, b"plan")
    return store


@pytest.fixture
def store() -> Iterator[ConsoleStore]:
    """A filled store in memory."""
    with closing(filled()) as made:
        yield made


def contents(store: ConsoleStore) -> list[Any]:
    """Return all contents of a store."""
    keys = [store.trusted_key(1, key) for key in ("k1", "k2")]
    jobs = [each._replace(progress=repr(each.progress)) for each in store.jobs()]  # type: ignore[arg-type]
    seen = [sorted(store.former_ids(1)), *map(store.seen, (A, B))]
    return [store.identity(), store.systems(), store.copies(1), sorted(store.forgotten(1)), keys, jobs, seen]


def test_a_store_is_there_again_after_a_restart(store: ConsoleStore, tmp_path: Path) -> None:
    """After a restart everything is there, and the file is private."""
    path = tmp_path / "console.sqlite"
    with closing(filled(path)) as first:
        before = contents(first)
    assert path.stat().st_mode & 0o777 == 0o600
    with closing(ConsoleStore(path)) as again:
        assert contents(again) == before == contents(store)
        assert again.blob(again.copies(1)[0].number) == BLOB


CHANGES: dict[str, Callable[[ConsoleStore], object]] = {
    "identity": lambda store: store.set_identity("d" * 32, "other"),
    "add": lambda store: store.add_system("two", "6" * 32, "9105-22A*2", "/two"),
    "note": lambda store: store.note_system(store.systems()[0]._replace(name="renamed")),
    "successor": lambda store: store.note_system(store.systems()[0]._replace(system_id="7" * 32)),
    "remove": lambda store: store.remove_system(1),
    "copy": lambda store: store.keep_copy(1, copy_of(A, 2), BLOB, [A, B], 1),
    "copy under a new key": lambda store: store.keep_copy(1, copy_of(A, 2, key="k2"), BLOB, [A], 2),
    "copy of a forgotten store": lambda store: store.keep_copy(1, copy_of(B, 2), BLOB, [A, B], 2),
    "forget": lambda store: store.forget(1, [A]),
    "remember": lambda store: store.remember(1, B),
    "seen": lambda store: store.note_seen({A: (1, 2, 3), B: (4, 5, 6)}),
    "key": lambda store: store.keep_trusted_key(1, "k2", b"sealed"),
    "job": lambda store: store.start_job("recover", 1, b"plan"),
    "step": lambda store: store.save_job(1, "running", JobProgress(1, 2, ["line"], {"a": "b"})),
    "end": lambda store: store.save_job(1, "done", JobProgress(2, 2, ["line"], {})),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_power_cut_at_any_statement_leaves_all_or_nothing(
    change: Callable[[ConsoleStore], object], tmp_path: Path
) -> None:
    """The files before each statement, and after the last one, open as the old or the new state."""
    folder = tmp_path / "store"
    folder.mkdir()
    cuts = list[Path]()

    def cut(_: str) -> None:
        cuts.append(tmp_path / f"cut-{len(cuts)}")
        shutil.copytree(folder, cuts[-1])

    with closing(filled(folder / "console.sqlite")) as store:
        before = contents(store)
        store._database._connection.set_trace_callback(cut)
        change(store)
        cut("")
        store._database._connection.set_trace_callback(None)
        after = contents(store)
    assert after != before
    found = list[Any]()
    for each in cuts:
        with closing(ConsoleStore(each / "console.sqlite")) as again:
            found.append(contents(again))
    assert found[0] == before
    assert found[-1] == after
    assert all(each in (before, after) for each in found)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_full_disk_changes_nothing(change: Callable[[ConsoleStore], object], store: ConsoleStore) -> None:
    """If the disk is full, a change fails and changes nothing; it succeeds when there is room."""
    connection = store._database._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    before = contents(store)
    with pytest.raises(StorageError) as caught:
        store.keep_copy(1, copy_of(A, 10), bytes(100_000), [A, B], 100)
    assert caught.value.rule is rules.HMC_STORE_WRITTEN
    connection.execute("PRAGMA max_page_count = 100000")
    assert contents(store) == before
    change(store)
    assert contents(store) != before


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    path.write_bytes(content)


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 3")


def foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA application_id = 77")


TROUBLES = {
    "damaged": (damaged, rules.HMC_STORE_FILE),
    "foreign": (foreign, rules.HMC_STORE_FILE),
    "no database": (lambda path: path.write_bytes(b"no database" * 100), rules.HMC_STORE_FILE),
    "newer": (newer, rules.HMC_STORE_LEVEL),
}


@pytest.mark.parametrize("spoil,rule", TROUBLES.values(), ids=TROUBLES)
def test_a_store_that_can_not_be_used_is_refused(spoil, rule, tmp_path: Path) -> None:
    """An unusable store is refused by its rule, and its file stays the same."""
    path = tmp_path / "console.sqlite"
    filled(path).close()
    spoil(path)
    before = path.read_bytes()
    with pytest.raises(StorageError) as caught:
        ConsoleStore(path)
    assert caught.value.rule is rule
    assert path.read_bytes() == before


def test_a_folder_that_is_missing_and_a_link_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        ConsoleStore(tmp_path / "nothing" / "console.sqlite")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OperatorError):
        ConsoleStore(tmp_path / "link")


def test_one_console_at_a_time_uses_a_store(tmp_path: Path) -> None:
    with closing(filled(tmp_path / "console.sqlite")), pytest.raises(OperatorError) as caught:
        ConsoleStore(tmp_path / "console.sqlite")
    assert caught.value.rule is rules.HMC_STORE_OWNER


def test_a_store_whose_file_is_gone_answers_nothing(tmp_path: Path) -> None:
    """If its file was removed, the store refuses each request: SQLite would go on in the deleted file."""
    with closing(filled(tmp_path / "console.sqlite")) as store:
        (tmp_path / "console.sqlite").unlink()
        with pytest.raises(SwpksError) as caught:
            store.forget(1, [A])
        assert caught.value.rule is rules.HMC_STORE_WRITTEN


def test_a_removed_system_comes_back_with_its_copies(store: ConsoleStore) -> None:
    """A removed system gets its copies back only under its own identity."""
    store.remove_system(1)
    assert store.systems() == []
    assert store.jobs()[0].state == "failed"
    other = store.add_system("other", "6" * 32, "9105-22A*2", "/lab")
    again = store.add_system("lab", "5" * 32, "9105-22A*0123ABC", "/new")
    assert (again.key, again.where, store.copies(other.key)) == (1, "/new", [])
    assert len(store.copies(again.key)) == 2


def test_old_finished_jobs_go(store: ConsoleStore) -> None:
    """Old finished jobs are removed; running jobs stay."""
    for _ in range(FINISHED_JOBS + 5):
        store.save_job(store.start_job("backup", 1, b""), "done", JobProgress())
    assert len(store.jobs()) == FINISHED_JOBS + 2
    assert store.jobs()[0].state == "running"


def test_a_row_whose_types_are_damaged(store: ConsoleStore) -> None:
    """A damaged copy is returned unchanged, so that the system refuses it. A damaged text is an error."""
    damage = "UPDATE copy SET blob = CAST(x'ff00fe' AS TEXT), name = CAST(x'ff00fe' AS TEXT)"
    number = store.copies(1)[0].number
    store._database._connection.execute(damage)
    assert store.blob(number) == b"\xff\x00\xfe"
    with pytest.raises(StorageError) as caught:
        store.copies(1)
    assert caught.value.rule is rules.HMC_STORE_FILE


def test_the_largest_counters_of_a_store_stay(store: ConsoleStore) -> None:
    """R-45: The store keeps the largest value of each counter, also after the copies with it are removed."""
    assert store.seen(A) == (0, 1, 0)
    store.note_seen({A: (2, 6, 9), B: (0, 1 << 64, 1)})
    store.note_seen({A: (3, 2, 1)})
    store.keep_copy(1, copy_of(A, 7, 2), BLOB, [A, B], 1)
    assert store.seen(A) == (3, 7, 9)
    assert store.seen(B) == (0, (1 << 63) - 1, 1)
    assert store.seen("unknown") == (0, 0, 0)


def test_answered_changes_are_in_one_file(tmp_path: Path) -> None:
    """Each answered change is in the database file itself, so removing the other files loses nothing."""
    folder = tmp_path / "store"
    folder.mkdir()
    with closing(filled(folder / "console.sqlite")) as store:
        for number in range(3):
            for path in folder.iterdir():
                if path.name != "console.sqlite":
                    path.unlink()
            store.add_system(f"s{number}", f"{number}" * 32, "9105-22A*2", "/two")
            killed = tmp_path / f"cut{number}"
            shutil.copytree(folder, killed)
            with closing(ConsoleStore(killed / "console.sqlite")) as again:
                assert contents(again) == contents(store)


def test_a_commit_has_its_journal_although_one_was_removed(tmp_path: Path) -> None:
    """If the journal was removed, the next change makes a new one. So a kill loses no old pages."""
    folder = tmp_path / "store"
    folder.mkdir()
    journal = folder / "console.sqlite-journal"
    with closing(filled(folder / "console.sqlite")) as store:
        journal.unlink()
        with store._database.changes() as change:
            change.execute("UPDATE system SET name = 'x'")
            assert journal.stat().st_size


def test_a_file_that_is_moved_during_a_change_is_noticed(tmp_path: Path) -> None:
    """If the file is moved during a change, the change is refused."""
    path = tmp_path / "console.sqlite"
    with closing(filled(path)) as store:
        before = contents(store)
        store._database._connection.set_trace_callback(
            lambda statement: path.rename(tmp_path / "moved") if statement.startswith("UPDATE") else None
        )
        with pytest.raises(StorageError) as caught:
            store.note_system(store.systems()[0]._replace(name="x"))
        assert caught.value.rule is rules.HMC_STORE_WRITTEN
        (tmp_path / "moved").rename(path)
        assert contents(store) == before


def test_a_file_that_is_moved_during_the_start_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start is refused and releases the file, so a console can use it at its old place."""
    path, opened, connect = tmp_path / "console.sqlite", list[sqlite3.Connection](), sqlite3.connect
    filled(path).close()

    class Moved(sqlite3.Connection):
        """A connection whose file is moved while its tables are looked up."""

        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
            found = super().execute(statement, *values)
            if "sqlite_master" in statement:
                path.rename(tmp_path / "moved")
            return found

    def watched(*arguments: Any, **options: Any) -> sqlite3.Connection:
        opened.append(connect(*arguments, **options, factory=Moved))
        return opened[-1]

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", watched)
        with pytest.raises(StorageError, match="No such file") as caught:
            ConsoleStore(path)
    assert caught.value.rule is rules.HMC_STORE_FILE
    assert len(opened) == 1
    (tmp_path / "moved").rename(path)
    with closing(ConsoleStore(path)) as again:
        assert again.systems()


def replaced_by(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        path.unlink()
        make(path)

    return replace


def rows_of(statement: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(statement)
            connection.commit()

    return change


ODD = {
    "empty": (lambda path: path.write_bytes(b""), "it is empty"),
    "folder": (replaced_by(Path.mkdir), "it is a folder"),
    "pipe": (replaced_by(os.mkfifo), "it is no plain file"),
    "table": (rows_of("DROP TABLE forgotten"), "it has no table forgotten"),
    "progress": (rows_of("UPDATE job SET progress = x'00'"), "a job is of another shape"),
    "text progress": (rows_of("UPDATE job SET progress = 'x'"), "a job is of another shape"),
    "kind": (rows_of("UPDATE job SET kind = x'00ff'"), "a row is of another shape"),
    "place": (rows_of("UPDATE system SET place = x'00'"), "a row is of another shape"),
    "generation": (rows_of("UPDATE copy SET generation = 'x'"), "a row is of another shape"),
    "key": (rows_of("UPDATE trusted_key SET sealed = 7"), "a row is of another shape"),
    "uuid": (rows_of("UPDATE forgotten SET uuid = x'00'"), "a row is of another shape"),
    "identity": (rows_of("UPDATE console SET id = x'00'"), "a row is of another shape"),
}


@pytest.mark.parametrize("spoil,reason", ODD.values(), ids=ODD)
def test_an_odd_store_is_told_of(spoil, reason, tmp_path: Path) -> None:
    """Each kind of damage to a store raises an error with its own reason."""
    path = tmp_path / "console.sqlite"
    filled(path).close()
    spoil(path)
    with pytest.raises(StorageError, match=reason) as caught, closing(ConsoleStore(path)) as store:
        contents(store)
    assert caught.value.rule is rules.HMC_STORE_FILE


def test_an_odd_plan_is_told_of(store: ConsoleStore) -> None:
    """If the stored plan of a running job can't be parsed, the rule of the store's file is raised."""
    for odd in (b"", b"\xc1", b"\x91" * 9999):
        with pytest.raises(StorageError) as caught:
            store.decoded(JobProgress, odd)
        assert caught.value.rule is rules.HMC_STORE_FILE


def test_half_a_new_store_is_begun_again(tmp_path: Path) -> None:
    """Half a store of a killed first start is removed, and so is a journal without its store."""
    path = tmp_path / "console.sqlite"
    for name in ("console.sqlite.new", "console.sqlite.new-journal", "console.sqlite-journal"):
        (tmp_path / name).write_bytes(b"half")
    with closing(ConsoleStore(path)) as store:
        assert store.identity() is None
    assert [each.name for each in tmp_path.iterdir()] == ["console.sqlite"]
