"""How long the console waits before it tries again."""

from __future__ import annotations

from collections.abc import Iterator

FIRST_WAIT = 0.1
LONGEST_WAIT = 5.0
"""Seconds before the first repetition, and before each late one."""


def waits() -> Iterator[float]:
    """Yield the waits in seconds, each twice as long as the one before, up to the longest; without an end."""
    seconds = FIRST_WAIT
    while True:
        yield seconds
        seconds = min(2 * seconds, LONGEST_WAIT)
