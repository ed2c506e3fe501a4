"""Counts with a noun in the singular or the plural."""

from __future__ import annotations

from hcall_abi.counts import counted


def test_one_thing_has_no_plural() -> None:
    """The count 1 has a noun in the singular; 0 has the plural, as in English."""
    assert [counted(number, "object") for number in (0, 1, 2)] == ["0 objects", "1 object", "2 objects"]
