"""Markdown of a page as text for a terminal: no marks, tables in columns or as lists, lines of one width."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from itertools import groupby

LEAST_WIDTH = 40


def plain(markdown: str, width: int) -> str:
    """Return the text of a piece of a page; no line of prose is longer than `width`."""
    blocks = (
        text for kind, lines in _blocks(markdown) if (text := _shown(kind, lines, max(width, LEAST_WIDTH)))
    )
    return "\n\n".join(blocks)


def _blocks(markdown: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the blocks between blank lines, each with its kind; a code block is one block."""
    # A split by a group alternates: text, code, text, ...  So odd parts are code.
    parts = re.split(r"^```\w*\n(.*?)^```$", markdown, flags=re.MULTILINE | re.DOTALL)
    for n, part in enumerate(parts):
        if n % 2:
            yield "code", part.splitlines()
            continue
        for kind, lines in groupby(part.splitlines(), _kind):
            yield kind, list(lines)


def _kind(line: str) -> str:
    if not line.strip() or line.startswith("<!--"):
        return "nothing"
    if line.startswith("|"):
        return "table"
    if line.startswith("    "):
        return "code"
    return "heading" if line.startswith("#") else "prose"


def _shown(kind: str, lines: list[str], width: int) -> str:
    match kind:
        case "code":
            return "\n".join(line if line.startswith("    ") else f"    {line}".rstrip() for line in lines)
        case "table":
            return _table([_cells(line) for line in lines if not re.fullmatch(r"[|\s:-]+", line)], width)
        case "heading":
            return "\n".join(inline(line.lstrip("#")).strip().upper() for line in lines)
        case "prose":
            return "\n".join(_paragraphs(lines, width))
    return ""


def _paragraphs(lines: list[str], width: int) -> Iterator[str]:
    """Yield prose and the items of lists, each filled to the width."""
    items: list[str] = []
    for line in lines:
        if re.match(r" *(-|\d+\.) ", line) or not items:
            items.append(line)
        else:
            items[-1] += f" {line.strip()}"
    for item in items:
        mark = re.match(r" *(?:-|\d+\.) ", item)
        indent = " " * len(mark[0]) if mark else ""
        yield textwrap.fill(inline(item), width, subsequent_indent=indent, break_long_words=False,
                            break_on_hyphens=False)  # fmt: skip


def _cells(line: str) -> list[str]:
    return [inline(cell.replace(r"\|", "|")).strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def _table(rows: list[list[str]], width: int) -> str:
    """Return a table in columns.

    If the table is too wide, return a list, with the column's heading before each cell.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=False)]
    if sum(widths) + 2 * len(widths) <= width:
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    head, *rest = rows
    return "\n".join(_entry(head, row, width) for row in rest)


def _entry(head: list[str], row: list[str], width: int) -> str:
    first, *others = row
    cells = [f"{name}: {cell}" if name else cell for name, cell in zip(head[1:], others, strict=False)]
    filled = (
        textwrap.fill(each, width, initial_indent="    ", subsequent_indent="      ", break_long_words=False,
                      break_on_hyphens=False) for each in cells if each
    )  # fmt: skip
    start = textwrap.fill(
        first, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    return "\n".join([start, *filled])


def inline(text: str) -> str:
    """Return a line without the Markdown marks of anchors, links, emphasis and code."""
    text = re.sub(r'<a id="[^"]*"></a>', "", text)
    text = re.sub(r"!?\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\([^)\s]*\)", r"\1", text)
    code: list[str] = []

    def keep(match: re.Match[str]) -> str:
        code.append(match[2])
        return "\0"

    # Code is put aside first: a star in code is no mark of emphasis. A star before and after code may be one.
    text = re.sub(r"(`+)(.+?)\1", keep, text)
    text = re.sub(r"\*\*(.+?)\*\*", r"\1", text)
    text = re.sub(r"(?<![\w*])\*([^*\s][^*]*)\*(?![\w*])", r"\1", text)
    return re.sub("\0", lambda _: code.pop(0), text)
