"""Reading the pages: headings as anchors, tables, links."""

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SPEC = ROOT / "spec"


@lru_cache
def text_of(path: Path) -> str:
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def slug(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip().lower())
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


@lru_cache
def anchors(path: Path) -> frozenset[str]:
    """Every anchor of a page."""
    text = text_of(path)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return frozenset(map(slug, headings)) | frozenset(re.findall(r'<a id="([^"]+)">', text))


def section(path: Path, heading: str) -> str:
    """The text under a heading, down to the next one of any depth."""
    match = re.search(rf"^#+ {re.escape(heading)}$\n(.*?)(?=^#|\Z)", text_of(path), re.MULTILINE | re.DOTALL)
    assert match, f"{path.name} has no heading {heading!r}"
    return match[1]


def tables(text: str) -> list[list[list[str]]]:
    """The tables of a text, as rows of cells, heads included and rulers left out."""
    found = []
    for block in re.findall(r"(?:^\|.*\|$\n?)+", text, re.MULTILINE):
        lines = [line for line in block.splitlines() if not re.fullmatch(r"[| -]+", line)]
        found.append([[cell.strip() for cell in line.strip("|").split("|")] for line in lines])
    return found


def links(path: Path) -> Iterator[str]:
    """The targets of a page's links, without those to other places of the world."""
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(path)):
        if "://" not in target and not target.startswith("mailto:"):
            yield target


def broken(target: str, base: Path) -> str | None:
    """Why a link from a page does not lead anywhere, or None."""
    file, _, anchor = target.partition("#")
    path = (base.parent / file).resolve() if file else base
    if not path.exists():
        return f"{base.relative_to(ROOT)}: {target}: no such page"
    if anchor and anchor not in anchors(path):
        return f"{base.relative_to(ROOT)}: {target}: no such heading"
    return None
