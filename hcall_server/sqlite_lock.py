"""The right to change the files of a SQLite database by hand: no other program has the database open."""

# A start changes files beside a database before SQLite opens it (`nvram/log.py`, `console/journal.py`).
# SQLite has no lock yet, so the start locks the bytes that SQLite locks.
#
# These locks are POSIX locks.  They do not exclude the own process, and any close of the file in the process
# releases all of them.  So a second opener in one process would not find the lock, and would end that of the
# first one.  `Claim` excludes it before the file is opened.

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from weakref import WeakValueDictionary

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The errors of a copy that there is no room for."""
_LOCK_BEGIN, _LOCK_SIZE = 1 << 30, 512
"""The bytes that SQLite locks, from its PENDING byte to its last SHARED byte.

They are in the "lock-byte page" of SQLite's file format, so no release of SQLite changes them.
"""


class Claim:
    """The only use of one database in this process; BlockingIOError if another object has it.

    It ends with `release`, or with the last reference.  OSError if the file can't be found.
    """

    def __init__(self, path: Path) -> None:
        found = path.lstat()
        self._file = found.st_dev, found.st_ino
        with _turn:
            if _claims.setdefault(self._file, self) is not self:
                raise BlockingIOError(errno.EAGAIN, "this process has it open", os.fspath(path))

    def release(self) -> None:
        """End the claim; a second call does nothing."""
        with _turn:
            if _claims.get(self._file) is self:
                del _claims[self._file]


_claims: WeakValueDictionary[tuple[int, int], Claim] = WeakValueDictionary()
_turn = threading.Lock()


@contextlib.contextmanager
def alone(database: Path) -> Iterator[None]:
    """Return a block in which no other process uses the database; BlockingIOError if one does.

    The caller has the `Claim` of the database, and no connection to it.
    """
    descriptor = os.open(database, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, _LOCK_SIZE, _LOCK_BEGIN)
        except PermissionError as error:  # POSIX permits EACCES in place of EAGAIN
            raise BlockingIOError(error.errno, error.strerror, os.fspath(database)) from None
        yield
    finally:
        os.close(descriptor)
