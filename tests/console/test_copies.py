"""Which copies of a store the console keeps, and the words for their ages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcall_server.console.copies import CopyFacts, age_text, by_store, superfluous, time_text
from tests.console.facts import A, B, copy_of


def numbered(*copies: CopyFacts) -> list[CopyFacts]:
    """Return the copies in the order of their arrival."""
    return [each._replace(number=number) for number, each in enumerate(copies, 1)]


def test_the_newest_of_each_store_stay() -> None:
    """The newest copies of each store stay, in whatever order they arrived.

    Of two copies, the one with more restores is newer. If these are equal, the higher generation is newer.
    """
    copies = numbered(copy_of(A, 9), copy_of(A, 2, 1), copy_of(A, 5), copy_of(A, 7), copy_of(B, 1))
    assert superfluous(copies, [A, B], "k1", 2) == {3, 4}
    assert [each.rank for each in by_store(copies)[A]] == [(1, 2), (0, 9), (0, 7), (0, 5)]


def test_an_older_copy_takes_no_place_of_a_newer_one() -> None:
    """A late copy that is older than the others is dropped."""
    assert superfluous(numbered(copy_of(A, 5), copy_of(A, 6), copy_of(A, 2)), [A], "k1", 2) == {3}


def test_of_equal_contents_the_last_copy_stays() -> None:
    """A later copy with another profile and the same generation replaces the earlier copy."""
    assert superfluous(numbered(copy_of(A, 5), copy_of(A, 5)), [A], "k1", 3) == {1}


def test_copies_under_an_old_key_stay_until_each_store_has_a_new_one() -> None:
    """Copies under an old key stay until each store has one under the new key, so the old key can return."""
    old = [copy_of(A, 1), copy_of(B, 1)]
    half = numbered(*old, copy_of(A, 2, key="k2"))
    assert superfluous(half, [A, B], "k2", 3) == set()
    whole = numbered(*old, copy_of(A, 2, key="k2"), copy_of(B, 1, key="k2"))
    assert superfluous(whole, [A, B], "k2", 3) == {1, 2}


def test_a_store_that_is_gone_keeps_its_copies_under_the_old_key() -> None:
    """A deleted store keeps its copies under the old key, because no other copies of it exist."""
    copies = numbered(copy_of(A, 1), copy_of(B, 1), copy_of(A, 2, key="k2"))
    assert superfluous(copies, [A], "k2", 3) == {1}


COPIES = st.builds(
    copy_of,
    st.sampled_from([A, B]),
    st.integers(0, 5),
    st.integers(0, 2),
    key=st.sampled_from(["k1", "k2"]),
)


@given(st.lists(COPIES, max_size=12), st.integers(1, 3))
def test_the_newest_copy_of_a_store_never_goes(made: list[CopyFacts], keep: int) -> None:
    """Each store keeps its newest copy under the present key, whatever copies arrive in whatever order."""
    copies = numbered(*made)
    gone = superfluous(copies, [A, B], "k1", keep)
    for found in by_store(copies).values():
        present = [each for each in found if each.trusted_key_id == "k1"] or found
        newest = max(each.rank for each in present)
        assert any(each.rank == newest and each.number not in gone for each in present)
    assert superfluous([each for each in copies if each.number not in gone], [A, B], "k1", keep) == set()


@pytest.mark.parametrize(
    "seconds,text",
    [(-5, "0 seconds"), (119, "119 seconds"), (120, "2 minutes"), (7200, "2 hours"), (864000, "10 days")],
)
def test_ages_are_told_in_whole_units(seconds: float, text: str) -> None:
    assert age_text(seconds) == text


def test_times_are_told_in_utc() -> None:
    assert time_text(0) == "1970-01-01 00:00:00 UTC"
    assert time_text(1 << 60) == f"{1 << 60} s since 1970"
