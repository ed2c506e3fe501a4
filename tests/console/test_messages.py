"""Message numbers: one for each rule that a line can meet, none twice, none in IBM's form."""

from __future__ import annotations

import re
from collections import Counter

from hcall_abi.errors import OperatorError
from hcall_abi.messages import NO_NUMBER, OWN, PUBLIC, message, message_number
from hcall_abi.remedies import REMEDIES
from hcall_abi.rules import backup, console, hmc
from hcall_abi.rules.catalogue import RULES, rows_of

NEVER_BY_A_LINE = ("fault.", "trouble.")
"""Fault plans are set by our own commands, never by a line."""
MET = [
    row
    for chapter in (console, backup, hmc)
    for row in rows_of(chapter)
    if not row.id.startswith(NEVER_BY_A_LINE)
]


def test_every_rule_that_a_line_can_meet_has_a_number() -> None:
    """Each rule of these chapters has a number; a new rule needs a row in `hcall_abi.messages`."""
    assert [row.id for row in MET if message_number(row) == NO_NUMBER] == []


def test_no_number_stands_for_two_rules() -> None:
    """Each number belongs to one rule, so a user can search for it.

    Only HSCL0DC8 has two rules, as on the real console.
    """
    numbers = Counter(number for row in RULES.values() if (number := message_number(row)) != NO_NUMBER)
    assert {number for number, times in numbers.items() if times > 1} == {"HSCL0DC8"}


def test_numbers_belong_to_rules_that_exist() -> None:
    """Each number belongs to an existing rule, and none of our numbers begins like IBM's."""
    assert {*OWN, *PUBLIC} <= RULES.keys()
    assert all(re.fullmatch("SWPK[0-9]{4}", number) for number in OWN.values())
    assert not OWN.keys() & PUBLIC.keys()
    assert not [rule for rule in (*OWN, *PUBLIC) if RULES[rule].code]


def test_a_refusal_begins_with_its_number() -> None:
    """A refusal begins with its number: the public number of the real console, if one exists."""
    assert message(OperatorError(console.SIZE_IN_USE, "x")) == "HSCL0DC8 x"
    assert message(OperatorError(console.NAME_EXISTS, "x")) == "HSCL8012 x"
    assert message(OperatorError(hmc.LINE_COMMAND, "x")) == f"SWPK0101 x; {REMEDIES['line.command']}"
    assert message(OperatorError(hmc.LINE_COMMAND, "x", advised=True)) == "SWPK0101 x"
    assert message(OperatorError(hmc.LINE_RMC, "x")) == "HSCL0DB4 x"


def test_nvram_that_is_gone() -> None:
    """A writable disk does not bring a removed file back: the remedy has the way without it."""
    for rule in ("nvram.commit", "power.counted", "console.stored"):
        assert "stop the server, put the file back" in REMEDIES[rule]
        assert "`swpks hmc replace service-processor --state DIR`" in REMEDIES[rule]


def test_every_number_of_ours_has_a_remedy() -> None:
    """Each number of ours has a remedy, which a line prints after the message. No other rule has a remedy."""
    assert REMEDIES.keys() == OWN.keys()
    for rule, remedy in REMEDIES.items():
        output = message(OperatorError(RULES[rule], "the finding"))
        assert output == f"{OWN[rule]} the finding; {remedy}"
        assert len(remedy.split()) > 1
        assert "\n" not in remedy
        assert not remedy.endswith((".", " ", ";"))
        assert remedy != RULES[rule].sentence
        assert remedy.count("`") % 2 == 0
