"""The numbers of key wrapping: wrap flags, the algorithm, and the sizes that callers rely on.

Bits and sizes are those of the public Linux driver (spec/hcalls/wrap_object.md).
"""

from __future__ import annotations

from enum import IntFlag

WRAPPING_KEY_SIZE = 32
"""Length in bytes that GEN_KEY takes for a wrapping key: AES-256."""
WRAP_OVERHEAD = 1024
"""Bytes of a wrapped object beyond its input; Linux computes with this number in both directions."""

MAX_WRAP_INPUT = 0xFFFF
"""Most bytes that WRAP takes: as many as the largest plain object has (spec/choices.md#choices)."""

ALGORITHM_MASK = 0xF
"""The bits of the wrap flags that name the wrapping algorithm."""
AES_256_GCM = 1
"""The only wrapping algorithm."""


class WrapFlag(IntFlag):
    """The policy in the wrap flags, 64 bits: when the wrapped object may be unwrapped."""

    # The bits have the same order as in a policy word, from bit 1 on. But this word has 64 bits.
    OSSECBOOTAUDIT = 1 << 62
    """Only while OS secure boot is in audit or enforce mode."""
    OSSECBOOTENFORCE = 1 << 61
    """Only while OS secure boot is in enforce mode."""
    PWSET = 1 << 60
    """Only once the consumer's password has been set; every caller has to ask for it."""


DEFAULT_WRAP_FLAGS = int(WrapFlag.PWSET) | AES_256_GCM
"""The fewest flags that WRAP accepts; Linux sends these without options."""
