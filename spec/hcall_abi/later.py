"""The words about a format that a later release wrote.  Each reader refuses such a format by its level."""

from __future__ import annotations

from collections.abc import Iterable

FOLDER = "start the later release again, or put back a copy of the whole folder from before its first start"
"""The advice for a state or a store."""
FILE = "use it with the later release"
"""The advice for a file that an operator gave."""


def of_later_release(found: int, read: Iterable[int], advice: str = FOLDER, what: str = "level") -> str:
    """Return the finding about a level, or a tag, above all that this release reads; it follows "has"."""
    known = sorted(read)
    plural = "s" if len(known) > 1 else ""
    reads = f"reads {what}{plural} {' and '.join(map(str, known))}" if known else f"reads no {what}"
    return f"{what} {found} of a later release, and this release {reads}; {advice}"
