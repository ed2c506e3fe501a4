"""Counts with nouns in singular and plural."""

from __future__ import annotations

from hcall_abi.counts import counted


def test_one_thing_has_no_plural() -> None:
    """1 takes the singular; 0 takes the plural, as in English."""
    assert [counted(number, "object") for number in (0, 1, 2)] == ["0 objects", "1 object", "2 objects"]
