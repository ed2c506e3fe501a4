"""Addresses of TCP listeners and their clients as text."""

from __future__ import annotations


def is_host(text: str) -> bool:
    """Whether a name or an address can be looked up: printable, and with labels as DNS has them.

    The system's resolver is never asked with any other: Python raises a ValueError of its own for it.
    """
    if not text.isprintable() or " " in text:
        return False
    try:
        return bool(text.encode("idna"))
    except UnicodeError:
        return False
