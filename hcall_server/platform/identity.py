"""Who a managed system is: a public id and the PKS root key from which all keys at rest come.

The sizes of all identities stand here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

SYSTEM_ID_SIZE = 16
ROOT_KEY_SIZE = 32
UUID_SIZE = 16
"""Bytes of a partition's UUID."""
SEALED_LEVEL = 2


class SystemIdentity(NamedTuple):
    """The identity of a managed system: public id (16 bytes) and PKS root key (32 bytes, never shown).

    `sealed_level` is that of its records in NVRAM.  From level 2 on there is always a commit record: its
    absence is a loss, and never a new system.
    """

    system_id: bytes
    root_key: bytes
    sealed_level: int = SEALED_LEVEL

    @classmethod
    def make(cls, entropy: Callable[[int], bytes]) -> SystemIdentity:
        """Return the identity of a new system; `entropy(n)` returns `n` random bytes."""
        return cls(entropy(SYSTEM_ID_SIZE), entropy(ROOT_KEY_SIZE))

    def __repr__(self) -> str:
        return f"SystemIdentity(system_id={self.system_id.hex()}, root_key=<hidden>)"
