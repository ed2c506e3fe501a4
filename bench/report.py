"""The results for people: a table for the terminal, the same in Markdown."""

from __future__ import annotations

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
    "goal",
    "",
)


def _number(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _value(row: Row) -> str:
    if row.unit == "/s":
        return f"{row.value:,.0f}/s"
    return f"{row.value:.3f} {row.unit}" if row.unit == "s" else f"{row.value:.1f} {row.unit}"


def _verdict(row: Row) -> str:
    return {None: "", True: "met", False: "MISSED"}[row.met]


def _cells(row: Row) -> tuple[str, ...]:
    ceiling = f"{row.ceiling:,.0f} {row.ceiling_name}" if row.ceiling else ""
    figures = (_number(row.p50), _number(row.p99), _number(row.cpu), ceiling)
    ratios = (_number(row.ratio, 2), _number(row.work, 2), _number(row.plain, 2))
    return (row.title, row.where, _value(row), *figures, *ratios, row.goal, _verdict(row))


def table(rows: list[Row]) -> str:
    """Return the table for a terminal, and below it the peers."""
    lines = [_HEADINGS, *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = "\n".join("  ".join(_padded(line, widths)).rstrip() for line in lines)
    return f"{text}\n\n{LEGEND}\n\nPeers, as measured elsewhere (reference figures):\n{_peers(rows)}"


def _padded(line: tuple[str, ...], widths: list[int]) -> list[str]:
    """Text to the left, figures to the right."""
    left = {0, 1, len(widths) - 1}
    cells = enumerate(zip(line, widths, strict=True))
    return [cell.ljust(width) if n in left else cell.rjust(width) for n, (cell, width) in cells]


def _peers(rows: list[Row]) -> str:
    return "\n".join(f"  {row.title}: {row.peers}" for row in rows if row.peers)


LEGEND = (
    "CPU: of the server, an operation. ratio: to the echo server over Trio's stream, or to bare durable\n"
    "commits; work: the same from the CPU time of server and client alone, which others on the machine\n"
    "disturb less; plain: to the echo server over the stream that swpks itself uses. Medians of\n"
    "interleaved rounds; a ratio is the median of the ratios of the rounds. With 16 in flight, p50 and\n"
    "p99 are those of the 16 together."
)


def markdown(rows: list[Row], about: dict[str, Any]) -> str:
    """Return the same as a page."""
    headings = (*_HEADINGS[:-1], "met", "peers")
    lines = [headings, ("---",) * len(headings)]
    lines += [(*_cells(row), row.peers) for row in rows]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    made = ", ".join(f"{name} {value}" for name, value in about.items())
    return f"# Results\n\nMade by `make bench` on: {made}.\n\n{text}\n\n{LEGEND}\n"
