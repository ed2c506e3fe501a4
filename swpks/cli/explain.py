"""`swpks explain`: the meaning of a name or number, and the section of a page that has more about it.

    swpks explain object.exists               a rule, as errors and the log name it
    swpks explain SWPK0701                    a message number of the management console
    swpks explain H_AUTHORITY                 a status: the h-calls and the rules that it answers
    swpks explain -10                         its number; also as an unsigned one of 64 or 32 bits: 0xFFFFFFF6
    swpks explain H_PKS_READ_OBJECT           an h-call; also READ_OBJECT, and its opcode 0x434 or 1076
    swpks explain WORLDREADABLE               a policy; also its bit 0x08000000, or a word of 8 digits
    swpks explain GOODBYE                     a frame, a status of OPEN (NOT_AUTHORISED), a reason of GOODBYE
    swpks explain secure_boot                 an attribute of a partition
    swpks explain migrlpar                    a line of the management console: its options
    swpks explain C-17                        a choice of spec/choices.md, or a requirement: R-20
    swpks explain spec/protocol.md#framing    a section of a page; spec/ and .md may be left out
    swpks explain protocol                    a whole page
    swpks explain                             the names of all pages

Exit status: 0 shown; 2 nothing has this name, and the nearest names are listed.
"""

# Where the text comes from
#
# The rules and tables are those of the installed version, and the pages are in the same package.  So the
# explanation fits the message, also without a network, and also for an old version.
#
# A name is searched in the tables first, and then among the pages.

from __future__ import annotations

import argparse
import difflib
import shutil
import textwrap
from collections.abc import Sequence
from typing import Any

from hcall_abi.errors import OperatorError
from hcall_abi.rules import service as rules
from swpks.cli import header_names, pages, policy_words, streams, subjects
from swpks.cli.plain import plain
from swpks.cli.subjects import Subject

WIDEST = 110
"""Columns of the text on a wide terminal; longer lines are hard to read."""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add `explain` to the command's subparsers; `run` of this module carries it out."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "explain",
        help="show the rule and the page that an error cites",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "name", nargs="?", type=subjects.asked, metavar="NAME",
        help="name, number or id of a rule, status, h-call, policy, frame or attribute; or PAGE[#HEADING]",
    )  # fmt: skip
    return parser


def run(options: argparse.Namespace) -> int:
    """Print the explanation; OperatorError for an unknown name."""
    width = min(shutil.get_terminal_size().columns, WIDEST)
    streams.say(explained(options.name, width) if options.name else "\n".join(pages.names()))
    return 0


def explained(name: str, width: int) -> str:
    """Return the text about a name or a number, or a page, or the section of a page."""
    if found := subjects.found(name) or subjects.of_32_bits(name) or policy_words.bits_of(name):
        return _about(found, width)
    if other := header_names.meant(name):
        return f"{other}\n\n{explained(other, width)}"
    page, hash_, anchor = name.partition("#")
    whole = _page_of(page)
    if whole is None:
        raise _unknown(name, subjects.nearest(name))
    return _text(f"{whole}{hash_}{anchor}", width)


def _about(found: Sequence[Subject], width: int) -> str:
    """Return the facts of some subjects, then their sections of the pages, each section once.

    If a number is in several tables, the sections are left out; `explain` with a name shows the section.
    """
    # A number such as 3 is in many tables, and all their sections would be several pages.
    alike = len({each.kind for each in found}) == 1
    places = dict.fromkeys(each.page for each in found if each.page and alike)
    facts = (_facts(each, width) for each in found)
    return "\n\n".join([*facts, *(_text(place, width) for place in places)])


def _facts(subject: Subject, width: int) -> str:
    lines = [subject.head, *(f"  {fact}" for fact in subject.facts)]
    lines += [f"  page: {subject.page}"] if subject.page else []
    # The sentence of a rule stays in one line, so that a search finds it.
    if subject.kind == "rule":
        return "\n".join(lines)
    return "\n".join(textwrap.fill(each, width, subsequent_indent="    ") for each in lines)


def _text(place: str, width: int) -> str:
    """Return a whole page, or the section of a heading."""
    page, hash_, anchor = place.partition("#")
    return _section(page, anchor, width) if hash_ else plain(pages.page(page), width)


def _page_of(name: str) -> str | None:
    """Return the whole name of a page, such as spec/protocol.md; None if no page has this name."""
    stem = name.lower().removeprefix(pages.PREFIX).removesuffix(".md").rstrip("/")
    for whole in pages.names():
        known = whole.removeprefix(pages.PREFIX).removesuffix(".md").lower()
        # A folder, such as spec/hcalls, means its index.
        if stem in (known, _last(known), known.removesuffix("/index")):
            return whole
    return None


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _section(page: str, anchor: str, width: int) -> str:
    """Return a section of a page as text; OperatorError for an unknown heading."""
    for section in pages.sections(page):
        if section.anchor == anchor.lower():
            head = f"{section.heading} ({page}#{section.anchor})"
            return f"{head}\n{'-' * min(len(head), width)}\n\n{plain(section.text, width)}"
    name, known = f"{page}#{anchor}", [f"{page}#{each.anchor}" for each in pages.sections(page)]
    raise _unknown(name, difflib.get_close_matches(name, known, subjects.NEAREST))


def _unknown(name: str, nearest: Sequence[str]) -> OperatorError:
    """Return the error for an unknown name, with the nearest known names."""
    if advice := header_names.command_for(name):
        return OperatorError(rules.EXPLAIN_KNOWN, f"{name!r} is no subject of the tables: {advice}")
    if name.startswith("docs/"):
        advice = "the package has the pages of spec/ alone, and those of docs/ are in the source folder"
        return OperatorError(rules.EXPLAIN_KNOWN, f"{name!r} is no page of the package: {advice}")
    advice = f"the nearest are {', '.join(nearest)}" if nearest else "swpks explain lists the pages"
    return OperatorError(
        rules.EXPLAIN_KNOWN,
        f"{name!r} is neither a name or number of the contract's tables nor a page: {advice}",
    )
