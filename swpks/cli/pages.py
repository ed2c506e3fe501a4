"""The pages that are installed with swpks: inside the package, or in a checkout.

They are the pages of the contract, in spec/, and those of docs/ that errors name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import NamedTuple

PREFIX = "spec/"
"""The names of the contract's pages begin with it, in errors and in the log."""
GUIDES = ("docs/testing.md",)
"""Further pages: the errors of the pytest fixtures name this one.  tools/build_hook.py packs it."""


_PARAGRAPH = 9
"""Rank of a paragraph with an anchor: lower than any heading, so the next anchor or heading ends it."""


class Section(NamedTuple):
    """A heading, its anchor, and the text below it, down to the next heading of the same or a higher rank."""

    heading: str
    anchor: str
    text: str


def folder() -> Traversable:
    """Return the folder of the contract's pages."""
    installed = resources.files("swpks") / "spec"
    # In a checkout, hcall_abi is a folder beside the pages.
    return installed if installed.is_dir() else Path(str(resources.files("hcall_abi"))).parent


@cache
def names() -> tuple[str, ...]:
    """Return the names of all pages, such as ``spec/hcalls/index.md``."""
    return (*GUIDES, *sorted(f"{PREFIX}{name}" for name in _below(folder(), "")))


def _below(where: Traversable, before: str) -> Iterator[str]:
    for entry in where.iterdir():
        if entry.is_file() and entry.name.endswith(".md"):
            yield f"{before}{entry.name}"
        # In a checkout, spec/ also has packages and vectors.  `hcalls` is its only folder with pages.
        elif entry.is_dir() and not before and entry.name == "hcalls":
            yield from _below(entry, f"{entry.name}/")


def page(name: str) -> str:
    """Return the text of a page by its whole name."""
    if name not in GUIDES:
        return (folder() / name.removeprefix(PREFIX)).read_text("utf-8")
    installed = resources.files("swpks") / name
    found = installed if installed.is_file() else Path(str(folder())).parent / name
    return found.read_text("utf-8")


@cache
def sections(name: str) -> tuple[Section, ...]:
    """Return the sections of a page, in their order; `name` is the page's whole name.

    A paragraph with an anchor of its own is a section as well.  A line in a code block is no heading.
    """
    lines = page(name).splitlines()
    heads = [(n, *found) for n, found in enumerate(map(_head, _outside_code(lines))) if found]
    found = []
    for n, (at, rank, heading, anchor) in enumerate(heads):
        end = next((later for later, other, _, _ in heads[n + 1 :] if other <= rank), len(lines))
        # If a paragraph has an anchor, the text of its section begins at the paragraph. Otherwise it begins
        # after the heading.
        begin = at if rank == _PARAGRAPH else at + 1
        found.append(Section(heading, anchor, "\n".join(lines[begin:end]).strip("\n")))
    return tuple(found)


def slug(heading: str) -> str:
    """Return the anchor of a heading, for links to it."""
    return re.sub(r"[^\w\- ]", "", _plain(heading).lower()).replace(" ", "-")


def _plain(heading: str) -> str:
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip()).replace("`", "")


def _head(line: str) -> tuple[int, str, str] | None:
    """Return rank, text and anchor of a heading.

    A paragraph with an anchor counts as a heading.  Return None for any other line.
    """
    if match := re.fullmatch(r"(#+) (.+)", line):
        return len(match[1]), _plain(match[2]), slug(match[2])
    if match := re.match(r'(?:- )?<a id="([^"]+)"></a>(?:\*\*(.+?)\*\*)?', line):
        return _PARAGRAPH, _plain((match[2] or match[1]).rstrip(".")), match[1]
    return None


def _outside_code(lines: list[str]) -> Iterator[str]:
    """Yield each line outside of code blocks, and "" for each line in a code block."""
    inside = False
    for line in lines:
        inside ^= line.startswith("```")
        yield "" if inside else line
