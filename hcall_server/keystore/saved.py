"""The state of a running keystore at one moment, for a test that returns to it.

It has secrets, stays in memory and is never stored (R-04).  `Keystore.saved` makes it.
"""

from __future__ import annotations

from typing import NamedTuple

from hcall_abi.consumers import SecureBoot
from hcall_server.keystore.contents import SavedContents


class SavedStore(NamedTuple):
    """Contents, passwords by consumer, and the secure-boot mode of the IPL."""

    contents: SavedContents
    passwords: tuple[tuple[int, bytes], ...]
    secure_boot: SecureBoot

    def __repr__(self) -> str:
        return f"SavedStore({self.contents!r}, {len(self.passwords)} passwords)"
