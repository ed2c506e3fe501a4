"""An open file of NVRAM is removed, replaced or overwritten: the next commit reports it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from hcall_abi.errors import OperatorError
from hcall_abi.rules import storage as rules
from hcall_server.nvram import NvramError
from hcall_server.nvram.sqlite import SqliteNvram

NAME = "nvram.sqlite"
CONFIRMED = {"a": bytes(9000)}

Accident = Callable[[Path], object]
"""Changes the folder of an NVRAM."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of an NVRAM; a test may move the whole folder."""
    made = tmp_path / "state"
    made.mkdir()
    return made


@pytest.fixture
def nvram(folder: Path) -> Iterator[SqliteNvram]:
    """An open NVRAM with a confirmed record."""
    opened = SqliteNvram(folder / NAME)
    opened.commit(dict(CONFIRMED))
    yield opened
    opened.close()


def moved(file: Path) -> Path:
    """Move a file or folder to another name."""
    return file.rename(file.with_name(f"{file.name}.elsewhere"))


def replaced(file: Path) -> None:
    """Replace a file or folder by a copy of it, as a restored backup does."""
    original = moved(file)
    shutil.copytree(original, file) if original.is_dir() else shutil.copy2(original, file)


def linked(file: Path) -> None:
    """Move a file to another place, and leave a link to it."""
    file.symlink_to(moved(file))


def overwritten(file: Path) -> None:
    """Write older content into the same file, as cp does."""
    file.write_bytes(file.read_bytes()[:4096])


def to(name: str, accident: Accident) -> Accident:
    """Return a function that does this accident to one file."""
    return lambda folder: accident(folder / name)


ACCIDENTS: dict[str, Accident] = {
    "folder deleted": shutil.rmtree,
    "folder renamed": moved,
    "folder replaced": replaced,
    "database deleted": to(NAME, Path.unlink),
    "database renamed": to(NAME, moved),
    "database replaced": to(NAME, replaced),
    "database linked": to(NAME, linked),
    "database overwritten": to(NAME, overwritten),
    "log deleted": to(f"{NAME}-wal", Path.unlink),
    "log replaced": to(f"{NAME}-wal", replaced),
    "log overwritten": to(f"{NAME}-wal", overwritten),
    "mark deleted": to(f"{NAME}-mark", Path.unlink),
    "mark replaced": to(f"{NAME}-mark", replaced),
}


def refuses(nvram: SqliteNvram, changes: Mapping[str, bytes | None]) -> str:
    """Make a commit that must be refused because the open file is not in its place; return the message."""
    with pytest.raises(NvramError) as caught:
        nvram.commit(changes)
    assert (caught.value.kind, caught.value.rule) == ("io", rules.NVRAM_PLACE)
    return caught.value.message


@pytest.mark.parametrize("accident", ACCIDENTS.values(), ids=ACCIDENTS)
def test_the_next_commit_notices(nvram: SqliteNvram, folder: Path, accident: Accident) -> None:
    """R-20, R-23: the next commit and all later ones are refused by a rule. The message names the file.

    An empty commit also checks: a server makes one at its end, when nothing may have changed.
    """
    nvram.commit({})
    accident(folder)
    changes: tuple[dict[str, bytes | None], ...] = ({}, {"b": b"new"}, {"b": b"new"})
    for each in changes:
        message = refuses(nvram, each)
        assert str(folder) in message
        assert any(word in message for word in ("is gone", "is another file", "was written by another"))


class WhileCommitting(Mapping[str, bytes | None]):
    """Changes that cause the accident during their own commit.

    The accident comes after the check of the file and before the commit of SQLite.
    """

    def __init__(self, accident: Callable[[], object]) -> None:
        self.accident = accident
        self.changes = {"b": b"new"}

    def __len__(self) -> int:
        return len(self.changes)

    def __getitem__(self, name: str) -> bytes:
        return self.changes[name]

    def __iter__(self) -> Iterator[str]:
        self.accident()
        return iter(self.changes)


