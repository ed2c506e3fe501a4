"""After power cuts and damage, NVRAM has the confirmed records or raises an error that names the file."""

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from hcall_abi.errors import StorageError
from hcall_server.nvram import NvramError, mark
from hcall_server.platform.system_state import SystemState
from tests.nvram.crash import FILES, Live, Records, flip, loaded, never_wrong, power_cut, stored

PAGE = 4096
FRAME = 24 + PAGE
FIRST_COMMIT = 32 + 2 * FRAME
"""The end of the first commit in the log. Before it there is no system."""


@pytest.fixture
def history(tmp_path: Path) -> list[Records]:
    """The records of six commits, made in `tmp_path`/live. Their files after a kill are in `tmp_path`/cut."""
    (tmp_path / "live").mkdir()
    nvram = Live(tmp_path / "live" / "nvram.db")
    commits = [nvram.commit(generation) for generation in range(6)]
    power_cut(tmp_path / "live", tmp_path / "cut")
    nvram.close()
    return commits


def test_a_killed_server_loses_nothing_that_was_committed(tmp_path: Path, history: list[Records]) -> None:
    """R-21: after a kill without a close, the whole last commit is there."""
    assert loaded(tmp_path / "cut" / "nvram.db") == history[-1]


def test_at_every_commit_a_killed_server_comes_back_with_it(tmp_path: Path) -> None:
    """R-21, R-22: if a server is killed right after any commit of a long series, the commit is there."""
    nvram = Live(tmp_path / "nvram.db")
    for generation in range(20):
        commit = nvram.commit(generation, size=20_000)
        assert loaded(power_cut(tmp_path, tmp_path / "cut")) == commit
    nvram.close()


def test_a_log_cut_off_anywhere_gives_one_whole_commit(tmp_path: Path) -> None:
    """R-22: if a power cut tears the log, an earlier commit is there as a whole, never a mixture.

    The test also puts an old mark back, because the cut may come before the mark was written.
    """
    (tmp_path / "live").mkdir()
    nvram = Live(tmp_path / "live" / "nvram.db")
    cut = power_cut(tmp_path / "live", tmp_path / "cut")
    old_mark = cut.with_name("nvram.db-mark").read_bytes()
    history = [loaded(cut), *(nvram.commit(generation) for generation in range(6))]
    log = (tmp_path / "live" / "nvram.db-wal").read_bytes()
    torn = tmp_path / "torn"
    lengths = {*range(0, len(log), FRAME), *range(32, len(log), FRAME), *range(0, len(log), 1777)}
    found = []
    for length in sorted(lengths):
        path = power_cut(tmp_path / "live", torn)
        (torn / "nvram.db-wal").write_bytes(log[:length])
        (torn / "nvram.db-mark").write_bytes(old_mark)
        if length >= FIRST_COMMIT:
            found.append(loaded(path))
    nvram.close()
    assert all(state in history for state in found)
    assert found[-1] in history[-2:]


