"""The rows of the authorisation matrix (R-17): call, consumer, policy, password, mode, level.

Only the newest level has all rows. Other levels have only policy words of one bit, and one consumer,
because a level only removes calls and bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from swpks.conformance.oracle import (
    AUDIT_OR_ENFORCE,
    CALLERS_BITS,
    ENFORCE_ONLY,
    FOR_EVER,
    LEVELS,
    MADE_BY_HYPERVISOR,
    MAKERS,
    NAMING,
    PASSWORD_FIRST,
    REVOCATION,
    REVOKED,
    WRAPPING_KEY,
    Presented,
)
from swpks.conformance.oracle import MatrixRow as Row
from swpks.conformance.oracle import OracleCall as Call

OWNERS = (1, 2, 3)
MODES = (0, 1, 2)
NEWEST = LEVELS[-1]
WITHOUT = (Presented.NOTHING, Presented.WRONG, Presented.ANOTHERS)
WITH = tuple(Presented)
PASSWORDS = [(False, shown) for shown in WITHOUT] + [(True, shown) for shown in WITH]


def _sums(bits: tuple[int, ...]) -> Iterator[int]:
    for count in range(len(bits) + 1):
        for chosen in combinations(bits, count):
            yield sum(chosen)


POSSIBLE_WORDS = sorted(_sums(CALLERS_BITS))
"""Every combination of the bits that a caller can name."""

REPORTED_WORDS = [
    word + status
    for word in (0, *CALLERS_BITS, sum(CALLERS_BITS))
    for status in _sums((MADE_BY_HYPERVISOR, REVOKED))
    if status
]
"""Words that only the hypervisor sets on an object."""

_NAMED = sum(CALLERS_BITS) | MADE_BY_HYPERVISOR | REVOKED
UNKNOWN_WORDS = [
    (1 << n) + more for n in range(32) if not _NAMED >> n & 1 for more in (0, 0x1000_0000, 0x0800_0000)
]
"""Words with a bit that no public text names."""

STORED_WORDS = POSSIBLE_WORDS + REPORTED_WORDS
WRITTEN_WORDS = STORED_WORDS + UNKNOWN_WORDS
SINGLE_WORDS = [0, *CALLERS_BITS, *REPORTED_WORDS]

KEY_WORDS = [word for word in STORED_WORDS if word & WRAPPING_KEY]
"""Words of wrapping keys."""

UNWRAPPING_WORDS = [
    WRAPPING_KEY + word + revoked
    for word in _sums((AUDIT_OR_ENFORCE, ENFORCE_ONLY, PASSWORD_FIRST, FOR_EVER))
    for revoked in (0, REVOKED)
]
"""Words of the keys for UNWRAP: every combination of the relevant bits."""

WRAPPED_WORDS = (PASSWORD_FIRST, PASSWORD_FIRST + AUDIT_OR_ENFORCE, PASSWORD_FIRST + ENFORCE_ONLY)
"""The policies that WRAP allows for a wrapped object."""

SHAPES = [(call, level) for level in LEVELS for call in Call]
"""Every pair of call and level."""


def owners(level: str) -> tuple[int, ...]:
    """Return the consumers that the rows of a level use."""
    return OWNERS if level == NEWEST else OWNERS[2:]


def words(call: Call, level: str) -> list[int]:
    """Return the policy words that are relevant to a call."""
    if call is Call.UNWRAP:
        return UNWRAPPING_WORDS
    if call not in NAMING and call not in MAKERS:
        return [0]
    if level != NEWEST or call is Call.CONFIRM:
        return SINGLE_WORDS
    if call in MAKERS:
        return WRITTEN_WORDS
    if call is Call.WRAP or call in REVOCATION:
        return sorted({*KEY_WORDS, *SINGLE_WORDS})
    return STORED_WORDS


def rows(call: Call, level: str, owner: int, mode: int) -> Iterator[Row]:
    """Yield every row for one call and one consumer in one secure-boot mode."""
    existing = (True, False) if call in NAMING or call in MAKERS else (False,)
    wrapped_words = WRAPPED_WORDS if call is Call.UNWRAP else (0,)
    for password_set, presented in PASSWORDS:
        for exists in existing:
            for word in words(call, level) if exists or call in MAKERS else [0]:
                for wrapped in wrapped_words:
                    yield Row(call, owner, word, password_set, presented, mode, exists, level, wrapped)
