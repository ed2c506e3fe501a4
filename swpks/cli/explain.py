"""`swpks explain`: the rule and the section of a page that an error cites.

    swpks explain object.exists               a rule, as errors and the log name it
    swpks explain SWPK0701                    a message number of the management console
    swpks explain H_AUTHORITY                 a status: the h-calls and the rules that it answers
    swpks explain spec/protocol.md#framing    a section of a page; spec/ and .md may be left out
    swpks explain rules                       a whole page
    swpks explain                             the names of all pages

Exit status: 0 shown; 2 there is nothing of this name: then the nearest names are listed.
"""

from __future__ import annotations

import argparse
import difflib
import shutil
import textwrap
from collections.abc import Iterator
from typing import Any

from hcall_abi.calls import CALLS
from hcall_abi.errors import OperatorError
from hcall_abi.frames import OpenStatus
from hcall_abi.messages import NO_NUMBER, message_number
from hcall_abi.rules import service as rules
from hcall_abi.rules.catalogue import RULES
from hcall_abi.rules.rule import Positional, Rule
from hcall_abi.statuses import Status
from swpks.cli import pages, streams
from swpks.cli.plain import inline, plain

NEAREST = 5
"""How many names an unknown one is answered with."""
_CLOSE = 0.4
WIDEST = 110
"""Columns of the text on a wide terminal: longer lines are hard to read."""


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add `explain` to the command's subparsers; the result has `run` as its default `run`."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "explain",
        help="show the rule and the page that an error cites",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="a rule, a message number, a status, or PAGE[#HEADING]"
    )
    return parser


def run(options: argparse.Namespace) -> int:
    """Print the explanation; OperatorError for an unknown name."""
    width = min(shutil.get_terminal_size().columns, WIDEST)
    streams.say(explained(options.name, width) if options.name else "\n".join(pages.names()))
    return 0


def explained(name: str, width: int) -> str:
    """Return the text about a status, a rule, a number, or a page with or without a heading."""
    if name.upper() in Status.__members__:
        return _about_status(Status[name.upper()], width)
    found = rules_of(name)
    if found:
        return "\n\n".join(_about(rule, width) for rule in found)
    page, hash_, anchor = name.partition("#")
    whole = _page_of(page)
    if whole is None:
        raise _unknown(name, _every_name())
    if not hash_:
        return plain(pages.page(whole), width)
    return _section(whole, anchor, width)


def rules_of(name: str) -> list[Rule]:
    """Return the rule of an id, or the rules of a message number."""
    if name in RULES:
        return [RULES[name]]
    number = name.upper()
    return [rule for rule in RULES.values() if number != NO_NUMBER and message_number(rule) == number]


def _about(rule: Rule, width: int) -> str:
    """Return a rule with its answer and its section."""
    page, _, anchor = rule.page.partition("#")
    number = message_number(rule)
    told = [f"rule {rule.id}", f"  {inline(rule.sentence)}", f"  broken: {_answer(rule)}"]
    told += [f"  message number: {number}"] if number != NO_NUMBER else []
    return "\n".join([*told, f"  page: {rule.page}", "", _section(page, anchor, width)])


def _about_status(status: Status, width: int) -> str:
    """Return a status with the h-calls that may answer it, and the rules whose refusal it is."""
    calls = ", ".join(spec.opcode.name for spec in CALLS.values() if status in spec.statuses)
    answered = [rule for rule in RULES.values() if rule.answer is status]
    lines = [f"status {status.name} ({status.value})", f"  h-calls: {calls or 'none'}"]
    lines += [f"  {rule.id}: {inline(rule.sentence)}" for rule in answered]
    return "\n".join(textwrap.fill(each, width, subsequent_indent="    ") for each in lines)


def _answer(rule: Rule) -> str:
    match rule.answer:
        case Status():
            return f"{rule.fault.value} fault; the h-call is answered with {rule.answer.name}"
        case Positional():
            return (
                f"{rule.fault.value} fault; the h-call is answered with the status of the argument's register"
            )
        case OpenStatus():
            return f"{rule.fault.value} fault; OPEN is answered with status {rule.answer.value}"
    return f"{rule.fault.value} fault"


def _page_of(name: str) -> str | None:
    """Return the whole name of a page; None if there is none of this name."""
    stem = name.lower().removeprefix(pages.PREFIX).removesuffix(".md")
    for whole in pages.names():
        if stem in (known := whole.removeprefix(pages.PREFIX).removesuffix(".md").lower(), _last(known)):
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
    raise _unknown(f"{page}#{anchor}", [f"{page}#{each.anchor}" for each in pages.sections(page)])


def _every_name() -> Iterator[str]:
    yield from RULES
    yield from Status.__members__
    yield from {message_number(rule): None for rule in RULES.values()}
    for page in pages.names():
        yield page
        yield page.removeprefix(pages.PREFIX).removesuffix(".md")


def _unknown(name: str, known: Any) -> OperatorError:
    """Return the error for an unknown name, with the nearest ones."""
    nearest = difflib.get_close_matches(name, list(known), NEAREST, _CLOSE)
    told = f"the nearest are {', '.join(nearest)}" if nearest else "swpks explain lists the pages"
    return OperatorError(
        rules.EXPLAIN_KNOWN, f"{name!r} is neither a rule, a message number, a status, nor a page: {told}"
    )
