"""The trusted system key (TSK): the key of the copies that the console stores.

Systems that have the same key can open each other's copies.  Page: spec/sealed.md#trusted-system-key.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Self

from hcall_abi.bounds import TRUSTED_KEY_SIZE
from hcall_abi.errors import OperatorError
from hcall_abi.rules import backup as rules

ID_SIZE = 8
"""Bytes of the id: enough to distinguish the keys of all systems of one console."""
ID_INFO = b"swpks tsk id 1"


class TrustedSystemKey:
    """A trusted system key, 32 bytes, which no text shows.  Keys compare in constant time.

    `secret` is the key itself.  Only its record and the copies' key derivation may use it.
    """

    __slots__ = ("secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) != TRUSTED_KEY_SIZE:
            raise ValueError("a trusted system key has 32 bytes")
        self.secret = bytes(secret)

    @classmethod
    def make(cls, entropy: Callable[[int], bytes]) -> Self:
        """Return a random key; `entropy(n)` returns `n` random bytes."""
        return cls(entropy(TRUSTED_KEY_SIZE))

    @classmethod
    def of_file(cls, content: bytes) -> Self:
        """Return the key in an operator's file; OperatorError unless it has exactly 32 bytes."""
        if len(content) != TRUSTED_KEY_SIZE:
            message = f"the file of the trusted system key has {len(content)} bytes, not {TRUSTED_KEY_SIZE}"
            raise OperatorError(rules.TRUSTED_KEY_FILE, message)
        return cls(content)

    @property
    def id(self) -> bytes:
        """The public id of the key, 8 bytes.  Every copy has it in clear."""
        return hmac.digest(self.secret, ID_INFO, "sha256")[:ID_SIZE]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TrustedSystemKey) and hmac.compare_digest(self.secret, other.secret)

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"TrustedSystemKey(id={self.id.hex()}, key hidden)"
