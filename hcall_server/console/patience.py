"""The waits of the console before it tries again."""

from __future__ import annotations

from collections.abc import Iterator

FIRST_WAIT = 0.1
LONGEST_WAIT = 5.0
"""Seconds before the first repetition, and the most before each later one."""


def waits() -> Iterator[float]:
    """Yield pauses in seconds without an end.

    Each pause is twice the one before, up to a longest pause.
    """
    seconds = FIRST_WAIT
    while True:
        yield seconds
        seconds = min(2 * seconds, LONGEST_WAIT)
