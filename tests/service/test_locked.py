"""A command that locks a state folder: it has the same requirements as a start and makes no files."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hcall_abi.errors import OperatorError, StorageError, SwpksError
from hcall_abi.rules import storage as rules
from hcall_abi.rules.rule import Rule
from hcall_server.service.locked import LockedState
from hcall_server.service.state_folder import LAYOUT, StateFolder
from tests.scarcity.nth import failing


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """The state folder of a powered-off system."""
    folder = tmp_path / "state"
    held = StateFolder(folder)
    held.make()
    assert held.try_lock() is None
    held.close()
    for name in LAYOUT[2:]:
        (folder / name).mkdir(mode=0o700)
    (folder / "nvram.sqlite").touch(mode=0o600)
    return folder


def refusal(folder: Path) -> OperatorError:
    """Return the error for a refused folder. Nothing in it or beside it has changed."""
    before = sorted(folder.parent.rglob("*")) if folder.parent.is_dir() else None
    with pytest.raises(OperatorError) as caught:
        LockedState(folder)
    assert (sorted(folder.parent.rglob("*")) if folder.parent.is_dir() else None) == before
    return caught.value


def test_one_user_at_a_time(state: Path) -> None:
    """R-02: The lock is held to the end of the block. The refusal of a second user names the process."""
    with LockedState(state) as locked:
        assert locked.folder == state
        error = refusal(state)
        assert error.rule is rules.STATE_OWNER
        assert f"process {os.getpid()} uses {state}" in error.message
        assert "power the system off: stop the server" in error.message
        start = StateFolder(state)
        start.make()
        assert start.try_lock() == str(os.getpid())
        start.close()
    with LockedState(state) as locked:
        locked.close()
        LockedState(state).close()


def test_the_owner_may_be_unknown(state: Path) -> None:
    """If the server has not yet written its process id into the lock, the refusal has no id."""
    with LockedState(state):
        os.truncate(state / "lock", 0)
        assert "process unknown uses" in refusal(state).message


def test_an_error_in_the_block_releases_the_lock(state: Path) -> None:
    """The next command can lock the folder."""
    with pytest.raises(ZeroDivisionError), LockedState(state):
        raise ZeroDivisionError
    LockedState(state).close()


def test_a_relative_path(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path becomes absolute, for messages and for the presence file."""
    monkeypatch.chdir(state.parent)
    with LockedState(Path("state")) as locked:
        assert locked.folder == state
        assert repr(locked) == f"LockedState({str(state)!r})"


def letter(folder: Path) -> None:
    """Make a folder with a file that is not a state's."""
    folder.mkdir(mode=0o700)
    (folder / "letter").touch()


def lock_folder(folder: Path) -> None:
    """Make a folder whose lock is no file."""
    (folder / "lock").mkdir(parents=True)


FOREIGN: dict[str, Callable[[Path], object]] = {
    "missing": lambda _: None,
    "empty": Path.mkdir,
    "file": Path.touch,
    "other things": letter,
    "lock is a folder": lock_folder,
}


@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN)
def test_a_folder_that_is_no_state(tmp_path: Path, make: Callable[[Path], object]) -> None:
    """A folder that is no state is refused by its name. Nothing is made, not even a lock."""
    make(tmp_path / "state")
    error = refusal(tmp_path / "state")
    assert error.rule is rules.STATE_EXISTS
    assert str(tmp_path / "state") in error.message
    assert refusal(tmp_path / "above" / "state").rule is rules.STATE_EXISTS


@pytest.mark.parametrize("name", ["", *LAYOUT])
def test_links_are_refused(state: Path, name: str) -> None:
    """R-02: A link in place of the state or of a part of it is refused, as at a start."""
    target = state.with_name("elsewhere")
    (state / name).rename(target)
    (state / name).symlink_to(target)
    assert refusal(state).rule is rules.STATE_LINK


@pytest.mark.parametrize("name", ["", "anchor-card", "access-keys", "run", "asmi"])
def test_folders_are_private(state: Path, name: str) -> None:
    """R-02: A folder that others may enter is refused, as at a start."""
    (state / name).chmod(0o750)
    assert refusal(state).rule is rules.STATE_PRIVATE


def test_the_state_belongs_to_the_user(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-02: root, too, has to run the command as the server's user."""
    monkeypatch.setattr(os, "geteuid", lambda: state.stat().st_uid + 1)
    assert refusal(state).rule is rules.STATE_PRIVATE


def test_parts_of_the_layout_may_lack(state: Path) -> None:
    """A state may have only its lock, as after an erase or before the end of its first start."""
    for path in (state / name for name in LAYOUT if name != "lock"):
        path.rmdir() if path.is_dir() else path.unlink()
    LockedState(state).close()
    assert [path.name for path in state.iterdir()] == ["lock"]


@pytest.mark.parametrize(
    "number,kind,rule",
    [
        (errno.EIO, StorageError, rules.STATE_DEVICE),
        (errno.EACCES, OperatorError, rules.STATE_WRITABLE),
    ],
)
def test_a_lock_that_cannot_be_opened(state: Path, number: int, kind: type[SwpksError], rule: Rule) -> None:
    """If the lock can't be opened, EIO is an error of the device, and EACCES one of the operator."""
    with failing(1, number, "open"), pytest.raises(kind) as caught:
        LockedState(state)
    assert caught.value.rule is rule
    LockedState(state).close()
