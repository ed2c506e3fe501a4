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
# The copy has the frames that SQLite may use, up to the first one of an older run of the log.  A damaged log
# may be a file of any size.
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
# Without room for a copy, the start goes on with the old log, and SQLite moves it.  No commit is accepted
# before that has succeeded (`SqliteNvram.commit`).  Then one case remains: a failed sync, a kill, a full disk
# at the next start, and a power cut in the milliseconds of this move (spec/threats.md).

from __future__ import annotations

import os
from pathlib import Path

from hcall_server.files import replace_private
from hcall_server.nvram.files import unusable
from hcall_server.nvram.seam import NvramError, NvramInUseError
from hcall_server.sqlite_lock import NO_ROOM, alone

# The layout of the log: "The Write-Ahead Log" in SQLite's file format.
_MAGIC = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")
_VERSION = (3007000).to_bytes(4, "big")
_HEAD_SIZE, _FRAME_HEAD_SIZE = 32, 24
_PAGE_SIZE, _SALT, _FRAME_SALT = slice(8, 12), slice(16, 24), slice(8, 16)
"""Fields of the header of the log, and the field of a frame's header that repeats the salt."""


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
        with alone(database):
            if _has_content(log):
                _renew(log)
            else:
                left.unlink(missing_ok=True)
    except BlockingIOError:
        raise NvramInUseError(str(database)) from None
    except PermissionError as error:
        raise unusable(log, error.strerror or str(error)) from None
    except OSError as error:
        if error.errno in NO_ROOM:
            return False
        raise NvramError("io", f"NVRAM: {error.filename or log}: {error.strerror or error}") from None
    return True


def _renew(log: Path) -> None:
    """Replace a log by a copy of its header and of all frames with the salt of the header.

    SQLite uses no other frames.  So the copy is small, whatever is behind them.
    """
    with log.open("rb") as file:
        head = file.read(_HEAD_SIZE)
        if head[:4] not in _MAGIC or head[4:8] != _VERSION:
            return  # SQLite ignores this file, or refuses it
        size = _FRAME_HEAD_SIZE + int.from_bytes(head[_PAGE_SIZE], "big")
        parts = [head]
        while len(frame := file.read(size)) == size and frame[_FRAME_SALT] == head[_SALT]:
            parts.append(frame)
    replace_private(log, b"".join(parts))


def _has_content(log: Path) -> bool:
    return os.path.lexists(log) and log.lstat().st_size > 0
