"""Power cuts and damage: what is found is what was confirmed, or an error that names the file."""

import shutil
from pathlib import Path

import pytest

from hcall_abi.errors import StorageError
from hcall_server.nvram import NvramError
from hcall_server.nvram.sqlite import SqliteNvram
from tests.nvram.crash import FILES, flip, loaded, never_wrong, power_cut, records

PAGE = 4096
FRAME = 24 + PAGE


@pytest.fixture
def history(tmp_path: Path) -> list[dict[str, bytes | None]]:
    """Six commits into `tmp_path`/live, whose process is then killed; the files are in `tmp_path`/cut."""
    (tmp_path / "live").mkdir()
    nvram = SqliteNvram(tmp_path / "live" / "nvram.db")
    commits = [records(generation) for generation in range(6)]
    for commit in commits:
        nvram.commit(commit)
    power_cut(tmp_path / "live", tmp_path / "cut")
    nvram.close()
    return commits


def test_a_killed_server_loses_nothing_that_was_committed(
    tmp_path: Path, history: list[dict[str, bytes]]
) -> None:
    """R-21: without any closing, the last commit is there, whole."""
    assert loaded(tmp_path / "cut" / "nvram.db") == history[-1]


def test_at_every_commit_a_killed_server_comes_back_with_it(tmp_path: Path) -> None:
    """R-21, R-22: after each commit of a long series the files hold that very commit."""
    nvram = SqliteNvram(tmp_path / "nvram.db")
    for generation in range(20):
        commit = records(generation, size=20_000)
        nvram.commit(commit)
        assert loaded(power_cut(tmp_path, tmp_path / "cut")) == commit
    nvram.close()


def test_a_log_cut_off_anywhere_gives_one_whole_commit(
    tmp_path: Path, history: list[dict[str, bytes]]
) -> None:
    """R-22: a power cut that tears the log leaves a state that was there: never a mixture.

    The mark is as old as the log, as it is when the power goes before either reached the disk.
    """
    log = (tmp_path / "cut" / "nvram.db-wal").read_bytes()
    torn = tmp_path / "torn"
    lengths = {*range(0, len(log), FRAME), *range(32, len(log), FRAME), *range(0, len(log), 1777)}
    found = []
    for length in sorted(lengths):
        path = power_cut(tmp_path / "cut", torn)
        (torn / "nvram.db-wal").write_bytes(log[:length])
        (torn / "nvram.db-mark").unlink()
        found.append(loaded(path))
    assert all(state in [{}, *history] for state in found)
    assert found[-1] in history[-2:]


def test_a_log_that_loses_a_confirmed_commit_is_refused(
    tmp_path: Path, history: list[dict[str, bytes]]
) -> None:
    """R-22: cut off by damage and not by a power cut, the log would give an older store: named instead."""
    path = tmp_path / "cut" / "nvram.db"
    log = tmp_path / "cut" / "nvram.db-wal"
    log.write_bytes(log.read_bytes()[: -FRAME // 2])
    with pytest.raises(
        NvramError, match=r"nvram.db is damaged or an older copy: .* but 6 was confirmed"
    ) as caught:
        loaded(path)
    assert caught.value.kind == "corrupt"
    (tmp_path / "cut" / "nvram.db-mark").unlink()
    assert loaded(path) == history[-2]


def test_no_flipped_bit_in_the_log_gives_a_wrong_answer(
    tmp_path: Path, history: list[dict[str, bytes]]
) -> None:
    """R-02, R-22: everything was in the log alone; each sampled bit of it is found or harmless."""
    size = (tmp_path / "cut" / "nvram.db-wal").stat().st_size
    found = 0
    for byte in [*range(32), *range(32, 32 + 24), *range(60, size, 613)]:
        path = power_cut(tmp_path / "cut", tmp_path / "flipped")
        flip(tmp_path / "flipped" / "nvram.db-wal", byte, byte % 8)
        found += never_wrong(path, dict(history[-1]))
    assert found > 100


def test_no_flipped_bit_in_the_file_gives_a_wrong_answer(
    tmp_path: Path, history: list[dict[str, bytes]]
) -> None:
    """R-02: SQLite finds what breaks its structure, the seal what breaks a record; nothing vanishes."""
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
def test_a_truncated_file_is_refused(tmp_path: Path, history: list[dict[str, bytes]], length: int) -> None:
    """R-02, R-22: also one that is empty, which SQLite takes for a new one."""
    path = tmp_path / "live" / "nvram.db"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(StorageError, match=str(path)):
        loaded(path)


def test_a_missing_file_is_not_a_new_system(tmp_path: Path, history: list[dict[str, bytes]]) -> None:
    """R-22: the mark remembers that there were commits."""
    path = tmp_path / "live" / "nvram.db"
    path.unlink()
    for _ in range(2):
        with pytest.raises(NvramError, match="its last commit is 0, but 6 was confirmed"):
            loaded(path)


def test_an_older_copy_is_refused(tmp_path: Path) -> None:
    """R-22: yesterday's file under today's mark is not a state to go on with unasked."""
    path = tmp_path / "nvram.db"
    first = SqliteNvram(path)
    first.commit(records(1))
    first.close()
    shutil.copyfile(path, tmp_path / "yesterday")
    second = SqliteNvram(path)
    second.commit(records(2))
    second.close()
    shutil.copyfile(tmp_path / "yesterday", path)
    with pytest.raises(NvramError, match="older copy"):
        loaded(path)


def test_a_mark_that_lags_behind_is_brought_up(tmp_path: Path, history: list[dict[str, bytes]]) -> None:
    """R-21: after a power cut the mark may be old; the next start accepts that and renews it."""
    live = tmp_path / "live"
    first = SqliteNvram(tmp_path / "first.db")
    shutil.copyfile(tmp_path / "first.db-mark", live / "nvram.db-mark")
    first.close()
    assert loaded(live / "nvram.db") == history[-1]
    (live / "nvram.db").write_bytes(b"")
    with pytest.raises(NvramError, match="6 was confirmed"):
        loaded(live / "nvram.db")


def test_a_damaged_mark_is_refused(tmp_path: Path, history: list[dict[str, bytes]]) -> None:
    """R-22: each bit of the mark counts; the error names that file."""
    live = tmp_path / "live"
    mark = live / "nvram.db-mark"
    good = mark.read_bytes()
    for bit in range(8 * len(good)):
        flip(mark, bit // 8, bit % 8)
        with pytest.raises(NvramError, match=f"{mark} is damaged"):
            loaded(live / "nvram.db")
        mark.write_bytes(good)
    mark.write_bytes(good + b"x")
    with pytest.raises(NvramError, match=f"{mark} is damaged"):
        loaded(live / "nvram.db")


def test_nothing_but_the_known_files_is_left(tmp_path: Path, history: list[dict[str, bytes]]) -> None:
    """Three files while open, two after closing: all that an operator has to know of."""
    assert {path.name for path in (tmp_path / "cut").iterdir()} == set(FILES)
    assert {path.name for path in (tmp_path / "live").iterdir()} == set(FILES) - {"nvram.db-wal"}
