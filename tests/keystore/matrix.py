"""The rows of the authorisation matrix: every call, consumer, policy word, password state and mode (R-17)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from tests.keystore.oracle import CALLERS_BITS, MADE_BY_HYPERVISOR, REVOKED, Call, Presented, Row

SUPPORTED = {"FW950": 0x7F00_0000, "FW1110": 0x7F80_0000}
OWNERS = (1, 2, 3)
MODES = (0, 1, 2)
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
"""Words that only the hypervisor gives to an object."""

_NAMED = sum(CALLERS_BITS) | MADE_BY_HYPERVISOR | REVOKED
UNKNOWN_WORDS = [
    (1 << n) + more for n in range(32) if not _NAMED >> n & 1 for more in (0, 0x1000_0000, 0x0800_0000)
]
"""Words with a bit that no public text names."""

SHAPES = [(call, "FW1110") for call in Call] + [(Call.WRITE, "FW950")]
"""Which call on which level: only a WRITE sees what a level supports."""

STORED_WORDS = POSSIBLE_WORDS + REPORTED_WORDS
WRITTEN_WORDS = STORED_WORDS + UNKNOWN_WORDS


def words(call: Call) -> list[int]:
    """The policy words that mean something to a call."""
    match call:
        case Call.WRITE:
            return WRITTEN_WORDS
        case Call.READ | Call.REMOVE:
            return STORED_WORDS
        case Call.CONFIRM:
            return [0, *CALLERS_BITS, *REPORTED_WORDS]
        case _:
            return [0]


def rows(call: Call, level: str, owner: int, mode: int) -> Iterator[Row]:
    """Every row of one call of one consumer in one secure-boot mode."""
    existing = (True, False) if call in {Call.WRITE, Call.READ, Call.REMOVE, Call.CONFIRM} else (False,)
    for password_set, presented in PASSWORDS:
        for exists in existing:
            for word in words(call) if exists or call is Call.WRITE else [0]:
                yield Row(call, owner, word, password_set, presented, mode, exists, SUPPORTED[level])
