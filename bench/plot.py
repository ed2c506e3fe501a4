"""The results as a picture: each ratio as a bar, with its goal as a mark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.results import Row

MET, MISSED, NO_GOAL, GOAL = "#2a7f62", "#b5482f", "#7d8ca3", "#1b1b1b"


def draw(rows: list[Row], goals: dict[str, float], path: Path) -> None:
    """Write a PNG; `goals` are the ratios to be reached, by the key of the row."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    groups = [[row for row in rows if row.ceiling_name == name] for name in ("echo", "bare commits")]
    groups = [group for group in groups if group]
    if not groups:
        return
    heights = [len(group) + 1 for group in groups]
    size = (9, 1.2 + 0.42 * sum(heights))
    figure, axes = pyplot.subplots(len(groups), figsize=size, height_ratios=heights, squeeze=False)
    for axis, group in zip(axes[:, 0], groups, strict=True):
        _bars(axis, group, goals)
    figure.suptitle("swpks beside its ceilings (bar: ratio; line: goal)")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _bars(axis: Any, group: list[Row], goals: dict[str, float]) -> None:
    """Draw one group of bars on a matplotlib axis."""
    colours = [{None: NO_GOAL, True: MET, False: MISSED}[row.met] for row in group]
    places = list(range(len(group)))
    ratios = [row.ratio or 0.0 for row in group]
    axis.barh(places, ratios, color=colours)
    axis.set_yticks(places, [f"{row.title} ({row.where})" for row in group], fontsize=8)
    axis.invert_yaxis()
    for place, row in zip(places, group, strict=True):
        text = f" {row.ratio or 0:.2f}  ({row.value:,.0f}/s of {row.ceiling or 0:,.0f}/s)"
        axis.text(max(ratios[place], goals.get(row.key, 0.0)), place, text, va="center", fontsize=8)
        if row.key in goals:
            axis.plot([goals[row.key]] * 2, [place - 0.4, place + 0.4], color=GOAL, linewidth=2)
    axis.set_xlim(0, 1.45 * max(*ratios, *(goals.get(row.key, 0.1) for row in group)))
    axis.set_xlabel(f"ratio to {group[0].ceiling_name}", fontsize=8)
