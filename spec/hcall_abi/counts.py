"""Numbers of things as messages and outputs write them: ``1 object``, ``2 objects``."""

from __future__ import annotations


def counted(number: int, thing: str) -> str:
    """Return a number with its noun, which has an "s" for every number but 1."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
