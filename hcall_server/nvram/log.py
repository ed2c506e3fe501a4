"""NVRAM's log after a kill: a start replaces it by a durable copy before SQLite opens it.

Page: spec/sealed.md#nvram.
"""

# A start may read commits from the log that are not on the disk.  A kill may have come before the sync of the
# last commit.  Or the sync has failed: then the kernel counts the pages as written, later processes read
# them, and no later sync writes them.  SQLite would move such a commit into the database.  A power cut in the
# middle would leave a part of the commit there, and no log that completes it.  So the rule is:
#
#   SQLite opens only a log whose every byte is on the disk.
#
# The start copies the log to a new file, syncs it, gives it the name of the log, and syncs the folder.  A
# power cut leaves the old log or the copy, and the database is as before.
#
# Dropped:
#
#   - Another sync of the log.  After a failed sync it writes nothing.
#   - Writing the log over itself.  A power cut may damage the bytes that are being written.  The log holds
#     confirmed commits, and there is no second copy of them.
#   - A copy by the kernel (`os.copy_file_range`).  The new file may share blocks of the disk with the old
#     one, without the bytes that were never written.
#   - A copy after SQLite has opened the log.  If the copy fails, SQLite still moves the log at the close.
#
# SQLite has no lock yet, so the copy needs one that excludes every other opener.  The lock is on the bytes
# that SQLite locks.  These locks are POSIX locks, with two properties: they do not exclude the own process,
# and any close of the file in the process releases all of them.  So a second opener in one process would not
# find the lock, and would end that of the first one.  `Claim` excludes it before the file is opened.
#
# Without room for a copy, the start goes on with the old log, and SQLite moves it.  No commit is accepted
# before that has succeeded (`SqliteNvram.commit`).  Then one case remains: a failed sync, a kill, a full disk
# at the next start, and a power cut in the milliseconds of this move (spec/threats.md).

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from weakref import WeakValueDictionary

from hcall_server.files import replace_private
from hcall_server.nvram.files import unusable
from hcall_server.nvram.seam import NvramError, NvramInUseError

_LOCK_BEGIN, _LOCK_SIZE = 1 << 30, 512
"""The bytes that SQLite locks, from its PENDING byte to its last SHARED byte.

They are in the "lock-byte page" of SQLite's file format, so no release of SQLite changes them.
"""
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Claim:
    """The only use of one database in this process; NvramInUseError if another object has it.

    It ends with `release`, or with the last reference.
    """

    def __init__(self, path: Path) -> None:
        try:
            found = path.lstat()
        except OSError as error:
            raise unusable(path, error.strerror or str(error)) from None
        self._file = found.st_dev, found.st_ino
        with _turn:
            if _claims.setdefault(self._file, self) is not self:
                raise NvramInUseError(str(path))

    def release(self) -> None:
        """End the claim; a second call does nothing."""
        with _turn:
            if _claims.get(self._file) is self:
                del _claims[self._file]


_claims: WeakValueDictionary[tuple[int, int], Claim] = WeakValueDictionary()
_turn = threading.Lock()


def renew_log(database: Path, log: Path) -> bool:
    """Replace a log by a durable copy of it; return False if there is no room for one.

    The caller has the `Claim` of the database.  Without a log, or with an empty one, this costs two calls of
    stat.  NvramInUseError if another process has the database open.  NvramError or OperatorError if the copy
    fails for another reason than room: nothing is changed then.
    """
    left = log.with_name(f"{log.name}.new")
    try:
        if not _has_content(log) and not os.path.lexists(left):
            return True
        with _alone(database):
            if _has_content(log):
                replace_private(log, log.read_bytes())
            else:
                left.unlink(missing_ok=True)
    except PermissionError as error:
        raise unusable(log, error.strerror or str(error)) from None
    except OSError as error:
        if error.errno in _NO_ROOM:
            return False
        raise NvramError("io", f"NVRAM: {error.filename or log}: {error.strerror or error}") from None
    return True


def _has_content(log: Path) -> bool:
    return os.path.lexists(log) and log.lstat().st_size > 0


@contextlib.contextmanager
def _alone(database: Path) -> Iterator[None]:
    """Return a block in which no other process uses the database; NvramInUseError if one does."""
    descriptor = os.open(database, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, _LOCK_SIZE, _LOCK_BEGIN)
        except (BlockingIOError, PermissionError):  # EAGAIN or EACCES: POSIX leaves the choice to the system
            raise NvramInUseError(str(database)) from None
        yield
    finally:
        os.close(descriptor)
