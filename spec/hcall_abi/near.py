"""Names that are near to an unknown one, for the question in its refusal."""

from __future__ import annotations

from collections.abc import Iterable


def near_names(word: str, known: Iterable[str], most: int) -> list[str]:
    """Return the known names that are near to a word, the nearest first, at most `most`."""
    import difflib  # here, because only a refusal needs it, and no start does

    return difflib.get_close_matches(word, list(known), most)


def did_you_mean(names: Iterable[str]) -> str:
    """Return the question whether one of these names was meant, "" for none."""
    meant = " or ".join(names)
    return f"did you mean {meant}?" if meant else ""
