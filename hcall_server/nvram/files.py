"""Files of NVRAM: private and durable; an existing file is never opened here, because of its locks."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from hcall_abi.errors import OperatorError
from hcall_abi.rules import storage as rules
from hcall_server.files import refuse_link
from hcall_server.nvram.seam import NvramError


def make_private_file(path: Path) -> None:
    """Make a file with mode 0600, or give an existing file that mode; a link is refused."""
    try:
        # An existing file is not opened.  To close it again would drop all POSIX locks of this process on it,
        # and another `SqliteNvram` of this process may have such locks.
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            refuse_link(path)
            if not path.is_file():
                raise unusable(path, "it is not a plain file") from None
            path.chmod(0o600)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise NvramError("full", f"NVRAM: {path}: {error.strerror or error}") from None
        raise unusable(path, error.strerror or str(error)) from None


def demand_plain_companions(path: Path) -> None:
    """Raise OperatorError if a journal or log of SQLite is no plain file."""
    # SQLite would open these files, and would wait for ever at a pipe.
    for name in (f"{path.name}-journal", f"{path.name}-wal"):
        companion = path.with_name(name)
        if os.path.lexists(companion) and not stat.S_ISREG(companion.lstat().st_mode):
            raise unusable(companion, "it is not a plain file")


def unusable(path: Path, reason: str) -> OperatorError:
    """Return the error for a file that the operator has to make usable."""
    return OperatorError(rules.NVRAM_WRITABLE, f"NVRAM: {path} can't be used: {reason}")
