"""The Markdown of spec/ as mdoc: the forms that its pages use, and no others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from swpks.cli.manual.inline import inline, plain
from swpks.cli.manual.mdoc import escaped, filled, literal, section
from swpks.cli.manual.tables import table

_CODE = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CELLS = re.compile(r"(?<!\\)\|")
_ITEM = re.compile(r" *(?:-|(\d+)\.) +")


class Block(NamedTuple):
    """A piece of a page between blank lines: its kind (text, heading, code, table or list), and its lines."""

    kind: str
    lines: list[str]


def section_of(page: str, heading: str, *, below: bool = True) -> str:
    """Return the text under a heading of a page; without `below`, only as far as the next heading."""
    lines, found, rank = page.splitlines(), list[str](), 0
    inside = False
    for line in lines:
        inside ^= line.startswith("```")
        match = None if inside else re.fullmatch(r"(#+) (.+)", line)
        if rank and match and (not below or len(match[1]) <= rank):
            break
        if rank:
            found.append(line)
        elif match and match[2] == heading:
            rank = len(match[1])
    if not rank:
        raise LookupError(f"no page has the heading {heading!r}")
    return "\n".join(found)


def blocks(page: str) -> Iterator[Block]:
    """Yield the blocks of a page in their order."""
    # A split by a group alternates: text, code, text, ...  So odd parts are code.
    for n, part in enumerate(_CODE.split(page)):
        if n % 2:
            yield Block("code", part.rstrip("\n").splitlines())
            continue
        kinds = groupby(_kinds(part.splitlines()), lambda each: each[0])
        for kind, lines in kinds:
            if kind:
                yield Block(kind, [line for _, line in lines])


def _kinds(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Yield each line with its kind; a line that continues an item of a list belongs to the list."""
    before = ""
    for line in lines:
        kind = _kind(line)
        if before == "list" and kind in ("text", "code"):
            kind = "list"
        before = kind
        yield kind, line


def _kind(line: str) -> str:
    if not line.strip() or line.startswith("<!--"):
        return ""
    if line.startswith("|"):
        return "table"
    if line.startswith("#"):
        return "heading"
    if _ITEM.match(line) and not line.startswith("    "):
        return "list"
    return "code" if line.startswith("    ") else "text"


def shown(page: str, *, rank: int = 2) -> Iterator[str]:
    """Yield the blocks of a page as mdoc; headings of `rank` become sections, lower ones subsections."""
    begun = False  # a paragraph macro directly behind a heading is an error
    for kind, lines in blocks(page):
        match kind:
            case "heading":
                yield from _heading(lines[0], rank)
            case "code":
                yield from literal(line.removeprefix("    ") for line in lines)
            case "list":
                yield from _list(lines)
            case "table":
                yield from [".Pp"] * begun
                yield from table([_cells(line) for line in lines if not re.fullmatch(r"[|\s:-]+", line)])
            case _:
                yield from [".Pp"] * begun
                yield from filled(inline(" ".join(lines)))
        begun = kind != "heading"


def _heading(line: str, rank: int) -> Iterator[str]:
    marks, _, text = line.partition(" ")
    text = plain(text)
    yield section(text) if len(marks) <= rank else f".Ss {escaped(text)}"


def _list(lines: list[str]) -> Iterator[str]:
    numbered = (found := _ITEM.match(lines[0])) and found[1]
    yield ".Bl -enum" if numbered else ".Bl -bullet"
    items: list[str] = []
    for line in lines:
        if found := _ITEM.match(line):
            items.append(line[found.end() :])
        else:
            items[-1] += f" {line.strip()}"
    for item in items:
        yield ".It"
        yield from filled(inline(item))
    yield ".El"


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("\\|", "|") for cell in _CELLS.split(line.strip()[1:-1])]


def cells_of(page: str) -> list[list[str]]:
    """Return the rows of the first table of a text, without its head, as Markdown."""
    lines = next(each.lines for each in blocks(page) if each.kind == "table")
    return [_cells(line) for line in lines[2:]]
