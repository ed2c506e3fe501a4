"""Each mutant, which is a wrong server, fails the case that docs/conformance.md names for it (R-80)."""

from __future__ import annotations

from collections import Counter

import pytest

from swpks.conformance.case import Judgement
from swpks.conformance.server.chapters import all_cases
from tests.conformance.judging import findings, first_failure, server
from tests.conformance.mutants import all_mutants
from tests.conformance.page import facts, shown
from tests.conformance.proxy import Mutant

MUTANTS = all_mutants()
CAUGHT = {(chapter, name): case.strip("`") for chapter, name, case in shown("mutants")}


@pytest.mark.usefixtures("not_measured")
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.chapter}-{mutant.name}")
def test_a_wrong_server_is_found(mutant: Mutant) -> None:
    """R-80: each mutant fails a case of its chapter; the page names the same case."""
    failure = first_failure(mutant)
    assert failure is not None
    assert CAUGHT[mutant.chapter, mutant.name] == failure.id


def test_a_proxy_that_changes_nothing_is_found_by_no_case() -> None:
    """R-80: a right server behind the proxy passes every case, so the proxy itself is no fault."""
    # This test is measured for coverage, because no other run in this process plays all chapters against a
    # right server.
    with server() as partition:
        found = list(findings(partition, mutant=Mutant("nothing", "all")))
    assert [each for each in found if each.judgement is Judgement.FAILED] == []


def test_there_are_enough_mutants_of_every_chapter() -> None:
    """There are at least 80 mutants, and each chapter of the newest level has some.

    The page lists the same ones.
    """
    counted = Counter(mutant.chapter for mutant in MUTANTS)
    assert counted.total() >= 80
    assert {case.chapter for case in all_cases(facts("NEXT"))} == set(counted)
    assert set(CAUGHT) == {(mutant.chapter, mutant.name) for mutant in MUTANTS}
