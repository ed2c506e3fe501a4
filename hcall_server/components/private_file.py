"""Reads and writes a small private file, always as a whole.  Each part of a system has such a file.

The file has mode 0600, and a folder of its own with mode 0700.  Neither may be a symbolic link.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from hcall_abi.errors import OperatorError, StorageError
from hcall_abi.rules.rule import Rule
from hcall_server.files import make_folder, make_private, refuse_link, replace_private


class PrivateFile:
    """The file of one part.  `name` names the part in messages; `limit` is the largest content in bytes.

    If others may use the file, the error has the rule `private`.  If the file can't be read or written, the
    error has the rule `whole`.
    """

    def __init__(self, path: Path, name: str, limit: int, *, private: Rule, whole: Rule) -> None:
        self.path = path
        self._name = name
        self._limit = limit
        self._private = private
        self._whole = whole

    def __repr__(self) -> str:
        return f"PrivateFile({str(self.path)!r})"

    def read(self) -> bytes | None:
        """Return the content, one byte more than the limit at most; None if there is no such file.

        Raises OperatorError if others may read the file or it is a link, StorageError if it can't be read.
        """
        try:
            self._refuse_links()
            return self._content()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self.damaged(f"can't be read: {error.strerror or error}") from None

    def check(self) -> None:
        """Raise the errors of `read` that need no content: those about links, kinds, modes and access."""
        try:
            self._refuse_links()
            self._check_private(self.path.lstat())
            if not os.access(self.path, os.R_OK, effective_ids=True):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except FileNotFoundError:
            return
        except OSError as error:
            raise self.damaged(f"can't be read: {error.strerror or error}") from None

    def write(self, content: bytes) -> None:
        """Make or replace the file, all or nothing, durable on return; its folder is made if it is missing.

        Raises StorageError when that fails; the file is then the old one or the new one, whole.
        """
        self._refuse_links()
        try:
            make_folder(self.path.parent)
            make_private(self.path.parent)
            replace_private(self.path, content)
        except OSError as error:
            raise self.damaged(f"can't be written: {error.strerror or error}") from None

    def damaged(self, reason: str) -> StorageError:
        """Return the error for a file that can't be used; `reason` follows its path in the message."""
        return StorageError(self._whole, f"{self._name}: {self.path} {reason}")

    def _refuse_links(self) -> None:
        refuse_link(self.path.parent)
        refuse_link(self.path)

    def _content(self) -> bytes:
        """Return the file's bytes if it is a private plain file."""
        # O_NOFOLLOW, because a link may appear after `_refuse_links`.  O_NONBLOCK, because the open of a
        # FIFO would wait for its writer, and so would the start.
        descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            # Check the open file.  The path may name another file by now.
            self._check_private(os.fstat(descriptor))
            # Read one byte more than the limit, so that the caller notices a file that is too long.
            return os.read(descriptor, self._limit + 1)
        finally:
            os.close(descriptor)

    def _check_private(self, found: os.stat_result) -> None:
        """Refuse anything but a plain file that only its owner may use."""
        if not stat.S_ISREG(found.st_mode):
            raise self.damaged("is not a plain file")
        folder = self.path.parent
        for path, mode in ((self.path, found.st_mode), (folder, folder.stat().st_mode)):
            if stat.S_IMODE(mode) & 0o077:
                raise OperatorError(
                    self._private,
                    f"{self._name}: {path} has mode {stat.S_IMODE(mode):04o}, open to more than its owner",
                )
