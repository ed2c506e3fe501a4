"""The results as tables, one for each group: for a terminal, and in Markdown."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from bench.results import Row

_HEADINGS = (
    "case",
    "cores",
    "swpks",
    "p50 us",
    "p99 us",
    "CPU us",
    "ceiling",
    "ratio",
    "work",
    "plain",
    "CPU x",
    "goal",
    "met",
)
_LEFT = {"case", "cores", "goal", "met"}
"""Columns of text; all others are figures, and are aligned to the right."""


def _number(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def with_unit(value: float | None, unit: str) -> str:
    """Return a figure with its unit."""
    if value is None:
        return ""
    if unit in {"/s", "us"}:
        return f"{value:,.0f}{unit if unit == '/s' else ' us'}"
    return f"{value:.{3 if unit in {'s', 'ms'} else 1}f} {unit}"


def _cells(row: Row) -> tuple[str, ...]:
    ceiling = f"{with_unit(row.ceiling, row.unit)} {row.ceiling_name}" if row.ceiling else ""
    verdict = {None: row.note, True: "met", False: "MISSED"}[row.met]
    figures = (_number(row.p50), _number(row.p99), _number(row.cpu), ceiling)
    ratios = tuple(_number(each, 2) for each in (row.ratio, row.work, row.plain, row.cpu_ratio))
    return (row.title, row.where, with_unit(row.value, row.unit), *figures, *ratios, row.goal, verdict)


def _grid(rows: list[Row]) -> list[tuple[str, ...]]:
    """Return headings and cells of a group, without its empty columns."""
    cells = [_cells(row) for row in rows]
    # Thirteen columns do not fit into a terminal.
    kept = [n for n in range(len(_HEADINGS)) if any(line[n] for line in cells)]
    return [tuple(line[n] for n in kept) for line in (_HEADINGS, *cells)]


def _groups(rows: list[Row]) -> list[tuple[str, list[Row]]]:
    return [(name, list(group)) for name, group in groupby(rows, lambda row: row.group)]


def table(rows: list[Row]) -> str:
    """Return the tables for a terminal."""
    parts = []
    for name, group in _groups(rows):
        grid = _grid(group)
        widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
        parts += [f"{name}:", *("  ".join(_padded(line, grid[0], widths)).rstrip() for line in grid), ""]
    return "\n".join([*parts, LEGEND])


def _padded(line: tuple[str, ...], headings: tuple[str, ...], widths: list[int]) -> list[str]:
    cells = zip(line, headings, widths, strict=True)
    return [cell.ljust(width) if name in _LEFT else cell.rjust(width) for cell, name, width in cells]


LEGEND = (
    "CPU: of the server, an operation. ratio: to the ceiling beside it. work: the same from the CPU time of\n"
    "server and client alone, which others on the machine disturb less. plain: to the echo server over the\n"
    "stream that swpks itself uses. CPU x: CPU of the server, in CPU of a bare commit. Medians of\n"
    "interleaved rounds; a ratio is the median of the ratios of the rounds. With 16 in flight, p50 and\n"
    "p99 are those of the 16 together."
)


def markdown(rows: list[Row], about: dict[str, Any]) -> str:
    """Return the report as a page."""
    made = ", ".join(f"{name} {value}" for name, value in about.items())
    parts = [f"# Results\n\nMade by `make bench` on: {made}.\n"]
    for name, group in _groups(rows):
        headings, *cells = _grid(group)
        lines = [headings, ("---",) * len(headings), *cells]
        parts += [f"## {name}\n", *("| " + " | ".join(line) + " |" for line in lines), ""]
    return "\n".join([*parts, LEGEND, ""])
