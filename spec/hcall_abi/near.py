"""Names that are near to an unknown one, for the question in its refusal."""

from __future__ import annotations

from collections.abc import Iterable

LONGEST = 256
"""Characters of a word that is compared: the search takes time by the product of the lengths."""
NEAREST = 3
"""Most near names in a refusal."""


def near_names(word: str, known: Iterable[str], most: int) -> list[str]:
    """Return the known names that are near to a word in any case, the nearest first, at most `most`."""
    import difflib  # here, because only a refusal needs it, and no start does

    if len(word) > LONGEST:
        return []
    # In small letters: `read_object` is a likely spelling of READ_OBJECT, and has no letter of it.
    spelled: dict[str, list[str]] = {}
    for each in known:
        spelled.setdefault(each.lower(), []).append(each)
    # The same word in another case is the one that was meant.
    if word.lower() in spelled:
        return spelled[word.lower()][:most]
    close = difflib.get_close_matches(word.lower(), spelled, most)
    return [name for each in close for name in spelled[each]][:most]


def did_you_mean(names: Iterable[str]) -> str:
    """Return the question whether one of these names was meant, "" for none."""
    meant = " or ".join(names)
    return f"did you mean {meant}?" if meant else ""


def near_question(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean X?" with the names that are near to a word, "" for none."""
    question = did_you_mean(near_names(word, known, NEAREST))
    return question and f"; {question}"
