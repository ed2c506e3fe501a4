"""Private files and folders that survive a power cut, and the check that they stay in place.

Only this module writes such files.  It follows no symbolic link in the last component of a path.  Such a link
may lead to a file of another program, and a change of that file's mode would harm the program.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from hcall_abi.errors import OperatorError
from hcall_abi.rules import storage as rules

PRIVATE = 0o700
"""The mode of a private folder."""

_Stamp = tuple[int, int]
"""Size in bytes and time of the last write in nanoseconds."""


class InPlace:
    """Checks that a path still names the file that the server opened under it.

    Make the object while the file is open, and leave the file open.  After a close, the system may give its
    inode number to another file.  A check costs one stat.

    If `ours` is true, only this process may write the file.  `written` stores the size and time of an own
    write, and `trouble` compares them.
    """

    # A check never opens the file.  The close would release the POSIX locks of this process on it.

    def __init__(self, path: Path, *, ours: bool = False) -> None:
        self._path = path
        self._ours = ours
        self._spoiled = False
        found = path.lstat()
        self._file = _identity(found)
        self._stamp: _Stamp | None = _stamp(found)

    def lost(self) -> str | None:
        """Return in words why the path no longer names the file, None if it does."""
        found = self._find()
        return found if isinstance(found, str) else None

    def trouble(self) -> str | None:
        """Return the result of `lost`.  If another program ever wrote the file, return a text about that."""
        found = self._find()
        if isinstance(found, str):
            return found
        stamp = _stamp(found)
        # A foreign write may have destroyed records, so this finding is permanent.  A lost file may be
        # renamed back, and is then intact.
        if self._ours and self._stamp not in (None, stamp):
            self._spoiled = True
        self._stamp = stamp
        return f"{self._path} was written by another program" if self._spoiled else None

    def written(self) -> str | None:
        """Store size and time of an own write; return the result of `lost`.

        If the path does not name the file now, nothing is stored.  The next check that finds the file
        stores them.
        """
        found = self._find()
        if isinstance(found, str):
            self._stamp = None
            return found
        self._stamp = _stamp(found)
        return None

    def _find(self) -> os.stat_result | str:
        """Return the status of the opened file, or in words why the path does not name it."""
        try:
            found = self._path.lstat()
        except FileNotFoundError:
            return f"{self._path} is gone"
        except OSError as error:
            return f"{self._path}: {error.strerror or error}"
        if _identity(found) != self._file:
            return f"{self._path} is another file than the opened one"
        return found


def replace_private(path: Path, content: bytes) -> None:
    """Make or replace the file `path` with mode 0600; durable on return.

    The content goes to a second file, which is then renamed.  So after a power cut, or an OSError, the file
    is the old one or the new one, whole.
    """
    new = path.with_name(f"{path.name}.new")
    try:
        # a killed start may have left this file, and `_write_new` accepts no existing name
        new.unlink(missing_ok=True)
        _write_new(new, content)
        new.replace(path)
        sync_folder(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise


def refuse_link(path: Path) -> None:
    """Raise OperatorError if `path` itself is a symbolic link; links above it are permitted."""
    if path.is_symlink():
        raise OperatorError(rules.STATE_LINK, f"{path} is a symbolic link to {path.readlink()}")


def make_folder(folder: Path) -> None:
    """Make a folder of mode 0700, and the missing folders above it, durable on return.

    The folders above get the usual mode.  An existing folder stays as it is; OSError if the name belongs to
    anything else.  Each entry is made durable before the next one below it is made.  So a killed start
    leaves at most one entry that is not durable, and its folder is empty.
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
    """Give an existing folder the mode 0700; OSError if it is a link."""
    # By its path, `chmod` would follow a link that was put there meanwhile.  So a descriptor is used.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(descriptor, PRIVATE)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable; OSError when that fails."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # the folder may be written but not read, so only the whole system can be synced
        os.sync()
        return
    try:
        _sync(descriptor, folder)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make the content of a file durable, whichever process wrote it; OSError if that fails."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _sync(descriptor, path)
    finally:
        os.close(descriptor)


def destroy(path: Path) -> None:
    """Overwrite a file, or every file below a folder, and remove it; OSError when that fails.

    The overwriting reaches the old blocks only where the file system writes in place.  Links are removed,
    but not followed.  A missing file is no error.
    """
    # The link is checked first.  `is_dir` would follow it, and its target may belong to another program.
    if path.is_symlink() or not path.is_dir():
        _destroy_file(path)
        return
    for inner in list(path.iterdir()):
        destroy(inner)
    path.rmdir()
    sync_folder(path.parent)


@contextlib.contextmanager
def overwritten_after(path: Path) -> Iterator[None]:
    """Return a block that may replace the file at a path; at its end, the replaced file is overwritten.

    If the path had no file, or the block does not replace it, nothing is overwritten.  `destroy` says how
    far the overwriting reaches.
    """
    try:
        # The file is opened before the block, because it has no name afterwards.  O_NONBLOCK, because the
        # open of a pipe would wait.
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        yield
        return
    with os.fdopen(descriptor, "wb") as file:
        yield
        # If the file has no name any more, the block has replaced it.  If it has one, it is still in use.
        if os.fstat(descriptor).st_nlink == 0:
            file.write(bytes(os.fstat(descriptor).st_size))
            file.flush()
            _sync(descriptor, path)


def is_empty(folder: Path) -> bool:
    """Whether a folder is empty."""
    with os.scandir(folder) as entries:
        return next(entries, None) is None


def _make_parent(folder: Path) -> None:
    """Make a folder above the state, and the folders above it, with the usual mode; durable on return."""
    if folder.is_dir():
        _sync_entry_of_another_start(folder)
        return
    _make_parent(folder.parent)
    with contextlib.suppress(FileExistsError):  # another program may have made the folder just now
        folder.mkdir()
    sync_folder(folder.parent)


def _sync_entry_of_another_start(folder: Path) -> None:
    """Sync the entry of an empty folder: an earlier start may have been killed before it did so.

    If another program made the entry, its file system may permit no sync, for example if it is read-only.
    """
    with contextlib.suppress(OSError):
        if is_empty(folder):
            sync_folder(folder.parent)


def _destroy_file(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if path.is_file() and not path.is_symlink():
            descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(descriptor, "wb") as file:
                file.write(bytes(os.fstat(descriptor).st_size))
                file.flush()
                _sync(descriptor, path)
        path.unlink()


def _write_new(path: Path, content: bytes) -> None:
    """Write a new file; OSError if the name exists, also as a link."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        _sync(file.fileno(), path)


def _sync(descriptor: int, path: Path) -> None:
    """Sync a file or folder; the OSError of a failure has its path, which `os.fsync` leaves out."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _stamp(found: os.stat_result) -> _Stamp:
    return found.st_size, found.st_mtime_ns
