"""Tables for tbl(1), which mandoc and groff both read."""

from __future__ import annotations

from collections.abc import Iterator

from swpks.cli.manual.inline import inline, plain
from swpks.cli.manual.mdoc import filled, safe

NARROW = 22
"""Columns of the widest cell that is never wrapped."""


def table(rows: list[list[str]]) -> Iterator[str]:
    """Yield a table; its first row is the head, and cells are Markdown.  Wide columns wrap."""
    wide = [max(len(plain(cell)) for cell in column) > NARROW for column in zip(*rows, strict=True)]
    yield ".TS"
    yield " ".join("lbx" if each else "lb" for each in wide)
    yield " ".join("lx" if each else "l" for each in wide) + "."
    for row in rows:
        yield safe("\t".join(map(_cell, row, wide)))
    yield ".TE"


def _cell(text: str, wide: bool) -> str:
    if wide:
        return "\n".join(["T{", *filled(inline(text)), "T}"])
    # A cell of one such character would be a line across the column.
    return rf"\&{text}" if text in ("_", "=") else inline(text)
