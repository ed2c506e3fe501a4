"""The interface of the demo's disks: a file that only one key opens."""

from __future__ import annotations

import hashlib
from typing import Protocol


class DiskError(Exception):
    """A disk can't be made, opened, written or read."""


class WrongKeyError(DiskError):
    """The key does not open the disk."""


class Disk(Protocol):
    """An encrypted disk in a file."""

    kind: str
    """The kind of disk, in words for the output."""

    def write(self, key: bytes, data: bytes) -> None:
        """Unlock the disk and write to its beginning; WrongKeyError if the key does not open it."""

    def read(self, key: bytes, size: int) -> bytes:
        """Unlock the disk and return its first `size` bytes; WrongKeyError if the key does not open it."""


def digest(secret: bytes) -> str:
    """Return a short digest for output; it identifies a secret and does not reveal it."""
    return hashlib.sha256(secret).hexdigest()[:8]
