"""Draws the results: ratios, growth, the p99 of a READ under a flood, and back ends of NVRAM.

The picture of floods shows two bars for each flood: one if the flood hits the server of the READ (the
neighbour), one if it hits another server on the same core (the control).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.report import with_unit
from bench.results import Row

MET, MISSED, NO_GOAL, GOAL = "#2a7f62", "#b5482f", "#7d8ca3", "#1b1b1b"
BACK_END_COLOURS = {"0": NO_GOAL, "1": "#5b8fd6", "3": "#1f4e8c"}
"""The colours of SQLite and of etcd, by the number of members at the end of a row's key."""
CURVES = {
    "READ, by partitions": "partitions-",
    "READ, by connections": "connections-",
    "READ, by objects": "objects-",
    "WRITE + REMOVE, by objects": "objects-write-",
    "confirmed write, by objects": "objects-confirmed-",
    "a flush holds the loop, by objects": "hold-",
    "memory, by partitions": "memory-partitions-",
    "memory, by connections": "memory-connections-",
    "start, by partitions": "start-partitions-",
}
"""Panels of the growth: title, and the prefix of the number in the keys of its rows."""


def draw(rows: list[Row], out: Path) -> list[str]:
    """Write the pictures (PNG) for which the rows have figures; return their file names."""
    pictures: dict[str, Callable[[Any, list[Row]], bool]] = {
        "results.png": _ratios,
        "growth.png": _growth,
        "neighbour.png": _neighbour,
        "nvram.png": _back_ends,
    }
    # Matplotlib is loaded here: tests, and a run that draws nothing, do not need it.
    import matplotlib as mpl

    # This back end writes files only. No other one works on a machine without a display.
    mpl.use("Agg")
    from matplotlib import pyplot

    written = []
    for name, paint in pictures.items():
        figure = pyplot.figure()
        if paint(figure, rows):
            figure.tight_layout()
            figure.savefig(out / name, dpi=110)
            written.append(name)
        pyplot.close(figure)
    return written


def _ratios(figure: Any, rows: list[Row]) -> bool:
    """Draw bars of the ratios, with a panel for each group of ceilings; False if there are none."""
    rates = [row for row in rows if row.unit == "/s" and row.ratio is not None]
    held = [row for row in rates if row.group != "growth" and not row.key.startswith("nvram-")]
    groups = [[row for row in held if row.group == name] for name in dict.fromkeys(row.group for row in held)]
    if not groups:
        return False
    heights = [len(group) + 1 for group in groups]
    figure.set_size_inches(10, 1.2 + 0.42 * sum(heights))
    axes = figure.subplots(len(groups), height_ratios=heights, squeeze=False)
    for axis, group in zip(axes[:, 0], groups, strict=True):
        _bars(axis, group)
    figure.suptitle("swpks beside its ceilings and its peers (bar: ratio; line: goal)")
    return True


def _bars(axis: Any, group: list[Row]) -> None:
    colours = [{None: NO_GOAL, True: MET, False: MISSED}[row.met] for row in group]
    places = list(range(len(group)))
    ratios = [row.ratio or 0.0 for row in group]
    axis.barh(places, ratios, color=colours)
    axis.set_yticks(places, [f"{row.title} ({row.where})" for row in group], fontsize=8)
    axis.invert_yaxis()
    for place, row in zip(places, group, strict=True):
        ceiling = f"{with_unit(row.ceiling, row.unit)} {row.ceiling_name}"
        cpu = "" if row.cpu_ratio is None else f"; CPU x {row.cpu_ratio:.1f}"
        text = f" {row.ratio or 0:.2f}  ({with_unit(row.value, row.unit)}; {ceiling}{cpu})"
        axis.text(max(ratios[place], row.mark or 0.0), place, text, va="center", fontsize=7)
        if row.mark:
            axis.plot([row.mark] * 2, [place - 0.4, place + 0.4], color=GOAL, linewidth=2)
    axis.set_xlim(0, 1.7 * max(*ratios, *(row.mark or 0.1 for row in group)))
    axis.set_xlabel(f"ratio: {group[0].group}", fontsize=8)


