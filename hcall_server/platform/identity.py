"""Who a managed system is: a public id and the PKS root key from which all keys at rest come."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

SYSTEM_ID_SIZE = 16
ROOT_KEY_SIZE = 32


class SystemIdentity(NamedTuple):
    """Who a managed system is: its public id (16 bytes) and its PKS root key (32 bytes, never shown)."""

    system_id: bytes
    root_key: bytes

    @classmethod
    def make(cls, entropy: Callable[[int], bytes]) -> SystemIdentity:
        """Return the identity of a new system; `entropy(n)` returns `n` random bytes."""
        return cls(entropy(SYSTEM_ID_SIZE), entropy(ROOT_KEY_SIZE))

    def __repr__(self) -> str:
        return f"SystemIdentity(system_id={self.system_id.hex()}, root_key=<hidden>)"
