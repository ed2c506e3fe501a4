"""If a word is no known name, the refusal proposes a similar name."""

from __future__ import annotations

from hcall_abi.near import LONGEST, near_names, near_question


def test_the_case_of_a_word_does_not_count() -> None:
    """A name that differs only in case is similar; it is proposed in its own spelling."""
    assert near_names("read_objekt", ["READ_OBJECT", "x"], 3) == ["READ_OBJECT"]
    assert near_names("READ_object", ["READ_OBJECT", "READ_OBJECTS"], 3) == ["READ_OBJECT"]
    assert near_names("Lpar", ["lpar", "LPAR", "lpar1"], 3) == ["lpar", "LPAR"]


def test_a_question_or_nothing() -> None:
    """If no name is similar, or the word is very long, the refusal asks nothing."""
    assert near_question("pwst", ["pwset", "transient"]) == "; did you mean pwset?"
    assert near_question("zzzz", ["pwset", "transient"]) == ""
    assert near_question("a" * (LONGEST + 1), ["a" * LONGEST]) == ""


def test_the_beginning_of_a_name() -> None:
    """A word of three characters or more may be the beginning of a name; the similar names come first."""
    assert near_names("WRITE", ["WRITE_OBJECT", "READ_OBJECT"], 3) == ["WRITE_OBJECT"]
    assert near_names("read", ["READ_OBJECT", "READY"], 3) == ["READY", "READ_OBJECT"]
    assert near_names("RE", ["READ_OBJECT"], 3) == []
