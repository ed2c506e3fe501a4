"""The high-water mark: the number of the last commit known durable (spec/sealed.md#high-water-mark)."""

# SQLite answers damage in its write-ahead log by going back to the last commit before it, silently.  And an
# attacker who can write files can put back an older copy of the whole database.  For a keystore both are
# wrong: the store would be older than a confirmed one.  So the number of each durable commit is noted
# in a file of its own, with a MAC.  At the next start NVRAM may not be older than the mark.
#
# Guarantees:
#
#   1. It is never ahead of the records: it is written after the commit has returned.
#   2. It costs almost nothing: it is written without a sync.  After a power cut it may lag behind.
#   3. A torn write of the mark refuses no start.  So there are two slots, in different blocks of the
#      medium, and only one of them is being written at a time.  The other one is durable already.
#   4. A missing mark is not a way around the check.  One slot at least is always durable.  So a state
#      without any readable slot did not come from a power cut.
#
# The slots alternate: after SWITCH commits the written slot is synced, and the other one is written from then
# on.  Each start does the same: `make_durable` fills a slot before `note` touches the other one.
#
# One slot with a sync for each commit was tried first: it doubles the cost of a confirmed write.  A check
# value in the place of the MAC finds torn writes as well; but every program can compute one.
#
# This module reads and writes slots of a file.  Their contents need a key of the system
# (`sealing/commits.py`).  Level 1 of the mark, written before sealed level 2, was one slot in the place of
# the first.  It is read once, before the conversion (`service/age.py`).

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from hcall_server.nvram.seam import NvramError

SLOT_ROOM = 4096
"""Bytes from the start of a slot to that of the next one: no block of a medium holds both."""
SLOTS = (0, SLOT_ROOM)
"""Where the slots begin in the file, in bytes."""
SWITCH = 100
"""Commits after which the other slot is written."""


class MemoryMark:
    """The mark of NVRAM in memory."""

    def __init__(self) -> None:
        self.held: list[bytes] = [b"", b""]
        self._next = 0

    def slots(self) -> tuple[bytes, ...]:
        """Return the contents of the slots."""
        return tuple(self.held)

    def make_durable(self, content: bytes, keep: int | None) -> None:
        """Write the slot other than `keep`; `note` writes to `keep` from then on."""
        self._next = keep or 0
        self.held[1 - self._next] = content

    def note(self, content: bytes) -> None:
        """Write the present slot."""
        self.held[self._next] = content


class FileMark:
    """The mark in a file of its own, mode 0600; raises NvramError if it can't be read or written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = 0
        self._noted = 0
        self._last = b""
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._trouble(error) from None

    def slots(self) -> tuple[bytes, ...]:
        """Return the contents of the slots, each with the bytes up to the next one."""
        return tuple(self._read(at) for at in SLOTS)

    def make_durable(self, content: bytes, keep: int | None) -> None:
        """Make a mark durable in the slot other than `keep`; `note` writes to `keep` from then on.

        If no slot is genuine, the second one is written first.  A mark of level 1 is at the place of the
        first slot, and stays readable until the new mark is durable.
        """
        self._next = keep or 0
        # A killed server may have written the slot that is kept, without a sync.  It must be durable before
        # the other slot is written: else a power cut now could destroy both slots, and the next start would
        # be refused.
        self._sync()
        self._write(content, 1 - self._next)
        self._sync()
        self._noted, self._last = 0, content

    def note(self, content: bytes) -> None:
        """Note a durable commit; after SWITCH notes in one slot, the next note goes to the other slot."""
        if self._noted == SWITCH:
            self._sync()
            self._next, self._noted = 1 - self._next, 0
        self._write(content, self._next)
        self._noted += 1
        self._last = content

    def close(self) -> None:
        """Close the file, with the last mark in both slots; a second close does nothing.

        So the loss of one slot of a stopped system does not lower the mark.
        """
        if self._descriptor >= 0:
            if self._last:
                with contextlib.suppress(NvramError):
                    self._sync()  # before the other slot, the durable one, is overwritten
                    self._write(self._last, 1 - self._next)
            os.close(self._descriptor)
            self._descriptor = -1

    def _read(self, at: int) -> bytes:
        try:
            return os.pread(self._descriptor, SLOT_ROOM, at)
        except OSError as error:
            raise self._trouble(error) from None

    def _write(self, content: bytes, slot: int) -> None:
        try:
            os.pwrite(self._descriptor, content, SLOTS[slot])
        except OSError as error:
            raise self._trouble(error) from None

    def _sync(self) -> None:
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise self._trouble(error) from None

    def _trouble(self, error: OSError) -> NvramError:
        return NvramError("io", f"NVRAM: {self._path}: {error.strerror or error}")
