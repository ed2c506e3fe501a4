"""The identity of a managed system: a public id, and the PKS root key from which all keys at rest come.

This module also has the sizes of all identities.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple

SYSTEM_ID_SIZE = 16
ROOT_KEY_SIZE = 32
UUID_SIZE = 16
"""Bytes of a partition's UUID."""
SEALED_LEVEL = 2
TYPE_MODEL = "9105-22A"
"""The machine type and model of every emulated system (spec/choices.md#the-managed-system)."""
SERIAL_SIZE = 7
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class SystemIdentity(NamedTuple):
    """The identity of a managed system: public id (16 bytes) and PKS root key (32 bytes, never shown).

    `sealed_level` is that of its records in NVRAM.  From level 2 on there is always a commit record.  If it
    is missing, it was lost: the system is not new.
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


def machine_type_serial(system_id: bytes) -> str:
    """Return type, model and serial number of a system, as ``9105-22A*0123ABC``; the same for ever.

    The serial number comes from the public system id, so it stays when a part is replaced.
    """
    number = int.from_bytes(hashlib.sha256(system_id).digest())
    digits = (number // len(_DIGITS) ** place % len(_DIGITS) for place in reversed(range(SERIAL_SIZE)))
    return f"{TYPE_MODEL}*{''.join(_DIGITS[digit] for digit in digits)}"
