"""Immutable forms of the persistent part of a keystore: one object, and a whole store.

Write-behind seals a `StoreImage`, and recovery loads it.  It holds neither passwords (they are ephemeral,
R-04) nor TRANSIENT objects (R-14).
"""

# Why an image holds encoded entries
#
# The encryptor takes a snapshot at every flush, on the event loop: no call of any partition runs meanwhile.
# A store of 128 KiB has room for 3448 objects.  A loop that encoded each of them took a millisecond.  But a
# flush usually follows one or two changes, so nearly all of that work made the same bytes as before.
#
# So each object is encoded once, when it is written or changed, and the entry is kept beside it.  A snapshot
# is then a tuple of these entries, and the partition image is their join.  Both run in C, and take a tenth
# of the time or less.
#
# An entry costs a WRITE 0.3 us, and memory: about 90 bytes, and the object's label and data once more.  So a
# full store of 3448 objects takes a third more memory, and one of large objects twice as much.
#
# We dropped two alternatives.  Headers that are encoded in advance would save the second copy, but a snapshot
# would take three times as long.  One joined image, changed in place, would make each WRITE and REMOVE as
# expensive as a flush.
#
# The entry's layout is defined here, because this room makes entries.  The sealing room builds the layout of
# the image from it (`sealing/formats.py`).  Only that room reads bytes that may be wrong.

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Self

from construct import Const, Int8ub, Int16ub, Int32ub, Struct

from hcall_abi.layout import FixedLayout

OBJECT_HEADER = Struct(
    "consumer" / Int8ub,
    "reserved" / Const(0, Int8ub),
    "label_length" / Int16ub,
    "policy" / Int32ub,
    "data_length" / Int32ub,
)
"""The first 12 bytes of an object's entry; its label and its data follow (spec/sealed.md#partition-image)."""

_HEADER = FixedLayout(OBJECT_HEADER)


class StoredObject(NamedTuple):
    """One object: its owner (1 to 3), its label, its policy word and its data."""

    consumer: int
    label: bytes
    policy: int
    data: bytes

    def __repr__(self) -> str:
        return (
            f"StoredObject(consumer={self.consumer}, label={self.label!r}, "
            f"policy=0x{self.policy:08X}, data=<{len(self.data)} bytes>)"
        )


def entry_of(consumer: int, label: bytes, policy: int, data: bytes) -> bytes:
    """Return an object as its entry in the partition image."""
    return b"".join((_HEADER.pack_raw(consumer, 0, len(label), policy, len(data)), label, data))


def object_of(entry: bytes) -> StoredObject:
    """Return the object of an entry that `entry_of` made, or that `hcall_server.sealing` has checked."""
    consumer, _, label_length, policy, _ = _HEADER.unpack_raw(entry)
    label_end = _HEADER.size + label_length
    return StoredObject(consumer, entry[_HEADER.size : label_end], policy, entry[label_end:])


class StoreImage(NamedTuple):
    """All persistent objects of one partition at `generation`, each as its encoded entry."""

    generation: int
    entries: tuple[bytes, ...]

    def __repr__(self) -> str:
        return f"StoreImage(generation={self.generation}, <{len(self.entries)} objects>)"

    @classmethod
    def of(cls, generation: int, objects: Iterable[StoredObject]) -> Self:
        """Return the image of a store that has these objects, in their order."""
        return cls(generation, tuple(entry_of(*each) for each in objects))

    @property
    def objects(self) -> tuple[StoredObject, ...]:
        """The objects; each access decodes all entries."""
        return tuple(map(object_of, self.entries))
