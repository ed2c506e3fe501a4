"""Text in mdoc(7): escapes, lines of running text, arguments of macros, literal blocks and lists."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator

WIDTH = 78
"""Columns of a line of the source."""

_ESCAPES = {
    "\\": r"\e",
    "-": r"\-",
    "`": r"\(ga",
    "'": r"\(aq",
    '"': r"\(dq",
    "^": r"\(ha",
    "~": r"\(ti",
}
"""Characters that roff would change: into a hyphen, a typographic quote or an accent."""

# A number with a dot, or a name of a file, has no blank after its dot.
_SENTENCE = re.compile(r"(?<=[.!?:]) (?=(?:\\f[BI])?[A-Z])")


def escaped(text: str) -> str:
    """Return text that roff shows as it is, in ASCII."""
    return "".join(_ESCAPES.get(each, each if each.isascii() else f"\\[u{ord(each):04X}]") for each in text)


def filled(text: str) -> Iterator[str]:
    """Yield the lines of escaped running text: a sentence begins on a line of its own, as mdoc demands."""
    for sentence in _SENTENCE.split(" ".join(text.split())):
        # A break inside a word would put a blank there.
        for line in textwrap.wrap(sentence, WIDTH, break_long_words=False, break_on_hyphens=False):
            yield safe(line)


def safe(line: str) -> str:
    """Return a line of text that is no request: a dot at its start would make it one."""
    return rf"\&{line}" if line.startswith((".", "'")) else line


def argument(text: str) -> str:
    """Return one argument of a macro; it is never taken for a macro or for punctuation."""
    quoted = rf"\&{escaped(text)}"
    return f'"{quoted}"' if " " in quoted else quoted


def literal(lines: Iterable[str]) -> Iterator[str]:
    """Yield a block that is shown as it is, indented."""
    yield ".Bd -literal -offset indent"
    yield from (safe(escaped(line)) for line in lines)
    yield ".Ed"


def tagged(items: Iterable[tuple[str, Iterable[str]]]) -> Iterator[str]:
    """Yield a list of tags, each with its text; a tag is the line behind `.It`, the text is lines of mdoc."""
    yield ".Bl -tag -width Ds"
    for tag, text in items:
        yield f".It {tag}"
        yield from text
    yield ".El"


def section(name: str) -> str:
    """Return the macro of a section."""
    return f".Sh {escaped(name.upper())}"


def head(name: str, number: int, about: str, edition: str, version: str) -> Iterator[str]:
    """Yield the start of a page, up to its one-line description."""
    # The first line asks man for tbl(1), which the tables need.
    yield r"'\" t"
    yield f".Dd {edition}"
    yield f".Dt {name.upper()} {number}"
    yield f".Os {argument(f'swpks {version}')}"
    yield ".Sh NAME"
    yield f".Nm {name}"
    yield f".Nd {argument(about)}"
