"""The subjects of `swpks explain`: every row of the contract's tables that has a name or a number of its own.

A user finds a subject by each of its names, in small or capital letters, and by its numbers.  All of them
come from the tables of `hcall_abi`: a new row there is a subject here.
"""

# How a name is found
#
# A user copies a name from an error, a log, a header file or a debugger.  So a subject has several keys:
# H_PKS_READ_OBJECT and READ_OBJECT, 0x434 and 1076, `bit 4` and its mask.  The index maps each key in small
# letters to its subjects.  A number may belong to subjects of several tables; then all of them are shown,
# without their sections.
#
# A number is compared as a number, in any notation of Python.  r3 holds a status as 64
# unsigned bits, so numbers of the upper half are negative ones.  A policy word is no row of a table:
# `policy_words` has its bits.

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from hcall_abi.calls import CALLS, HCallSpec
from hcall_abi.console import ATTRIBUTES, AttributeRow
from hcall_abi.frames import FrameType, GoodbyeReason, OpenStatus
from hcall_abi.levels import LEVELS
from hcall_abi.messages import NO_NUMBER, message_number
from hcall_abi.policies import Policy
from hcall_abi.remedies import REMEDIES
from hcall_abi.rules.catalogue import RULES
from hcall_abi.rules.rule import Positional, Rule
from hcall_abi.statuses import Status, blamed_register
from swpks.cli import pages
from swpks.cli.plain import inline
from swpks.hmc.names import LINES

NEAREST = 5
"""Most near names in the error for an unknown one."""
_CLOSE = 0.4
_SPELLINGS = 4
"""The spellings that one subject has, at most."""
_WORD = 1 << 64
_HALF_WORD = 1 << 32
_BIT = "bit "
_LINES_PAGE = "spec/console.md"
_CITED = (
    ("choice", "spec/choices.md", r"C-(?:\d+|[A-Z])"),
    ("requirement", "spec/requirements.md", r"R-\d+"),
)
"""Tables of ids: the kind, the page, and the form of an id."""
_CELLS = re.compile(r"(?<!\\)\|")
"""A border of a row; one behind a backslash is a character of the cell."""


class Subject(NamedTuple):
    """A row of a table: its kind, its name, some facts, its section in `spec/`, further names and numbers.

    `page` is "" for a subject without a section of its own.  `numbers` are texts as in logs and headers, such
    as ``-10``, ``0x434`` or ``bit 4``.  `also` are further names.
    """

    kind: str
    name: str
    facts: tuple[str, ...]
    page: str
    numbers: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    @property
    def head(self) -> str:
        """The first line of the subject's explanation."""
        numbers = f" ({', '.join(self.numbers)})" if self.numbers else ""
        return f"{self.kind} {self.name}{numbers}"


@cache
def subjects() -> tuple[Subject, ...]:
    """Return all subjects, kind by kind, in the order of their tables."""
    return (
        *map(_status, Status),
        *map(_call, CALLS.values()),
        *map(_policy, Policy),
        *map(_frame, FrameType),
        *map(_open_status, OpenStatus),
        *map(_reason, GoodbyeReason),
        *(_attribute(name, row) for name, row in ATTRIBUTES.items()),
        *map(_rule, RULES.values()),
        *_lines(),
        *_cited(),
    )


def found(name: str) -> list[Subject]:
    """Return the subjects that have this name or this number."""
    number = number_of(name)
    return list(_index().get(name.lower() if number is None else number, ()))


def of_32_bits(name: str) -> list[Subject]:
    """Return the status that a number of 32 bits means, as a C program prints an int; [] for all others.

    No policy word has such a number: it would have undefined bits.
    """
    number = number_of(name)
    if number is None or not _HALF_WORD // 2 <= number < _HALF_WORD:
        return []
    return [each for each in _index().get(number - _HALF_WORD, ()) if each.kind == "status"]


def number_of(text: str) -> int | None:
    """Return the number that a text means in any notation of Python; None for a name."""
    try:
        number = int(text, 0)
    except ValueError:
        return None
    # r3 holds a status; debuggers and traces show that register without its sign.
    return number - _WORD if _WORD // 2 <= number < _WORD else number


@cache
def _index() -> dict[str | int | None, list[Subject]]:
    """Return the subjects by their names, in small letters, and by their numbers."""
    index: dict[str | int | None, list[Subject]] = {}
    for each in subjects():
        numbers = (number_of(text.removeprefix(_BIT)) for text in each.numbers)
        keys = {*(text.lower() for text in (each.name, *each.also, *each.numbers)), *numbers} - {None}
        for key in keys:
            index.setdefault(key, []).append(each)
    return index


def nearest(name: str) -> list[str]:
    """Return the known names that are nearest to an unknown name.

    Each subject and each page has at most one name in the list.
    """
    number = number_of(name)
    if number is not None:
        return _nearest_numbers(number)
    known = {spelling.lower(): (shown, what) for spelling, shown, what in _spellings()}
    close = difflib.get_close_matches(name.lower(), known, _SPELLINGS * NEAREST, _CLOSE)
    # A subject has up to `_SPELLINGS` names, and could fill the whole list. So each subject is listed once.
    by_subject: dict[str, str] = {}
    for each in close:
        shown, what = known[each]
        by_subject.setdefault(what, shown)
    return list(dict.fromkeys(by_subject.values()))[:NEAREST]


