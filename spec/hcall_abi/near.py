"""Names that are similar to an unknown name, for the question "did you mean X?" in an error."""

from __future__ import annotations

from collections.abc import Iterable

LONGEST = 256
"""Characters of a word that is compared: the search takes time by the product of the lengths."""
SHORTEST = 3
"""Characters of a word that may be the beginning of a name."""
NEAREST = 3
"""Most near names in a refusal."""


def near_names(word: str, known: Iterable[str], most: int) -> list[str]:
    """Return known names that are similar to a word, the nearest first.

    There are at most `most`, and case is ignored.
    """
    import difflib  # here, because only a refusal needs it, and no start does

    if len(word) > LONGEST:
        return []
    # Names are compared in small letters. Otherwise `read_object` and READ_OBJECT would have no letter in
    # common.
    spelled: dict[str, list[str]] = {}
    for each in known:
        spelled.setdefault(each.lower(), []).append(each)
    # A name that differs only by its case is the one that was meant.
    if word.lower() in spelled:
        return spelled[word.lower()][:most]
    # A beginning, such as WRITE for WRITE_OBJECT, may be too short to be similar.
    begun = [name for name in spelled if len(word) >= SHORTEST and name.startswith(word.lower())]
    close = list(dict.fromkeys([*difflib.get_close_matches(word.lower(), spelled, most), *begun]))
    return [name for each in close for name in spelled[each]][:most]


def did_you_mean(names: Iterable[str]) -> str:
    """Return "did you mean X or Y?" with these names, "" for no names."""
    meant = " or ".join(names)
    return f"did you mean {meant}?" if meant else ""


def near_question(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean X?" with the names that are near to a word, "" for none."""
    question = did_you_mean(near_names(word, known, NEAREST))
    return question and f"; {question}"