def _points(rows: list[Row], prefix: str) -> list[tuple[int, Row]]:
    """Return the rows whose key is the prefix and a number, sorted by the number."""
    named = [(row.key.removeprefix(prefix), row) for row in rows if row.key.startswith(prefix)]
    return sorted(((int(n), row) for n, row in named if n.isdigit() and row.value), key=lambda each: each[0])


def _growth(figure: Any, rows: list[Row]) -> bool:
    """Draw lines of rates, memory and times over growing sizes; False if there are none."""
    curves = {title: _points(rows, prefix) for title, prefix in CURVES.items()}
    curves = {title: points for title, points in curves.items() if points}
    if not curves:
        return False
    lines = -(-len(curves) // 3)
    figure.set_size_inches(11, 2.8 * lines)
    for place, (title, points) in enumerate(curves.items(), 1):
        axis = figure.add_subplot(lines, 3, place)
        axis.plot([n for n, _ in points], [row.value for _, row in points], "o-", color=MET, markersize=4)
        axis.set_xscale("log")
        # The axis begins at 0: a cut axis would make small differences look large.
        axis.set_ylim(0, 1.25 * max(row.value or 0.0 for _, row in points))
        axis.set_title(title, fontsize=9)
        axis.set_ylabel(points[0][1].unit, fontsize=8)
        axis.tick_params(labelsize=7, which="both")
    return True


def _neighbour(figure: Any, rows: list[Row]) -> bool:
    """Draw the p99 of the neighbour and of the control for each flood.

    The scale is logarithmic. False if there are no such rows.
    """
    floods = [row for row in rows if row.key.startswith("neighbour-") and row.ceiling and row.value]
    if not floods:
        return False
    figure.set_size_inches(10, 1.5 + 0.45 * len(floods))
    axis = figure.add_subplot()
    places = list(range(len(floods)))
    colours = [MET if row.met else MISSED for row in floods]
    axis.barh([n - 0.2 for n in places], [row.value or 0.0 for row in floods], 0.38, color=colours)
    axis.barh([n + 0.2 for n in places], [row.ceiling or 0.0 for row in floods], 0.38, color=NO_GOAL)
    axis.set_xscale("log")
    axis.set_yticks(places, [row.title.removeprefix("p99 of READ, ") for row in floods], fontsize=8)
    axis.invert_yaxis()
    for place, row in zip(places, floods, strict=True):
        axis.text(row.value or 1.0, place - 0.2, f" {row.ratio:.1f} x", va="center", fontsize=7)
    axis.set_xlim(right=3 * max(row.value or 0.0 for row in floods))
    axis.set_xlabel("p99 of a neighbour's READ in us (grey: the same flood on a second server)", fontsize=8)
    return True


def _back_ends(figure: Any, rows: list[Row]) -> bool:
    """Draw the p50 of each commit and confirmed write over each back end, with a line to its p99.

    The scale is logarithmic. False if there are no such rows.
    """
    measured = [row for row in rows if row.key.startswith("nvram-") and row.p50 and row.p99]
    if not measured:
        return False
    figure.set_size_inches(10, 1.5 + 0.32 * len(measured))
    axis = figure.add_subplot()
    for place, row in enumerate(measured):
        p50, p99 = (row.p50 or 1.0) / 1000, (row.p99 or 1.0) / 1000
        axis.barh(place, p50, color=BACK_END_COLOURS[row.key.rpartition("-")[2]])
        axis.plot([p50, p99], [place, place], color=GOAL, linewidth=1)
        ratio = "" if row.ratio is None else f"; rate {row.ratio:.2f} of SQLite's"
        axis.text(p99, place, f" {p50:.1f} ms, p99 {p99:.1f} ms{ratio}", va="center", fontsize=7)
    axis.set_xscale("log")
    axis.set_yticks(range(len(measured)), [row.title for row in measured], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(right=60 * max((row.p99 or 1.0) / 1000 for row in measured))
    axis.set_xlabel("p50 in ms (line: up to p99)", fontsize=8)
    return True
