"""The bits of a policy word for `swpks explain`: those that are set, each with its row and its sentence.

    0x60000000    OSSECBOOTAUDIT and OSSECBOOTENFORCE
    0x08000001    WORLDREADABLE, and bit 31 without a name

A user copies a policy word from a trace, where it has 8 digits.  So a shorter number is no policy word: else
an unknown opcode such as 0x436 would be shown as REVOKED.
"""

from __future__ import annotations

import re
from functools import cache

from hcall_abi.policies import KNOWN_BITS, Policy
from swpks.cli import pages
from swpks.cli.plain import inline
from swpks.cli.subjects import Subject, number_of

_PAGE = "spec/policies.md"
_WIDTH = 32
_WORD = re.compile(r"0[xX][0-9A-Fa-f]{8,}")
"""A register of 64 bits has more leading zeros."""
_BULLET = re.compile(r"^- (.+?(?:\n  .+)*)$", re.MULTILINE)
_NAME = re.compile(r"\*\*([A-Z]+)\*\*")


def bits_of(text: str) -> list[Subject]:
    """Return the bits that are set in a policy word.

    The list is empty for text that is no policy word.
    """
    number = number_of(text) if _WORD.fullmatch(text.replace("_", "")) else None
    if number is None or not 0 < number < 1 << _WIDTH:
        return []
    named = [_named(bit) for bit in Policy if bit & number]
    rest = number & ~KNOWN_BITS
    return [*named, _unnamed(rest)] if rest else named


def _named(bit: Policy) -> Subject:
    """Return a named bit as a subject.

    It has the bit's table row and sentence, and not the whole section.
    """
    supported, calls = _rows()[bit.name or ""]
    facts = (
        inline(_sentences()[bit.name or ""]),
        f"supported by: {supported}",
        f"may be asked for in: {calls if calls != '-' else 'no call'}",
        f"page: {_PAGE}#bits",
    )
    return Subject("policy", bit.name or "", facts, "", (f"0x{bit.value:08X}", f"bit {_place(bit)}"))


def _unnamed(rest: int) -> Subject:
    """Return the bits without a name as one subject."""
    places = [_place(1 << shift) for shift in reversed(range(_WIDTH)) if rest >> shift & 1]
    numbers = f"bit{'s' * (len(places) > 1)} {', '.join(map(str, places))}"
    facts = (
        "no public text names them; WRITE_OBJECT, GEN_KEY and SIGNED_UPDATE answer H_P4",
        f"page: {_PAGE}#words-that-are-refused",
    )
    return Subject("undefined bits of a", "policy word", facts, "", (f"0x{rest:08X}", numbers))


def _place(bit: int) -> int:
    """Return the number of a bit, counted from the most significant bit."""
    return _WIDTH - int(bit).bit_length()


def _section() -> str:
    return next(each.text for each in pages.sections(_PAGE) if each.anchor == "bits")


@cache
def _rows() -> dict[str, tuple[str, str]]:
    """Return the last two cells of each row of the table, by the name of the bit."""
    rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in _section().splitlines())
    return {cells[2]: (cells[3], cells[4]) for cells in rows if len(cells) == 5}


@cache
def _sentences() -> dict[str, str]:
    """Return the sentences about each bit, by the bit's name; two bits may have the same sentences."""
    found = {}
    for bullet in _BULLET.findall(_section()):
        head, _, text = " ".join(bullet.split()).partition(": ")
        shared = len(_NAME.findall(head)) > 1
        # A sentence about two bits has a part for each, in the order of their names. So both names stay in
        # front of the sentence.
        found.update(dict.fromkeys(_NAME.findall(head), f"{head}: {text}" if shared else text))
    return found
