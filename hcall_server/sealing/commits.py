"""The commit record: an authenticated list of all records, renewed with every commit.

Page: spec/sealed.md#commit-record.
"""

# The commit record: which records are the present ones
#
# Each sealed record is genuine for ever. So an older record could replace the present one without an error: a
# removed object would return, enforced secure boot would be off, and a used latch would be armed again. The
# commit record must guarantee two things:
#
#   1. A start serves no partition from a record that the last commit did not contain.
#   2. One replaced record stops its own partition, and not the system.
#
# It lists the id, the generation and the tag of every present record, under a MAC. It is written in the same
# transaction as these records, so after a crash list and records are of the same commit.
#
#     finding                             meaning, and effect on the start
#     the whole list fits                 the records are those of the last commit
#     a record does not fit               that record alone was replaced: its partition is refused
#     the MAC of the list is wrong        no record can be checked: the start is refused
#     the list is older than the mark     the whole of NVRAM was put back: the start is refused
#
# The list can't protect itself: an old NVRAM has an old and genuine list. So the number of each durable
# commit is also written to the high-water mark, a small file beside NVRAM (spec/sealed.md#high-water-mark).
#
# An entry holds a tag, not a digest. The blob has this AES-GCM tag already. Its key is used once, so the tag
# identifies the blob as a digest would. A digest would need a second pass over each blob of up to 128 KiB.
#
# The list is stored as its bytes, sorted by id, and an entry is patched in its place. With 1,000 partitions a
# commit of one record costs 33 us, 25 of them for the MAC (spec/sealed.md#commit-record has the
# conditions). A hash tree would save the MAC over the whole list; at this size it gains nothing.

from __future__ import annotations

import hmac
from bisect import bisect_left
from collections.abc import Mapping
from typing import NamedTuple

from construct import Bytes, Const, GreedyRange, Int8ub, Int64ub, Struct, Terminated
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from hcall_abi.errors import LaterLevelError, StorageError
from hcall_abi.later import of_later_release
from hcall_abi.layout import FixedLayout, LayoutMismatch
from hcall_abi.rules import storage as rules
from hcall_server.sealing.formats import ENVELOPE_HEADER, KEY_SIZE, TAG_SIZE

COMMIT_INFO = b"swpks commit 1"
MARK_INFO = b"swpks mark 1"
COMMIT_MAGIC = b"SPKC"
MARK_MAGIC = b"SPKM"
COMMIT_LEVEL = 1
MARK_LEVEL = 2
"""Level 1 of the mark had a check value and no MAC (`level_1_formats.MARK_1`)."""
ID_SIZE = 16
MAC_SIZE = 32

COMMIT_HEADER = Struct(
    "magic" / Const(COMMIT_MAGIC),
    "level" / Const(COMMIT_LEVEL, Int8ub),
    "reserved" / Const(bytes(3)),
    "number" / Int64ub,
    "mac" / Bytes(MAC_SIZE),
)
"""The commit record without its list, 48 bytes."""

ENTRY = Struct("record" / Bytes(ID_SIZE), "generation" / Int64ub, "tag" / Bytes(TAG_SIZE))
"""One record in the list, 40 bytes: its id, and the end of its envelope."""

COMMIT = Struct("header" / COMMIT_HEADER, "entries" / GreedyRange(ENTRY), Terminated)
"""The whole commit record: the entries stand in the order of their ids."""

MARK = Struct(
    "magic" / Const(MARK_MAGIC),
    "level" / Const(MARK_LEVEL, Int8ub),
    "reserved" / Const(bytes(3)),
    "number" / Int64ub,
    "mac" / Bytes(MAC_SIZE),
)
"""A slot of the high-water mark, 48 bytes (spec/sealed.md#high-water-mark); bytes behind it are ignored."""

# Every commit packs these two layouts while its clients wait for the flush.  Derived codecs are faster.
_COMMIT = FixedLayout(COMMIT_HEADER)
_MARK = FixedLayout(MARK)
_ENTRY_SIZE: int = ENTRY.sizeof()


def sized(records: int) -> int:
    """Return the bytes of a commit record that lists so many records."""
    return _COMMIT.size + records * _ENTRY_SIZE


FIRST_SIZE = sized(1)
"""Bytes of the first commit record of a system: it lists the system record alone."""
_GENERATION = slice(ENVELOPE_HEADER.sizeof() - 12, ENVELOPE_HEADER.sizeof() - 4)
"""Where an envelope has its generation: before the length, which ends the header."""
_SHA256 = SHA256()


