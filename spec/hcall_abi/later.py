"""The message about a format of a later release.  Each reader refuses such a format by its level."""

from __future__ import annotations

from collections.abc import Iterable

# The advice is about the whole folder. The commit record would refuse a single older file beside newer ones.
FOLDER = "start the later release again, or put back a copy of the whole folder from before its first start"
"""The advice for a state or a store."""
FILE = "use it with the later release"
"""The advice for a file that an operator gave."""


def of_later_release(found: int, read: Iterable[int], advice: str = FOLDER, what: str = "level") -> str:
    """Return the end of a message about a level of a later release.

    The text stands after the word "has".  It has the level that was found, the levels that this release can
    `read`, and the advice.  `what` replaces the word "level".
    """
    known = sorted(read)
    plural = "s" if len(known) > 1 else ""
    reads = f"reads {what}{plural} {' and '.join(map(str, known))}" if known else f"reads no {what}"
    return f"{what} {found} of a later release, and this release {reads}; {advice}"
