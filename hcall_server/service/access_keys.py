"""Access keys, by which the clients of a partition prove themselves over TCP (spec/service.md#state)."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from pathlib import Path

from hcall_abi.bounds import ACCESS_KEY_SIZE
from hcall_abi.console import is_partition_name
from hcall_abi.errors import OperatorError, StorageError
from hcall_abi.rules import storage as rules
from hcall_abi.scarcity import scarcity_of
from hcall_server.files import replace_private, sync_folder
from hcall_server.machine.logs import Log

_log = Log()
_KEY = re.compile(rb"([0-9A-Fa-f]{%d})\r?\n?" % (2 * ACCESS_KEY_SIZE))
_END = ".key"
_LONGEST = 2 * ACCESS_KEY_SIZE + len("\r\n")


class AccessKeys:
    """The access keys of all partitions: files NAME.key in a private folder, 32 bytes in hex each.

    The key itself is in the partition's record; a file is a copy for the clients.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __repr__(self) -> str:
        return f"AccessKeys({str(self._folder)!r})"

    def publish(self, name: str, key: bytes) -> None:
        """Write the file of a partition, all or nothing and durably.  If it has the key already, do nothing.

        OperatorError if the path is no plain file, or if others may read it.  StorageError if it cannot be
        written.
        """
        shown = key.hex().encode() + b"\n"
        found = self._content(name)
        # A start publishes the key of every partition.  Without this check it would wait for two syncs for
        # each of them.
        if found == shown:
            return
        if found is not None:
            _log.warning("access_key.replaced", partition=name)
        try:
            replace_private(self._path(name), shown)
        except OSError as error:
            self._put_back(name, found)
            if scarce := scarcity_of(error):
                raise scarce from None
            message = f"the access key of {name} can't be written: {error.strerror or error}"
            raise StorageError(rules.ACCESS_KEY_STORED, message) from None

    def _put_back(self, name: str, content: bytes | None) -> None:
        """Write the old content of a file again.  A failed write may have replaced it already."""
        with contextlib.suppress(OSError):
            if content is None:
                self._path(name).unlink(missing_ok=True)
            else:
                replace_private(self._path(name), content)

    def known(self, name: str) -> bytes | None:
        """Return the key in the file of a partition, None if there is no file.

        The file must hold one key: a line of hexadecimal digits, with LF, CRLF or no line end.
        OperatorError for any other content, and for a file that is not private or not plain.
        """
        content = self._content(name)
        if content is None:
            return None
        found = _KEY.fullmatch(content)
        if found is None:
            raise OperatorError(rules.ACCESS_KEY_CONTENT, f"{self._path(name)} holds no access key")
        return bytes.fromhex(found[1].decode("ascii"))

    def names(self) -> list[str]:
        """Return the names of the partitions that have a file; StorageError if the folder can't be read."""
        try:
            found = [path.name.removesuffix(_END) for path in self._folder.iterdir()]
        except OSError as error:
            message = f"{self._folder} can't be read: {error.strerror or error}"
            raise StorageError(rules.ACCESS_KEY_STORED, message) from None
        return sorted(name for name in found if is_partition_name(name) and self._is_plain(name))

    def _is_plain(self, name: str) -> bool:
        return self._path(name).is_file() and not self._path(name).is_symlink()

    def forget(self, name: str) -> None:
        """Remove the file of a partition, durably; StorageError if that fails."""
        try:
            self._path(name).unlink(missing_ok=True)
            sync_folder(self._folder)
        except OSError as error:
            message = f"the access key of {name} can't be removed: {error.strerror or error}"
            raise StorageError(rules.ACCESS_KEY_STORED, message) from None

    def _content(self, name: str) -> bytes | None:
        """Return the content of a file, None if there is none.  A fifo or a link is refused at once."""
        path = self._path(name)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            if scarce := scarcity_of(error):
                raise scarce from None
            raise OperatorError(rules.ACCESS_KEY_FILE, f"{path}: {error.strerror or error}") from None
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise OperatorError(rules.ACCESS_KEY_FILE, f"{path} is no plain file")
            if found.st_mode & 0o077:
                raise OperatorError(rules.ACCESS_KEY_MODE, f"{path} is readable by others")
            # Read one byte more than a key has.  Otherwise a longer file could pass for a key.
            return os.read(descriptor, _LONGEST + 1)
        except OSError as error:
            raise OperatorError(rules.ACCESS_KEY_FILE, f"{path}: {error.strerror or error}") from None
        finally:
            os.close(descriptor)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}{_END}"