class CommitRecord(NamedTuple):
    """The list of all records: the number of the commit, and the sorted entries as bytes."""

    number: int
    entries: bytes

    def __repr__(self) -> str:
        return f"CommitRecord({self.number}, {len(self.entries) // _ENTRY_SIZE} records)"

    def after(self, changes: Mapping[bytes, bytes | None]) -> CommitRecord:
        """Return the next commit's record: `changes` has new blobs by record id, None for a removal."""
        entries = bytearray(self.entries)
        for record, blob in changes.items():
            at = _place(entries, record) * _ENTRY_SIZE
            there = _ENTRY_SIZE if entries[at : at + ID_SIZE] == record else 0
            entries[at : at + there] = b"" if blob is None else _entry(record, blob)
        return CommitRecord(self.number + 1, bytes(entries))

    def lists(self, record: bytes, blob: bytes) -> bool:
        """Whether the list has this blob under this id."""
        at = _place(self.entries, record) * _ENTRY_SIZE
        return self.entries[at : at + _ENTRY_SIZE] == _entry(record, blob)

    @property
    def records(self) -> list[bytes]:
        """The ids of the listed records, in ascending order."""
        return [self.entries[at : at + ID_SIZE] for at in range(0, len(self.entries), _ENTRY_SIZE)]


NO_COMMIT = CommitRecord(0, b"")
"""The commit record before the first commit of a system."""


class CommitAuthority:
    """Makes and checks the commit records and marks of one system, under keys from its root key."""

    def __init__(self, root_key: bytes) -> None:
        self._commit_key = HKDFExpand(_SHA256, KEY_SIZE, COMMIT_INFO).derive(root_key)
        self._mark_key = HKDFExpand(_SHA256, KEY_SIZE, MARK_INFO).derive(root_key)

    def __repr__(self) -> str:
        return "CommitAuthority(keys hidden)"

    def encode(self, record: CommitRecord) -> bytes:
        """Return a commit record as it is stored."""
        return _COMMIT.pack(record.number, self._commit_mac(record)) + record.entries

    def decode(self, blob: bytes) -> CommitRecord:
        """Return the stored commit record; StorageError when it is damaged or of another system.

        LaterLevelError for a record of a later release.
        """
        # The MAC covers number and entries, but not the level.  If the MAC is right for our level, only the
        # level byte is damaged.  Then the record is reported as damaged, not as one of a later release.
        if (level := _later_level(blob, COMMIT_MAGIC, COMMIT_LEVEL)) and not self._all_but_level(blob):
            finding = of_later_release(level, [COMMIT_LEVEL])
            raise LaterLevelError(rules.STATE_LEVEL, f"the commit record has {finding}")
        try:
            number, mac = _COMMIT.unpack(blob)
        except LayoutMismatch as error:
            raise StorageError(rules.COMMIT_RECORD, f"the commit record is damaged: {error}") from None
        record = CommitRecord(number, blob[_COMMIT.size :])
        if len(record.entries) % _ENTRY_SIZE or not hmac.compare_digest(mac, self._commit_mac(record)):
            reason = "it was changed, or belongs to another system or root key"
            raise StorageError(rules.COMMIT_RECORD, f"the commit record does not authenticate: {reason}")
        return record

    def mark(self, number: int) -> bytes:
        """Return a slot of the high-water mark for a commit that is durable."""
        return _MARK.pack(number, self._mark_mac(number))

    def marked(self, slot: bytes) -> int | None:
        """Return the number in a slot of the mark, None for anything that this system did not write."""
        try:
            number, mac = _MARK.unpack(slot)
        except LayoutMismatch:
            return None
        return int(number) if hmac.compare_digest(mac, self._mark_mac(number)) else None

    def _all_but_level(self, blob: bytes) -> bool:
        """Whether only the level byte of a commit record is damaged."""
        at = len(COMMIT_MAGIC)
        try:
            self.decode(blob[:at] + bytes([COMMIT_LEVEL]) + blob[at + 1 :])
        except StorageError:
            return False
        return True

    def _commit_mac(self, record: CommitRecord) -> bytes:
        return hmac.digest(self._commit_key, record.number.to_bytes(8, "big") + record.entries, "sha256")

    def _mark_mac(self, number: int) -> bytes:
        return hmac.digest(self._mark_key, number.to_bytes(8, "big"), "sha256")


def later_mark(slot: bytes) -> str | None:
    """Return a phrase about a mark slot that a later release wrote; None for any other slot."""
    level = _later_level(slot, MARK_MAGIC, MARK_LEVEL)
    return None if level is None else of_later_release(level, [1, MARK_LEVEL])


def _later_level(content: bytes, magic: bytes, newest: int) -> int | None:
    level = content[len(magic)] if len(content) > len(magic) and content.startswith(magic) else 0
    return level if level > newest else None


def _entry(record: bytes, blob: bytes) -> bytes:
    return record + blob[_GENERATION] + blob[-TAG_SIZE:]


def _place(entries: bytes | bytearray, record: bytes) -> int:
    """Return the index of an id in the entries, or the index at which to insert it."""
    # All entries have one size, so bisection works on their bytes. A list of tuples would have to be joined
    # again for each MAC.
    starts = range(0, len(entries), _ENTRY_SIZE)
    return bisect_left(starts, record, key=lambda at: bytes(entries[at : at + ID_SIZE]))
