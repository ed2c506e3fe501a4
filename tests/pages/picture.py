"""Reads docs/system.svg: the positions of boxes and arrows, and the space of the labels."""

import re
import xml.etree.ElementTree as ET
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib.ft2font import FT2Font

FONTS = Path(matplotlib.get_data_path(), "fonts", "ttf")
WIDER = 1.05
"""Reserve for a reader without the first font of the picture: Verdana is up to 4 % wider."""
ABOVE, BELOW = 0.76, 0.24
"""Height of a label over and under its base line, as shares of the font size."""


class Box(NamedTuple):
    """A rectangle, given by its edges."""

    left: float
    top: float
    right: float
    bottom: float

    def grown(self, by: float) -> "Box":
        """Return the rectangle with its edges moved outwards by this distance."""
        return Box(self.left - by, self.top - by, self.right + by, self.bottom + by)

    def holds(self, other: "Box") -> bool:
        """Return whether another rectangle lies inside this one."""
        return (
            self.left <= other.left and self.top <= other.top
            and other.right <= self.right and other.bottom <= self.bottom
        )  # fmt: skip

    def meets(self, other: "Box") -> bool:
        """Return whether the two rectangles have a common point."""
        return (
            self.left <= other.right and other.left <= self.right
            and self.top <= other.bottom and other.top <= self.bottom
        )  # fmt: skip


class Label(NamedTuple):
    """A text and the space that it needs."""

    text: str
    box: Box


class Picture(NamedTuple):
    """The parts of a picture that are checked."""

    labels: list[Label]
    boxes: list[Box]
    arrows: list[Box]
    """Points of each arrow, about one per pixel, as rectangles without an area."""


def read(svg: str) -> Picture:
    """Parse a picture that has groups, rectangles, texts and paths of straight lines."""
    picture = Picture([], [], [])
    _walk(ET.fromstring(svg), {}, picture)
    return picture


@cache
def width(text: str, size: float, bold: bool) -> float:
    """Return the width of a text in pixels, in a font that is a little wider than DejaVu Sans."""
    font = FT2Font(str(FONTS / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")))
    font.set_size(100, 72)
    font.set_text(text)
    return font.get_width_height()[0] / 64 * size / 100 * WIDER


def _walk(element: ET.Element, above: dict[str, str], picture: Picture) -> None:
    given = {**above, **element.attrib}
    kind = element.tag.rpartition("}")[2]
    if kind == "rect":
        left, top = (float(given.get(name, 0)) for name in ("x", "y"))
        picture.boxes.append(Box(left, top, left + float(given["width"]), top + float(given["height"])))
    elif kind == "text":
        picture.labels.append(_label(element.text or "", given))
    elif kind == "path":
        picture.arrows.extend(_points(given["d"]))
    elif kind != "defs":
        for child in element:
            _walk(child, given, picture)


def _label(text: str, given: dict[str, str]) -> Label:
    size = float(given["font-size"])
    wide = width(text, size, given.get("font-weight") == "bold")
    left = float(given["x"]) - (wide / 2 if given.get("text-anchor") == "middle" else 0)
    base = float(given["y"])
    return Label(text, Box(left, base - ABOVE * size, left + wide, base + BELOW * size))


def _points(path: str) -> list[Box]:
    numbers = [float(number) for number in re.findall(r"-?[\d.]+", path)]
    corners = list(zip(numbers[::2], numbers[1::2], strict=True))
    points = []
    for (x, y), (to_x, to_y) in pairwise(corners):
        steps = int(max(abs(to_x - x), abs(to_y - y))) or 1
        for n in range(steps + 1):
            across, down = x + (to_x - x) * n / steps, y + (to_y - y) * n / steps
            points.append(Box(across, down, across, down))
    return points
