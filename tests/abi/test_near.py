"""Near names: the question in the refusal of a word that is one of several."""

from __future__ import annotations

from hcall_abi.near import LONGEST, near_names, near_question


def test_the_case_of_a_word_does_not_count() -> None:
    """A name in another case is the one that was meant; each has its own spelling."""
    assert near_names("read_objekt", ["READ_OBJECT", "x"], 3) == ["READ_OBJECT"]
    assert near_names("READ_object", ["READ_OBJECT", "READ_OBJECTS"], 3) == ["READ_OBJECT"]
    assert near_names("Lpar", ["lpar", "LPAR", "lpar1"], 3) == ["lpar", "LPAR"]


def test_a_question_or_nothing() -> None:
    """A word that is near no other, and a very long one, have no question."""
    assert near_question("pwst", ["pwset", "transient"]) == "; did you mean pwset?"
    assert near_question("zzzz", ["pwset", "transient"]) == ""
    assert near_question("a" * (LONGEST + 1), ["a" * LONGEST]) == ""
