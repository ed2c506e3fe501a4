"""The high-water mark: the number of the last commit that is known to be durable.

Page: spec/sealed.md#high-water-mark.
"""

# If its write-ahead log is damaged, SQLite silently goes back to the last commit before the damage.  And an
# attacker who can write files can restore an older copy of the whole database.  In both cases the keystore
# would be older than a confirmed one.  So the number of each durable commit is written to a file of
# its own, with a MAC.  At the next start NVRAM must not be older than this mark.
#
# Guarantees:
#
#   1. The mark is never ahead of the records, because it is written after the commit has returned.
#   2. The mark costs almost nothing, because it is written without a sync.  A power cut may lose the last
#      marks.
#   3. After a torn write of the mark, the next start is not refused.  There are two slots, in different
#      blocks of the medium.  Only one of them is written at a time, and the other one is durable already.
#   4. Nobody can avoid the check by removing the mark.  At least one slot is always durable.  So a power cut
#      can't be the reason for a state without any readable slot.
#
# The slots alternate.  After SWITCH commits, the written slot is synced, and later marks go to the other
# slot.  Each start does the same: `make_durable` fills one slot before `note` writes to the other one.
#
# A sync may fail.  Then the kernel counts the slot as written, and a later sync writes nothing.  So a slot is
# always written again before the sync that it depends on.  A power cut may damage a slot that is being
# written.  So a slot is written again only while the other one is durable.
#
# Dropped: one slot, with a sync for each commit.  It doubles the cost of a confirmed write.  Also dropped: a
# check value instead of the MAC.  It finds torn writes too, but every program can compute it.
#
# This module reads and writes the slots of a file.  To make and check their contents, a key of the system is
# needed (`sealing/commits.py`).  At sealed level 1 the mark was a single slot, at the place of the present
# first slot.  It is read once, before the conversion (`service/age.py`).

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
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

    def make_durable(self, content: bytes, genuine: Sequence[int]) -> None:
        """Write the slot other than the newest; each later `note` writes to the newest."""
        self._next = genuine[0] if genuine else 0
        self.held[1 - self._next] = content

    def note(self, content: bytes) -> None:
        """Write the slot that `make_durable` has chosen for notes."""
        self.held[self._next] = content

    def close(self) -> None:
        """Do nothing: the mark stays for the next system."""


class FileMark:
    """The mark in a file of its own, mode 0600.

    NvramError if the file can't be read or written.
    """

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
        """Return the contents of the slots; each has all bytes up to the next slot."""
        return tuple(self._read(at) for at in SLOTS)

    def make_durable(self, content: bytes, genuine: Sequence[int]) -> None:
        """Make a mark durable in one slot, and keep the newest genuine mark in the other one.

        Later calls of `note` write to the slot of the newest one.  If no slot is genuine, the mark is
        written to the second slot.  A mark of sealed level 1 is in the first slot.  So that mark stays
        readable until the new mark is durable.
        """
        self._next = genuine[0] if genuine else 0
        # A killed server may have written the newest slot without a sync.  This slot must be durable before
        # the other one is written.  Otherwise a power cut could destroy both, and the next start would be
        # refused.
        self._sync()
        # If a sync of the newest slot has failed before, it is not durable yet.  If it is the only genuine
        # slot, it is durable: the writer turned to the other slot only after a sync that has succeeded.
        if len(genuine) > 1:
            self._write(self._read(SLOTS[self._next]), self._next)
            self._sync()
        self._write(content, 1 - self._next)
        self._sync()
        self._noted, self._last = 0, content

    def note(self, content: bytes) -> None:
        """Store the number of a durable commit, without a sync.

        After SWITCH calls for one slot, the next call writes to the other slot.
        """
        if self._noted == SWITCH:
            self._settle()
            self._next, self._noted = 1 - self._next, 0
        self._write(content, self._next)
        self._noted += 1
        self._last = content

    def close(self) -> None:
        """Close the file, with the last mark in both slots; a second close does nothing.

        So a stopped system loses nothing if one slot is destroyed later.
        """
        if self._descriptor >= 0:
            if self._last:
                with contextlib.suppress(NvramError):
                    self._settle()  # the other slot, overwritten next, is the durable one
                    self._write(self._last, 1 - self._next)
            os.close(self._descriptor)
            self._descriptor = -1

    def _settle(self) -> None:
        """Make the slot of the notes durable, also after a sync that has failed."""
        self._write(self._last, self._next)
        self._sync()

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
