"""The grammar of the console's lines: records, `-F` lists and filters (spec/console.md#records).

    print_record([("name", "lpar1"), ("lpar_ids", "1,2")])     name=lpar1,"lpar_ids=1,2"
    parse_record('name=lpar1, keystore_kbytes=64')             two pairs

A printed record parses back to the same pairs, for every text that fits in a line.  Pure: this module knows
no command and no attribute.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from hcall_abi.errors import OperatorError
from hcall_abi.near import did_you_mean, near_names
from hcall_abi.rules import hmc as rules

NO_RESULTS = "No results were found."
"""The output of a list command if nothing matches; its exit status is 0."""

LONGEST_RECORD = 1 << 16
"""Characters of a record, of the names after `-F`, and of a filter, at most: they are read at once."""
MOST_ATTRIBUTES = 256
"""Attributes of a record, names after `-F`, and names in a filter, at most."""
MOST_RECORDS = 1000
"""Records of a line at most."""

NOT_APPLICABLE = "null"
"""The value that `-F` prints for an attribute that does not apply."""

Operator = Literal["=", "+=", "-="]
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PAIR = re.compile(rf"({_NAME.pattern})(\+=|-=|=)(.*)", re.DOTALL)
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')
_DELIMITER = re.compile(r"\s*([,:])\s*|\s+")


@dataclass(frozen=True)
class Pair:
    """An attribute of a record: `=` sets its value, `+=` adds to a list, and `-=` removes from it."""

    name: str
    value: str
    operator: Operator = "="


def print_record(pairs: Iterable[tuple[str, str | None]]) -> str:
    """Return a record as one line; None is printed empty: the attribute does not apply."""
    # The pair is quoted as a whole, as the real console does: "lpar_names=a,b", and not lpar_names="a,b".
    return ",".join(_quoted(f"{name}={value or ''}", ",") for name, value in pairs)


def parse_record(text: str) -> list[Pair]:
    """Return the pairs of a record; OperatorError if its form is wrong or an attribute is given twice."""
    _demand_length("a record", text)
    pairs: dict[str, Pair] = {}
    for item in _split(text, ",", blanks=True):
        pair = _pair(item, text)
        if pair.name in pairs:
            raise _bad(text, f"{pair.name[:40]} is given twice")
        _demand_number("a record", len(pairs) + 1, MOST_ATTRIBUTES, "attributes")
        pairs[pair.name] = pair
    return list(pairs.values())


def divide_records(texts: Iterable[str]) -> list[str]:
    """Return the records in some texts, unparsed: each line that is not empty is one record.

    OperatorError if there are too many records.
    """
    lines = [line.strip("\r") for text in texts for line in text.split("\n")]
    records = [line for line in lines if line.strip()]
    _demand_number("a line", len(records), MOST_RECORDS, "records")
    return records


def parse_records(text: str) -> list[list[Pair]]:
    """Return the records of a text, one a line; empty lines are skipped."""
    return [parse_record(record) for record in divide_records([text])]


def _demand_length(what: str, text: str) -> None:
    _demand_number(what, len(text), LONGEST_RECORD, "characters")


def _demand_number(what: str, number: int, most: int, things: str) -> None:
    if number > most:
        raise OperatorError(rules.LINE_SIZE, f"{what} has at most {most} {things}")


def _pair(item: str, record: str) -> Pair:
    found = _PAIR.fullmatch(item)
    if found is None:
        raise _bad(record, f"{item[:40]!r} is not ATTRIBUTE=VALUE")
    name, operator, value = found.groups()
    operators: tuple[Operator, ...] = ("=", "+=", "-=")
    return Pair(name, value, operators[operators.index(operator)])


def _bad(text: str, why: str) -> OperatorError:
    return OperatorError(rules.LINE_RECORD, f"the record {text[:80]!r} cannot be read: {why}")


def _quoted(text: str, delimiters: str) -> str:
    """Return a text as an item of a list, in quotes if it needs them.

    It needs quotes if it contains a delimiter, or begins with a quote.  Quotes inside are doubled.
    """
    # A text that begins with a quote is put in quotes.  Otherwise the parser would read it as a quoted item.
    if not text.startswith('"') and not any(each in text for each in delimiters):
        return text
    return '"' + text.replace('"', '""') + '"'


def _split(text: str, delimiters: str, *, blanks: bool = False) -> Iterator[str]:
    """Divide a text at delimiters outside of quotes, and remove the quotes.

    The n-th item ends at the n-th of `delimiters`; all further items end at the last delimiter.  An item is
    quoted only if it begins with a quote.  With `blanks`, blanks before an item are skipped.
    """
    position, number = 0, 0
    while True:
        while blanks and text.startswith(" ", position):
            position += 1
        delimiter = delimiters[min(number, len(delimiters) - 1)]
        item, position = _item(text, position, delimiter)
        yield item
        if position >= len(text):
            return
        # An item without quotes ends at the delimiter or with the text.  So only a quoted item can have other
        # text behind it.
        if text[position] != delimiter:
            raise _bad(text, f"{text[position : position + 20]!r} follows a closing quote")
        position += 1
        number += 1


def _item(text: str, position: int, delimiter: str) -> tuple[str, int]:
    """Return the item that begins at a position, and the position after it."""
    if not text.startswith('"', position):
        end = text.find(delimiter, position)
        end = len(text) if end < 0 else end
        return text[position:end], end
    found = _QUOTED.match(text, position)
    if found is None:
        raise _bad(text, "a quote is not closed")
    return found[1].replace('""', '"'), found.end()


@dataclass(frozen=True)
class Columns:
    """The names after `-F`, and the delimiters between them; the same delimiters divide the values."""

    names: tuple[str, ...]
    delimiters: str = ""

    @property
    def header(self) -> str:
        """The line of `--header`."""
        return self._joined(self.names)

    def line(self, values: Sequence[str | None]) -> str:
        """Return the values of one record in a line; None is an attribute that does not apply."""
        texts = [NOT_APPLICABLE if value is None else value for value in values]
        return self._joined([_quoted(text, self.delimiters) for text in texts])

    def _joined(self, texts: Sequence[str]) -> str:
        divided = zip(texts, (*self.delimiters, ""), strict=True)
        return "".join(text + delimiter for text, delimiter in divided)

    def parse(self, line: str) -> list[str]:
        """Return the values of a line; OperatorError if the number of values is wrong."""
        values = list(_split(line, self.delimiters or "\n"))
        if len(values) != len(self.names):
            raise _bad(line, f"it has {len(values)} values for {len(self.names)} names")
        return values


def parse_columns(words: Sequence[str], known: Sequence[str]) -> Columns:
    """Return the columns that the words after `-F` name; without a word all known columns.

    OperatorError for a name that is not known.
    """
    # The shell has divided the names at blanks.  The names are joined again, because a blank is a delimiter
    # like comma and colon.
    text = " ".join(words).strip(" ,:")
    _demand_length("-F", text)
    if not text:
        return Columns(tuple(known), "," * (len(known) - 1))
    names = tuple(_DELIMITER.sub(" ", text).split(" "))
    _demand_number("-F", len(names), MOST_ATTRIBUTES, "names")
    for name in names:
        if name not in known:
            finding = f"-F: there is no attribute {name[:40]!r}{nearest(name, known)}"
            message = f"{finding}; the attributes are {', '.join(known)}"
            raise OperatorError(rules.LINE_ATTRIBUTE, message, advised=True)
    return Columns(names, "".join(found[1] or " " for found in _DELIMITER.finditer(text)))


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a question that offers the nearest known name, for a message; "" if none is near."""
    question = did_you_mean(near_names(name[:40].lower(), known, 1))
    return question and f" ({question})"


def parse_filter(text: str, known: Sequence[str]) -> dict[str, list[str]]:
    """Return the values of each name in a filter; OperatorError for a name that is not known."""
    filters: dict[str, list[str]] = {}
    try:
        pairs = parse_record(text)
    except OperatorError as error:
        # A shell removes the outer quotes, and a beginner types no inner ones.
        form = r'--filter "\"NAME=A,B\""'
        message = f"--filter: {error.message}; a pair with commas has quotes of its own: {form}"
        raise OperatorError(error.rule, message, advised=True) from None
    for pair in pairs:
        if pair.name not in known or pair.operator != "=":
            finding = f"--filter: no {pair.name[:40]!r} to filter by{nearest(pair.name, known)}"
            message = f"{finding}; there is {', '.join(known) or 'none'}"
            raise OperatorError(rules.LINE_ATTRIBUTE, message, advised=True)
        filters[pair.name] = pair.value.split(",")
    return filters