def test_a_log_that_loses_a_confirmed_commit_is_refused(tmp_path: Path, history: list[Records]) -> None:
    """R-22: if damage has cut the log, and a confirmed commit is lost, the start is refused.

    If the operator accepts the loss explicitly, NVRAM counts on from the mark. Later starts need no such
    permission.
    """
    path = tmp_path / "cut" / "nvram.db"
    log = tmp_path / "cut" / "nvram.db-wal"
    log.write_bytes(log.read_bytes()[: -FRAME // 2])
    with pytest.raises(NvramError, match=r"its last commit is 6, but 7 was confirmed") as caught:
        loaded(path)
    assert (caught.value.kind, caught.value.rule.id) == ("corrupt", "nvram.age")
    assert loaded(path, accept_older=True) == history[-2]
    assert loaded(path) == history[-2]


def test_no_flipped_bit_in_the_log_gives_a_wrong_answer(tmp_path: Path, history: list[Records]) -> None:
    """R-02, R-22: each sampled flip of a bit in the log, which has all records, is detected or harmless."""
    size = (tmp_path / "cut" / "nvram.db-wal").stat().st_size
    found = 0
    for byte in [*range(32), *range(32, 32 + 24), *range(60, size, 613)]:
        path = power_cut(tmp_path / "cut", tmp_path / "flipped")
        flip(tmp_path / "flipped" / "nvram.db-wal", byte, byte % 8)
        found += never_wrong(path, dict(history[-1]))
    assert found > 100


def test_no_flipped_bit_in_the_file_gives_a_wrong_answer(tmp_path: Path, history: list[Records]) -> None:
    """R-02: SQLite detects damage of its structure. The seal of a record detects damage of that record.

    No record is lost silently.
    """
    live = tmp_path / "live"
    size = (live / "nvram.db").stat().st_size
    page_ends = [at + n for at in range(0, size, PAGE) for n in (*range(24), *range(PAGE - 40, PAGE, 3))]
    found = 0
    for byte in sorted({*range(100), *page_ends, *range(100, size, 61)}):
        path = power_cut(live, tmp_path / "flipped")
        flip(path, byte, byte % 8)
        found += never_wrong(path, dict(history[-1]))
    assert found > 100


@pytest.mark.parametrize("length", [0, 1, 99, 512, PAGE, 2 * PAGE, 3 * PAGE + 5])
def test_a_truncated_file_is_refused(tmp_path: Path, history: list[Records], length: int) -> None:
    """R-02, R-22: a truncated file is refused, also an empty one, which SQLite would take for a new file."""
    path = tmp_path / "live" / "nvram.db"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(StorageError):
        loaded(path)


def test_a_damaged_file_has_a_way_out(tmp_path: Path, history: list[Records]) -> None:
    """The error names the backup, the option for an older one, and the way without a backup."""
    path = tmp_path / "live" / "nvram.db"
    path.write_bytes(path.read_bytes()[: PAGE + 5])
    with pytest.raises(NvramError) as caught:
        loaded(path)
    assert caught.value.rule.id == "nvram.file"
    for words in (
        f"put a backup of {path.parent} back",
        "--accept-older",
        f"replace live --state {tmp_path}",
    ):
        assert words in caught.value.message


def test_a_missing_file_is_not_a_new_system(tmp_path: Path, history: list[Records]) -> None:
    """R-22, R-48: if the file is missing, the mark shows that commits existed, and the start is refused.

    If the mark is missing too, the data count as cleared: the system enters Recovery.
    """
    path = tmp_path / "live" / "nvram.db"
    path.unlink()
    with pytest.raises(NvramError, match="it is empty, but its high-water mark"):
        loaded(path)
    path.with_name("nvram.db-mark").unlink()
    path.unlink()
    assert stored(path).state is SystemState.RECOVERY


def test_an_older_copy_is_refused(tmp_path: Path) -> None:
    """R-22: if yesterday's file is used with today's mark, or without a mark, the operator must accept it."""
    path = tmp_path / "nvram.db"
    live = Live(path)
    live.commit(1)
    yesterday = power_cut(tmp_path, tmp_path / "yesterday").parent
    live.commit(2)
    live.close()
    for name in FILES[:2]:
        shutil.copyfile(yesterday / name, tmp_path / name)
    with pytest.raises(NvramError, match="older copy"):
        loaded(path)
    (tmp_path / "nvram.db-mark").unlink()
    with pytest.raises(NvramError, match="no high-water mark") as caught:
        loaded(path)
    assert caught.value.rule.id == "nvram.mark"
    loaded(path, accept_older=True)
    loaded(path)


def test_a_commit_number_that_was_edited_is_noticed(tmp_path: Path, history: list[Records]) -> None:
    """R-22: the MAC of a commit covers its number, so an older file can't be given a newer number."""
    path = tmp_path / "live" / "nvram.db"
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        (blob,) = connection.execute("SELECT blob FROM record WHERE name = 'commit'").fetchone()
        edited = blob[:15] + b"\x09" + blob[16:]
        connection.execute("UPDATE record SET blob = ? WHERE name = 'commit'", (edited,))
    with pytest.raises(StorageError, match="the commit record does not authenticate"):
        loaded(path)


def test_a_mark_that_lags_behind_is_brought_up(tmp_path: Path) -> None:
    """R-21: after a power cut the mark may be older than the file. The next start accepts and renews it."""
    live = Live(tmp_path / "nvram.db")
    mark = tmp_path / "nvram.db-mark"
    lagging = mark.read_bytes()
    last = [live.commit(generation) for generation in range(6)][-1]
    live.close()
    older = (tmp_path / "nvram.db").read_bytes()
    mark.write_bytes(lagging)
    assert loaded(tmp_path / "nvram.db") == last
    assert mark.read_bytes() != lagging
    assert (tmp_path / "nvram.db").read_bytes() == older


def test_a_torn_mark_refuses_nothing_that_is_there(tmp_path: Path, history: list[Records]) -> None:
    """R-21, R-22: a power cut can damage only the slot of the mark that is being written.

    The other one is whole.
    """
    live = tmp_path / "live"
    good = (live / "nvram.db-mark").read_bytes()
    for junk in (bytes(48), b"\xff" * 48, good[:20] + bytes(28), os.urandom(48)):
        (live / "nvram.db-mark").write_bytes(junk + good[48:])
        assert loaded(live / "nvram.db") == history[-1]
    (live / "nvram.db-mark").write_bytes(bytes(len(good)))
    with pytest.raises(NvramError, match="no high-water mark"):
        loaded(live / "nvram.db")


def test_the_slots_of_the_mark_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-21: while one slot of the mark is written, the other one is durable and genuine."""
    monkeypatch.setattr(mark, "SWITCH", 3)
    live = Live(tmp_path / "nvram.db")
    path = tmp_path / "nvram.db-mark"
    written: list[int] = []
    before = path.read_bytes()
    for generation in range(10):
        live.commit(generation)
        after = path.read_bytes()
        (slot,) = [n for n, at in enumerate(mark.SLOTS) if before[at:][:48] != after[at:][:48]]
        written.append(slot)
        before = after
    live.close()
    assert written == [0, 0, 0, 1, 1, 1, 0, 0, 0, 1]


def test_nothing_but_the_known_files_is_left(tmp_path: Path, history: list[Records]) -> None:
    """An open NVRAM has three files, a closed one has two, and there are no others."""
    assert {path.name for path in (tmp_path / "cut").iterdir()} == set(FILES)
    assert {path.name for path in (tmp_path / "live").iterdir()} == set(FILES) - {"nvram.db-wal"}
