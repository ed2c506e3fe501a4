"""Private files and folders that survive a power cut, and the check that they stay in place.

Only this module writes such files.  If the last component of a path is a symbolic link, it is not followed.
The target of the link may belong to another program, and a new mode would harm it.
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
    """Checks that a path still names the file that the server has opened.

    The caller must make this object while the file is open, and leave the file open.  After a close, another
    file could get the same inode number.  A check costs one stat.

    With `ours`, only this process may write the file.  `written` stores the size and time after each own
    write, and `trouble` compares them.
    """

    # A check never opens the file.  To close it again would release the POSIX locks of this process on it.

    def __init__(self, path: Path, *, ours: bool = False) -> None:
        self._path = path
        self._ours = ours
        self._spoiled = False
        found = path.lstat()
        self._file = _identity(found)
        self._stamp: _Stamp | None = _stamp(found)

    def lost(self) -> str | None:
        """Return why the path does not name the file any more, None if it does."""
        found = self._find()
        return found if isinstance(found, str) else None

    def trouble(self) -> str | None:
        """Return the result of `lost`, or that another program wrote the file.

        The second finding is permanent.
        """
        found = self._find()
        if isinstance(found, str):
            return found
        stamp = _stamp(found)
        # A foreign write may have destroyed records, so this finding is permanent.  A lost file may be
        # renamed back, and then nothing is wrong.
        if self._ours and self._stamp not in (None, stamp):
            self._spoiled = True
        self._stamp = stamp
        return f"{self._path} was written by another program" if self._spoiled else None

    def written(self) -> str | None:
        """Store size and time after an own write; return the result of `lost`.

        If the path does not name the file now, a later check stores them as soon as it finds the file.
        """
        found = self._find()
        if isinstance(found, str):
            self._stamp = None
            return found
        self._stamp = _stamp(found)
        return None

    def _find(self) -> os.stat_result | str:
        """Return the status of the opened file, or why the path does not name it."""
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

    The content is written to a second file, which is then renamed.  So a power cut or an OSError leaves the
    old file or the new one, each complete.
    """
    new = path.with_name(f"{path.name}.new")
    try:
        new.unlink(missing_ok=True)  # a killed start may have left it
        _write_new(new, content)
        new.replace(path)
        sync_folder(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise


def refuse_link(path: Path) -> None:
    """Raise OperatorError if `path` itself is a symbolic link.

    Links in the folders above it are permitted.
    """
    if path.is_symlink():
        raise OperatorError(rules.STATE_LINK, f"{path} is a symbolic link to {path.readlink()}")


def make_folder(folder: Path) -> None:
    """Make a folder of mode 0700, and the missing folders above it, durable on return.

    The folders above get the usual mode.  An existing folder is not changed.  OSError if the name belongs to
    anything else.

    Each entry is durable before the next one below it is made.  So a killed start leaves at most one entry
    that is not durable, and the folder of this entry is empty.
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
    # The mode is set by a descriptor.  `chmod` with a path would follow a link that was put there meanwhile.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(descriptor, PRIVATE)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make a folder's entries durable; OSError when that fails."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    # This process may write the folder but not read it.  Then it can't sync the folder alone, so it syncs
    # everything.
    except PermissionError:
        os.sync()
        return
    try:
        _sync(descriptor, folder)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make the content of a file durable, even if another process wrote it; OSError if that fails."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _sync(descriptor, path)
    finally:
        os.close(descriptor)


def destroy(path: Path) -> None:
    """Overwrite and remove a file, or a folder with all files below it; OSError if that fails.

    The old blocks are overwritten only if the file system writes in place.  Links are removed and not
    followed.  A missing file is no error.
    """
    # Links are tested first.  `is_dir` would follow a link, and its target may belong to another program.
    if path.is_symlink() or not path.is_dir():
        _destroy_file(path)
        return
    for inner in list(path.iterdir()):
        destroy(inner)
    path.rmdir()
    sync_folder(path.parent)


@contextlib.contextmanager
def overwritten_after(path: Path) -> Iterator[None]:
    """Return a block that may replace the file at a path; at its end, the old file is overwritten.

    If there was no old file, or the block does not replace it, nothing is overwritten.  The limits of
    `destroy` hold here too.
    """
    try:
        # The old file is opened before the block, because it has no name afterwards.  O_NONBLOCK: if a pipe
        # has this name, the open must not wait.
        descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        yield
        return
    with os.fdopen(descriptor, "wb") as file:
        yield
        # Without a name (no links), the old file was replaced.  Otherwise it is still in use.
        if os.fstat(descriptor).st_nlink == 0:
            file.write(bytes(os.fstat(descriptor).st_size))
            file.flush()
            _sync(descriptor, path)


def is_empty(folder: Path) -> bool:
    """Whether a folder is empty."""
    with os.scandir(folder) as entries:
        return next(entries, None) is None


def _make_parent(folder: Path) -> None:
    """Make a folder above the state, and the missing folders above it; durable on return.

    They get the usual mode.
    """
    if folder.is_dir():
        _sync_entry_of_another_start(folder)
        return
    _make_parent(folder.parent)
    with contextlib.suppress(FileExistsError):  # if another program has made it just now
        folder.mkdir()
    sync_folder(folder.parent)


def _sync_entry_of_another_start(folder: Path) -> None:
    """Make the entry of an empty folder durable.

    An earlier start may have made the folder and been killed before it synced.  If another program made the
    folder, a sync may be impossible, for example on a read-only file system.  Such an error is ignored.
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
    """Sync a file or folder.

    The OSError of a failure has its path; that of `os.fsync` does not.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _stamp(found: os.stat_result) -> _Stamp:
    return found.st_size, found.st_mtime_ns
