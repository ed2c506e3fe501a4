"""The fields of the configuration file, from the commented example of spec/service.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from hcall_abi.console import ATTRIBUTES
from swpks.cli.manual.inline import inline
from swpks.cli.manual.mdoc import argument, escaped, filled, tagged

_LINE = re.compile(r"(\w+) = (.*?)(?:\s+# (.*))?")
_PAGE = re.compile(r'([\w-]+)\.md(?:, section "[^"]*"|, "[^"]*")?')

_REFERENCES = {
    ", see below": "",
    ", see the ready line": ", which the ready line has",
    ', see "Trace"': " (`swpks explain service`)",
}
"""References of the example to other sections of its page, and the words here."""

_WITHOUT_COMMENT = {
    "tls_cert": "the server's certificate, in PEM",
    "tls_ca": "the authority of the console's certificates",
    "max_sessions": "and all other names of the section LIMITS",
    "name": "the name of the partition",
    **{name: row.description for name, row in ATTRIBUTES.items()},
}
"""Texts of the fields that the example does not explain."""


class FileField(NamedTuple):
    """A field of the example: its name, the value there, and its text in Markdown."""

    name: str
    value: str
    text: str


def field_lists(example: str) -> Iterator[str]:
    """Yield a list of the fields at the top of the file, and a subsection for each table."""
    for part in re.split(r"\n\n(?=\[)", example.strip()):
        first, _, rest = part.partition("\n")
        table = first.partition(" #")[0].strip()
        if table.startswith("["):
            yield f".Ss {escaped(table)}"
            if comment := first.partition("# ")[2]:
                yield from filled(inline(_sentence(comment)))
        lines = rest if table.startswith("[") else part
        yield from tagged((_tag(each), filled(inline(each.text))) for each in _fields(lines))


def _fields(lines: str) -> Iterator[FileField]:
    for line in lines.splitlines():
        if found := _LINE.fullmatch(line):
            name, value, comment = found.groups()
            yield FileField(name, value, _text(comment or _WITHOUT_COMMENT.get(name, "")))


def _text(comment: str) -> str:
    """Return a comment for a reader who has the fields alone; a page is a command that prints it."""
    for words, others in _REFERENCES.items():
        comment = comment.replace(words, others)
    return _PAGE.sub(r"`swpks explain \1`", comment)


def _sentence(comment: str) -> str:
    text = _text(comment)
    return f"{text[0].upper()}{text[1:]}."


def _tag(field: FileField) -> str:
    words = chain(["Va", argument(field.name), "No", "="], [argument(field.value)])
    return " ".join(words)
