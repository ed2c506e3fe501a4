"""The contents of a keystore as plain values: an object, and a whole store at one generation.

Write-behind seals a `StoreImage`, and recovery loads it.  It never holds passwords (they are ephemeral,
R-04) nor TRANSIENT objects (R-14).
"""

from __future__ import annotations

from typing import NamedTuple


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


class StoreImage(NamedTuple):
    """All persistent objects of one partition at `generation`."""

    generation: int
    objects: tuple[StoredObject, ...]
