"""Private files and folders that survive a power cut, and the check that they stay in place.

Only this module writes such files.  It follows no symbolic link in the last component of a path: the
target of a link belongs to somebody else, and its mode is not ours to change.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from hcall_abi.errors import OperatorError
from hcall_abi.rules import storage as rules

PRIVATE = 0o700
"""The mode of a private folder."""

_Stamp = tuple[int, int]
"""Size in bytes and time of the last write in nanoseconds."""


class InPlace:
    """A path that has to name, while the server runs, the file that the server opened under it.

    Make it once the file is open, and keep the file open: else the system may give its inode number to
    another file.  With `ours`, only this process may write the file: `written` notes the size and time
    of an own write, and `trouble` compares them.  One stat a check; the file is never opened, because
    closing it would drop the locks that this process holds on it.
    """

    def __init__(self, path: Path, *, ours: bool = False) -> None:
        self._path = path
        self._ours = ours
        self._spoiled = False
        found = path.lstat()
        self._file = _identity(found)
        self._stamp: _Stamp | None = _stamp(found)

    def lost(self) -> str | None:
        """Return in words why the path no longer names the file, None where it does."""
        found = self._find()
        return found if isinstance(found, str) else None

    def trouble(self) -> str | None:
        """Return the same, or that another program wrote the file: that stays true until the end."""
        found = self._find()
        if isinstance(found, str):
            return found
        stamp = _stamp(found)
        if self._ours and self._stamp not in (None, stamp):
            self._spoiled = True
        self._stamp = stamp
        return f"{self._path} was written by another program" if self._spoiled else None

    def written(self) -> str | None:
        """Note an own write, and return what `lost` returns.

        The size and time of a file that was written out of place are noted once it is back.
        """
        found = self._find()
        if isinstance(found, str):
            self._stamp = None
            return found
        self._stamp = _stamp(found)
        return None

    def _find(self) -> os.stat_result | str:
        """Look the path up: the file that was opened, or in words why it is not found."""
        try:
            found = self._path.lstat()
        except FileNotFoundError:
            return f"{self._path} is gone"
        except OSError as error:
            return f"{self._path}: {error.strerror}"
        if _identity(found) != self._file:
            return f"{self._path} is another file than the one that was opened"
        return found


def replace_private(path: Path, content: bytes) -> None:
    """Make or replace the file `path` with mode 0600; durable on return.

    The content goes to a second file, which then takes the name: after a power cut, or an OSError,
    the file is the old one or the new one, whole.
    """
    new = path.with_name(f"{path.name}.new")
    try:
        new.unlink(missing_ok=True)
        _write_new(new, content)
        new.replace(path)
        sync_folder(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise


def refuse_link(path: Path) -> None:
    """Raise OperatorError where `path` itself is a symbolic link; links above it are permitted."""
    if path.is_symlink():
        raise OperatorError(rules.STATE_LINK, f"{path} is a symbolic link to {path.readlink()}")


def make_folder(folder: Path) -> None:
    """Make a folder of mode 0700, and those above it that are missing, durable on return.

    The folders above get the usual mode.  A folder that is there stays as it is; OSError when anything
    else has the name.  Each entry is made durable before the next one below it is made.  So a start that
    was killed leaves at most one entry that is not durable: that of a folder which is still empty.
    """
    _make_parent(folder.parent)
    try:
        folder.mkdir(mode=PRIVATE)
    except FileExistsError:
        if not folder.is_dir():
            raise
        _sync_entry_of_another_start(folder)
    else:
        sync_folder(folder.parent)


def make_private(folder: Path) -> None:
    """Give a folder that is there the mode 0700; a link is not followed, which is an OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(descriptor, PRIVATE)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable; OSError when that fails."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # it may be written but not read: then only the whole system can be synced
        os.sync()
        return
    try:
        _sync(descriptor, folder)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make what was written to a file durable, by whichever process; OSError when that fails."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _sync(descriptor, path)
    finally:
        os.close(descriptor)


def is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing."""
    with os.scandir(folder) as entries:
        return next(entries, None) is None


def _make_parent(folder: Path) -> None:
    """Make a folder above the state with the usual mode, and those above it; durable on return."""
    if folder.is_dir():
        _sync_entry_of_another_start(folder)
        return
    _make_parent(folder.parent)
    with contextlib.suppress(FileExistsError):  # another program may have made it just now
        folder.mkdir()
    sync_folder(folder.parent)


def _sync_entry_of_another_start(folder: Path) -> None:
    """Sync the entry of an empty folder: an earlier start may have been killed before it did so.

    An entry that is not ours may lie where nothing can be synced, such as a read-only file system.
    """
    with contextlib.suppress(OSError):
        if is_empty(folder):
            sync_folder(folder.parent)


def _write_new(path: Path, content: bytes) -> None:
    """Write a file that is not there yet.  A link that somebody has put in its place is not followed."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        _sync(file.fileno(), path)


def _sync(descriptor: int, path: Path) -> None:
    """Sync a file or folder; the OSError of a failure names it, which that of `os.fsync` does not."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _stamp(found: os.stat_result) -> _Stamp:
    return found.st_size, found.st_mtime_ns
