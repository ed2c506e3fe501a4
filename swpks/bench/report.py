"""The figures as a table, as JSON and as a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape

from swpks.bench.cases import Figure

HEADINGS = ("", "rate", "p50", "p99", "client")
NOTE = (
    "The clients are Python code in this process. Each figure includes their own work; `client` is its\n"
    "share of the time. A time runs from a send to its last answer. With 16 in flight it is that of all 16."
)
BAR, LINE, LEFT, WIDTH = 300, 26, 230, 720
"""Pixels of the picture: longest bar, height of a line, start of the bars, whole width."""


def table(figures: Sequence[Figure]) -> str:
    """Return the table for a terminal, followed by a note that explains its columns."""
    lines = [HEADINGS, *map(_cells, figures)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = [
        f"{line[0]:<{widths[0]}}"
        + "".join(f"  {cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=True))
        for line in lines
    ]
    return "\n".join([*rows, "", NOTE])


def _cells(figure: Figure) -> tuple[str, ...]:
    rate = f"{figure.rate:,.0f}/s"
    return (figure.case.title, rate, _time(figure.p50), _time(figure.p99), f"{100 * figure.client:.0f} %")


def _time(micro: float) -> str:
    return f"{micro:.0f} us" if micro < 10_000 else f"{micro / 1000:.1f} ms"


def as_json(figures: Sequence[Figure], about: dict[str, str | float]) -> bytes:
    """Return a JSON document: parameters of the run, and a row for each figure; times are in microseconds."""
    rows = [
        {
            "key": each.case.key,
            "title": each.case.title,
            "sessions": each.case.sessions,
            "in_flight": each.case.depth,
            "per_second": each.rate,
            "p50_us": each.p50,
            "p99_us": each.p99,
            "client_share": each.client,
        }
        for each in figures
    ]
    return json.dumps({"about": about, "figures": rows}, indent=1).encode() + b"\n"


def as_svg(figures: Sequence[Figure], about: str) -> bytes:
    """Return an SVG picture: a bar for each rate, with its latencies beside it."""
    # The best rate gets the longest bar.  So a picture compares the cases of one run, and not several runs.
    most = max(each.rate for each in figures)
    parts = [_text(10, 22, "swpks bench", size=15), _text(10, 42, about)]
    for number, each in enumerate(figures):
        top = 60 + number * LINE
        width = max(1.0, BAR * each.rate / most)
        _, rate, p50, p99, _ = _cells(each)
        parts += [
            _text(10, top + 14, each.case.title),
            f'<rect x="{LEFT}" y="{top}" width="{width:.1f}" height="{LINE - 8}" fill="#2a7f62"/>',
            _text(LEFT + width + 8, top + 14, f"{rate}, p50 {p50}, p99 {p99}"),
        ]
    height = 76 + len(figures) * LINE
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>\n"]).encode()


def _text(left: float, base: float, text: str, size: int = 12) -> str:
    place = f'x="{left:.1f}" y="{base}" font-family="sans-serif" font-size="{size}"'
    return f"<text {place}>{escape(text)}</text>"