def _nearest_numbers(number: int) -> list[str]:
    """Return the nearest numbers with their names."""
    known = [(text, each) for each in subjects() for text in each.numbers if number_of(text) is not None]
    # The numbers are compared without their signs, because a missing minus is the likeliest mistake.
    known.sort(key=lambda row: abs(abs(number) - abs(int(row[0], 0))))
    shown = {each: f"{text} ({each.name})" for text, each in reversed(known[: _SPELLINGS * NEAREST])}
    return list(reversed(shown.values()))[:NEAREST]


def _spellings() -> Iterator[tuple[str, str, str]]:
    """Yield each name that a user can type.

    With it come the text that shows the name, and the subject or page.
    """
    whole = set(pages.names())
    for each in subjects():
        what = each.page if each.page in whole else each.head
        yield from ((name, name, what) for name in (each.name, *each.also))
        yield from ((number, f"{number} ({each.name})", what) for number in each.numbers)
    for page in pages.names():
        yield from ((name, page, page) for name in (page, _short(page)))


def asked(text: str) -> str:
    """Return the operand of `swpks explain` unchanged; completion recognises the operand by this function."""
    return text


def offered() -> tuple[str, ...]:
    """Return the names that completion offers, each once.

    Numbers are left out.  Pages come without spec/ and .md.
    """
    return tuple(dict.fromkeys([*(each.name for each in subjects()), *map(_short, pages.names())]))


def _short(page: str) -> str:
    return page.removeprefix(pages.PREFIX).removesuffix(".md")


def _status(status: Status) -> Subject:
    """Return a status with the h-calls that may return it, and the rules that it reports."""
    calls = ", ".join(spec.opcode.name for spec in CALLS.values() if status in spec.statuses)
    facts = [f"h-calls: {calls or 'none'}"]
    if register := blamed_register(status):
        facts.append(f"as the answer to a wrong argument: that of r{register}")
    facts += [f"{rule.id}: {inline(rule.sentence)}" for rule in RULES.values() if rule.answer is status]
    return Subject("status", status.name, tuple(facts), "", (str(status.value),))


def _call(spec: HCallSpec) -> Subject:
    levels = ", ".join(name for name, level in LEVELS.items() if spec.opcode in level.calls)
    page = f"{pages.PREFIX}hcalls/{spec.opcode.name.lower()}.md"
    return Subject(
        "h-call",
        spec.name,
        (f"levels: {levels}",),
        page,
        (f"0x{spec.opcode:X}", str(spec.opcode.value)),
        (spec.opcode.name,),
    )


def _policy(bit: Policy) -> Subject:
    number = 32 - bit.bit_length()
    return Subject(
        "policy", bit.name or "", (), "spec/policies.md#bits", (f"0x{bit.value:08X}", f"{_BIT}{number}")
    )


def _frame(frame: FrameType) -> Subject:
    return Subject("frame", frame.name, (), f"spec/protocol.md#{frame.name.lower()}", (str(frame.value),))


def _open_status(status: OpenStatus) -> Subject:
    facts = (f"{rule.id}: {inline(rule.sentence)}" for rule in RULES.values() if rule.answer is status)
    page = "spec/protocol.md#opened"
    return Subject("status of OPEN", status.name, tuple(facts), page, (str(status.value),))


def _reason(reason: GoodbyeReason) -> Subject:
    return Subject("reason of GOODBYE", reason.name, (), "spec/protocol.md#goodbye", (str(reason.value),))


def _attribute(name: str, row: AttributeRow) -> Subject:
    facts = (row.description, f"values: {row.values}")
    return Subject("attribute", name, facts, "spec/control.md#attributes")


def _rule(rule: Rule) -> Subject:
    number = message_number(rule)
    facts = [inline(rule.sentence), f"broken: {_answer(rule)}"]
    facts += [f"message number: {number}"] if number != NO_NUMBER else []
    facts += [f"remedy: {inline(REMEDIES[rule.id])}"] if rule.id in REMEDIES else []
    return Subject("rule", rule.id, tuple(facts), rule.page, also=(number,) if number != NO_NUMBER else ())


def _lines() -> Iterator[Subject]:
    """Yield the lines of the console with their table rows; the table exists only in the page."""
    rows: dict[str, list[str]] = {}
    for cells in _rows(_LINES_PAGE):
        if cells[0] in LINES:
            rows.setdefault(cells[0], cells[1:])
    for name, (options, ignored) in rows.items():
        facts = (
            f"options: {options}",
            f"accepted, and without effect: {ignored}",
            f"page: {_LINES_PAGE}#lines",
        )
        yield Subject("line", name, facts, "")  # its section would be the table of all lines


def _cited() -> Iterator[Subject]:
    """Yield the choices and the requirements, which pages and errors cite by id."""
    for kind, page, form in _CITED:
        for cells in _rows(page):
            if re.fullmatch(form, cells[0]):
                yield Subject(kind, cells[0], (*map(inline, cells[1:]), f"page: {page}"), "")


def _rows(page: str) -> Iterator[list[str]]:
    """Yield the cells of each table row with three cells in a page."""
    for row in pages.page(page).splitlines():
        cells = [cell.replace("\\|", "|").strip(" `") for cell in _CELLS.split(row.strip())[1:-1]]
        if len(cells) == 3:
            yield cells


def _answer(rule: Rule) -> str:
    match rule.answer:
        case Status():
            answer = f"; the h-call is answered with {rule.answer.name}"
        case Positional():
            answer = "; the h-call is answered with the status of the argument's register"
        case OpenStatus():
            answer = f"; OPEN is answered with status {rule.answer.value}"
        case _:
            answer = ""
    return f"{rule.fault.value} fault{answer}"
