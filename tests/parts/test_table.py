"""The decision table of the root key, compared with an oracle that was written from its public description.

The oracle is data. Each line has the content of the card, the result of each wrapped copy, whether the other
records open, and the decision. It has no ids of rows.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import pytest

from hcall_server.components.memory import MemoryTpm
from hcall_server.platform.identity import SystemIdentity
from hcall_server.platform.root_key import (
    ROOT_KEY_TABLE,
    CardFinding,
    CopyFinding,
    RecordsFinding,
    StartOutcome,
    decide,
    summary,
)
from hcall_server.service.key_copies import WrappedCopy

NEW, K, MARKED, DAMAGED = CardFinding
NONE, SAME, BEFORE, UNREADABLE, SILENT, OTHER = CopyFinding
CLEAR, OPEN, SHUT = RecordsFinding
MAKE, GO, RECOVERY, PENDING, STOP = StartOutcome
LOST = (NONE, UNREADABLE, SILENT)
ANY_CARD, ANY_COPY, ANY_RECORDS = tuple(CardFinding), tuple(CopyFinding), tuple(RecordsFinding)

# Columns: card, wrapped copy, other records, decision. The first row that fits decides.
ORACLE = [
    # Card and copy hold different keys. The start never chooses one of them, even if Clear All has marked the
    # card.
    (ANY_CARD, (OTHER,), ANY_RECORDS, STOP),
    # Clear All has marked the card. From here on, the mark decides alone.
    ((MARKED,), ANY_COPY, ANY_RECORDS, PENDING),
    # No part holds a key or a record. Only in this case the start makes a root key.
    ((NEW,), (NONE,), (CLEAR,), MAKE),
    # The key does not open the records.
    (ANY_CARD, ANY_COPY, (SHUT,), STOP),
    # The card holds the key that opens the records.
    ((K,), (SAME, *LOST), (OPEN,), GO),
    ((K,), (SAME, *LOST), (CLEAR,), RECOVERY),
    # The card is new or damaged, and a TPM still unwraps the key.
    ((NEW, DAMAGED), (SAME,), (OPEN,), GO),
    ((NEW, DAMAGED), (SAME,), (CLEAR,), RECOVERY),
    # No copy is readable, but the card or the copy shows that a key has existed.
    ((NEW,), (UNREADABLE, SILENT), (CLEAR,), STOP),
    ((DAMAGED,), LOST, (CLEAR,), STOP),
]


def can_occur(card: CardFinding, copy: CopyFinding, records: RecordsFinding) -> bool:
    """Return whether a start can find this card, this copy and these records together.

    Only a card with the mark of Clear All shows that a copy is from before Clear All. Without a root key,
    no record opens.
    """
    if copy is BEFORE and card is not MARKED:
        return False
    keyless = card in (NEW, DAMAGED) and copy in LOST
    return not (keyless and records is OPEN)


ALL = list(product(ANY_CARD, ANY_COPY, ANY_RECORDS))
OCCURRING = [each for each in ALL if can_occur(*each)]


def oracle(card: CardFinding, copy: CopyFinding, records: RecordsFinding) -> StartOutcome:
    return next(
        outcome
        for cards, copies, found, outcome in ORACLE
        if card in cards and copy in copies and records in found
    )


def rows_of(card: CardFinding, copy: CopyFinding, records: RecordsFinding) -> list[str]:
    return [
        row.id for row in ROOT_KEY_TABLE if card in row.card and copy in row.copies and records in row.records
    ]


def test_each_combination_has_exactly_one_row() -> None:
    """R-41: each combination has exactly one row, so the order of rows does not matter."""
    assert (len(ALL), len(OCCURRING)) == (72, 57)
    assert {each: len(rows_of(*each)) for each in OCCURRING} == dict.fromkeys(OCCURRING, 1)


def test_each_decision_is_that_of_the_oracle() -> None:
    """R-40, R-41: for each possible combination, the table decides as the oracle does."""
    for each in OCCURRING:
        assert decide(each[0], [each[1]], each[2]).outcome is oracle(*each), each


def test_each_line_of_the_oracle_is_needed() -> None:
    """R-41: each line of the oracle is the first one that fits some combination."""
    for line in ORACLE:
        first = [each for each in OCCURRING if next(o for o in ORACLE if fits(o, each)) is line]
        assert first, line


def fits(line: tuple, each: tuple) -> bool:
    return all(found in of for found, of in zip(each, line, strict=False))


def test_each_row_is_reached() -> None:
    """R-41: each row is the decision for some combination, and has a unique id."""
    ids = [row.id for row in ROOT_KEY_TABLE]
    assert {name for each in OCCURRING for name in rows_of(*each)} == set(ids)
    assert len(ids) == len(set(ids))


def test_a_key_is_made_in_one_case_only() -> None:
    """R-40, R-41: a start makes a root key only if the system has no card, no copy and no record.

    Otherwise the system would lose what is sealed under the old key.
    """
    assert [each for each in OCCURRING if decide(each[0], [each[1]], each[2]).outcome is MAKE] == [
        (NEW, NONE, CLEAR)
    ]


def test_a_stop_names_a_way_out() -> None:
    """R-41: each row that refuses a start says which part to put back, or names Clear All."""
    for row in ROOT_KEY_TABLE:
        assert (row.outcome is STOP) == ("back" in row.consequence), row.id


def test_each_row_of_one_outcome() -> None:
    """R-41, R-48: if open records lead to Operating, then missing records lead to Recovery."""
    for card, copy in product((K, NEW, DAMAGED), (SAME, *LOST)):
        found = {records: decide(card, [copy], records).outcome for records in (OPEN, CLEAR)
                 if can_occur(card, copy, records)}  # fmt: skip
        if found.get(OPEN) is GO:
            assert found[CLEAR] is RECOVERY


# Findings about two TPMs: a reason, the finding that decides, and the findings that give way to it
PAIRS = [
    ("one copy of another key stops, whatever the other says", OTHER, ANY_COPY),
    ("one readable copy heals the other", SAME, (SAME, BEFORE, UNREADABLE, SILENT, NONE)),
    ("a copy of before Clear All is readable as well", BEFORE, (BEFORE, UNREADABLE, SILENT, NONE)),
    ("a TPM that answered has said more than a silent one", UNREADABLE, (UNREADABLE, SILENT, NONE)),
    ("a copy that may be readable later is no lost one", SILENT, (SILENT, NONE)),
    ("two lost copies are as one", NONE, (NONE,)),
]


def test_a_summary_of_two_copies() -> None:
    """R-41: the two findings of a system with two TPMs are summarised, for all 36 pairs in both orders."""
    summaries: dict[tuple[CopyFinding, CopyFinding], CopyFinding] = {}
    for _, strong, others in PAIRS:
        for other in others:
            summaries[strong, other] = summaries[other, strong] = strong
    assert summaries.keys() == set(product(CopyFinding, repeat=2))
    assert {pair: summary(pair) for pair in summaries} == summaries


def test_a_summary_of_one_copy_and_of_none() -> None:
    """R-41: the summary of one finding is that finding; without any copy it is NONE."""
    assert [summary([each]) for each in CopyFinding] == list(CopyFinding)
    assert summary([]) is NONE


class Case(NamedTuple):
    """A wrapped copy with this system id and root key. The card of the system has the id 1 and the key 1."""

    system: int
    key: int
    pending: bool
    finding: CopyFinding


@pytest.mark.parametrize(
    "case",
    [
        Case(1, 1, False, SAME),
        Case(1, 1, True, SAME),
        Case(1, 2, False, OTHER),
        Case(1, 2, True, BEFORE),
        Case(2, 1, False, OTHER),
        Case(2, 1, True, OTHER),
        Case(2, 2, False, OTHER),
        Case(2, 2, True, OTHER),
    ],
    ids=str,
)
def test_another_key_is_of_before_clear_all_beside_the_mark_only(case: Case) -> None:
    """R-41, R-60: a copy with another key is from before Clear All only if the card has the mark.

    Its system id must be that of the card.
    """
    card = SystemIdentity(bytes([1]) * 16, bytes([1]) * 32)
    held = SystemIdentity(bytes([case.system]) * 16, bytes([case.key]) * 32)
    copy = WrappedCopy("root-key/1", MemoryTpm(), True, held, None)
    assert copy.finding(card, pending=case.pending) is case.finding