@pytest.mark.parametrize("name", ["", NAME, f"{NAME}-wal", f"{NAME}-mark"])
@pytest.mark.parametrize("accident", [moved, replaced])
def test_a_commit_is_checked_afterwards_as_well(
    nvram: SqliteNvram, folder: Path, name: str, accident: Accident
) -> None:
    """R-20: The commit is an error if the file is removed during it, although SQLite reports success."""
    refuses(nvram, WhileCommitting(lambda: accident(folder / name)))


@pytest.mark.parametrize("name", ["", NAME, f"{NAME}-wal", f"{NAME}-mark"])
@pytest.mark.parametrize("during", [False, True])
def test_a_file_that_is_put_back_is_as_good_as_before(
    nvram: SqliteNvram, folder: Path, name: str, during: bool
) -> None:
    """R-23: when the file is back under its name, the same commit succeeds.

    The next start finds everything.
    """
    away: list[Path] = []
    if during:
        refuses(nvram, WhileCommitting(lambda: away.append(moved(folder / name))))
    else:
        away.append(moved(folder / name))
    refuses(nvram, {"b": b"new"})
    away[0].rename(folder / name)
    nvram.commit({"b": b"new"})
    nvram.close()
    assert found(folder) == {**CONFIRMED, "b": b"new"}


def found(folder: Path) -> dict[str, bytes]:
    """Return the records that a start finds."""
    again = SqliteNvram(folder / NAME)
    try:
        return again.load()
    finally:
        again.close()


@pytest.mark.parametrize("accident", [Path.unlink, replaced], ids=["deleted", "replaced"])
def test_a_lost_log_takes_no_confirmed_record_with_it(
    nvram: SqliteNvram, folder: Path, tmp_path: Path, accident: Accident
) -> None:
    """R-21: if the log is lost, the next commit is refused.

    The database itself then has every confirmed record.
    """
    accident(folder / f"{NAME}-wal")
    refuses(nvram, {"b": b"new"})
    killed = tmp_path / "killed"
    killed.mkdir()
    for name in (NAME, f"{NAME}-mark"):
        shutil.copy2(folder / name, killed)
    assert found(killed) == CONFIRMED


def test_the_files_of_another_state_stay_as_they_are(nvram: SqliteNvram, folder: Path) -> None:
    """R-22: if another state is put in place of an open one, nothing is written into its files."""
    replaced(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert f"{NAME}-wal" in before
    refuses(nvram, {"a": b"other"})
    nvram.close()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert found(folder) == CONFIRMED


def test_other_files_that_a_start_needs_are_asked_for(folder: Path) -> None:
    """R-20: files such as the lock are checked before and after each commit.

    While one is lost, no commit succeeds.
    """
    lost: list[str] = []
    nvram = SqliteNvram(folder / NAME, [lambda: None, lambda: lost[0] if lost else None])
    nvram.commit(dict(CONFIRMED))
    assert "the lock is gone" in refuses(nvram, WhileCommitting(lambda: lost.append("the lock is gone")))
    assert "the lock is gone" in refuses(nvram, {"c": b"c"})
    lost.clear()
    nvram.commit({"b": None})
    assert nvram.load() == CONFIRMED
    nvram.close()


@pytest.mark.parametrize("end", ["", "-wal", "-mark", "-journal", "-shm"])
def test_a_link_is_refused_and_its_target_untouched(folder: Path, tmp_path: Path, end: str) -> None:
    """R-02: a link in place of NVRAM is refused. Its target and the target's folder are unchanged."""
    target = tmp_path / "target"
    target.write_bytes(b"of somebody else")
    target.chmod(0o644)
    before = target.stat()
    (folder / f"{NAME}{end}").symlink_to(target)
    with pytest.raises(OperatorError, match=f"{NAME}{end} is a symbolic link to {target}") as caught:
        SqliteNvram(folder / NAME)
    assert caught.value.rule is rules.STATE_LINK
    after = target.stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert target.read_bytes() == b"of somebody else"
    assert [path.name for path in folder.iterdir()] == [f"{NAME}{end}"]
