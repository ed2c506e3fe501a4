"""The high-water mark: which commit was the last one known durable (spec/sealed.md#high-water-mark).

SQLite answers damage in its write-ahead log by going back to the last commit before it, silently.
For a keystore that is a wrong answer: a store older than one that was confirmed (R-22).  So the
number of each durable commit is noted in a file of its own, after the commit and without a sync:
it can lag behind after a power cut, which says nothing, but it is never ahead of the truth.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

from hcall_abi.rules import storage as rules
from hcall_server.nvram.seam import NvramError

_BODY = struct.Struct(">4sBBHQ")
_CHECK = struct.Struct(">I")
MAGIC = b"SPKM"
LEVEL = 1
SIZE = _BODY.size + _CHECK.size


class HighWaterMark:
    """The mark's open file; raises NvramError where it can't be read or written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._trouble(error) from None

    def read(self) -> int:
        """Return the number of the last commit known durable, 0 where none was ever noted."""
        try:
            content = os.pread(self._descriptor, SIZE + 1, 0)
        except OSError as error:
            raise self._trouble(error) from None
        if not content:
            return 0
        if len(content) != SIZE or content[-_CHECK.size :] != _check(content[: _BODY.size]):
            raise self._damaged("its check value is wrong")
        magic, level, reserved, reserved2, number = _BODY.unpack_from(content)
        if (magic, level, reserved, reserved2) != (MAGIC, LEVEL, 0, 0):
            raise self._damaged(f"it does not have the layout of level {LEVEL}")
        return int(number)

    def note(self, number: int, *, sync: bool = False) -> None:
        """Note a durable commit; with `sync` the file itself is made durable (once, when it is new)."""
        body = _BODY.pack(MAGIC, LEVEL, 0, 0, number)
        try:
            os.pwrite(self._descriptor, body + _check(body), 0)
            if sync:
                os.fsync(self._descriptor)
        except OSError as error:
            raise self._trouble(error) from None

    def close(self) -> None:
        """Close the file; a second close does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _trouble(self, error: OSError) -> NvramError:
        return NvramError("io", f"NVRAM: {self._path}: {error.strerror}")

    def _damaged(self, reason: str) -> NvramError:
        return NvramError(
            "corrupt",
            f"NVRAM: {self._path} is damaged: {reason}",
            rules.NVRAM_MARK,
        )


def _check(body: bytes) -> bytes:
    return _CHECK.pack(zlib.crc32(body))
