"""Reads the pages: headings with their anchors, tables, links, and terminal sessions."""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SPEC = ROOT / "spec"
_LONG = re.MULTILINE | re.DOTALL


@lru_cache
def text_of(path: Path) -> str:
    """Return the text of a page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def slug(heading: str) -> str:
    """Return the anchor that GitHub makes for a heading."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip().lower())
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


@lru_cache
def anchors(path: Path) -> frozenset[str]:
    """Return every anchor of a page."""
    text = text_of(path)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return frozenset(map(slug, headings)) | frozenset(re.findall(r'<a id="([^"]+)">', text))


def section(path: Path, heading: str) -> str:
    """Return the text under a heading, up to the next heading of any rank."""
    match = re.search(rf"^#+ {re.escape(heading)}$\n(.*?)(?=^#|\Z)", text_of(path), re.MULTILINE | re.DOTALL)
    assert match, f"{path.name} has no heading {heading!r}"
    return match[1]


def tables(text: str) -> list[list[list[str]]]:
    """Return the tables in a text, as rows of cells: with their heads, and without the rulers."""
    found = []
    for block in re.findall(r"(?:^\|.*\|$\n?)+", text, re.MULTILINE):
        lines = [line for line in block.splitlines() if not re.fullmatch(r"[| -]+", line)]
        found.append([[cell.strip() for cell in line.strip("|").split("|")] for line in lines])
    return found


def links(path: Path) -> Iterator[str]:
    """Return the targets of the links in a page, except those to other sites."""
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(path)):
        if "://" not in target and not target.startswith("mailto:"):
            yield target


def broken(target: str, base: Path) -> str | None:
    """Return why a link in a page is broken, or None."""
    file, _, anchor = target.partition("#")
    path = (base.parent / file).resolve() if file else base
    if not path.exists():
        return f"{base.relative_to(ROOT)}: {target}: no such page"
    if anchor and anchor not in anchors(path):
        return f"{base.relative_to(ROOT)}: {target}: no such heading"
    return None


class Session(NamedTuple):
    """The terminal sessions under a heading: shell commands, commands in a guest, and their output.

    `commands`, `guest` and `output` have all lines of their kind. `shown` and `typed` have one text for
    each shell command: its output, and the commands for the guest that it starts, one in a line.
    """

    commands: list[str]
    guest: list[str]
    output: list[str]
    shown: list[str]
    typed: list[str]


def session(path: Path, heading: str) -> Session:
    """Return the sessions in the code blocks between a heading and the next one.

    A shell command follows the prompt "$ ", a guest's command "/ # ". A command continues after a backslash
    at the end of its line, and to the end of its here document. All other lines are output.
    """
    found = Session([], [], [], [], [])
    lines = iter("".join(blocks(path, heading)).splitlines())
    for line in lines:
        if line.startswith("$ "):
            found.commands.append(_whole(line[2:], lines))
            found.shown.append("")
            found.typed.append("")
        elif line.startswith("/ # "):
            found.guest.append(line[4:])
            found.typed[-1] += f"{line[4:]}\n"
        else:
            found.output.append(line)
            found.shown[-1] += f"{line}\n"
    return found


def headings(path: Path) -> list[str]:
    """Return the headings of a page, in order."""
    return re.findall(r"^#+ (.+)$", text_of(path), re.MULTILINE)


def whole(path: Path, leave: Iterable[str] = ()) -> Session:
    """Return all sessions of a page as one, in order, except those under the headings in `leave`."""
    parts = [session(path, heading) for heading in headings(path) if heading not in leave]
    return Session(*([each for part in parts for each in getattr(part, field)] for field in Session._fields))


def blocks(path: Path, heading: str, language: str = "") -> list[str]:
    """Return the code blocks of one language under a heading. A comment in a block is no heading."""
    text = path.read_text("utf-8")
    begin = re.search(rf"^#+ {re.escape(heading)}$", text, re.MULTILINE)
    assert begin, f"{path.name} has no heading {heading!r}"
    pieces = re.split(r"^```(\w*)\n(.*?)^```$", text[begin.end() :], flags=re.MULTILINE | re.DOTALL)
    found = []
    for prose, kind, code in zip(pieces[::3], pieces[1::3], pieces[2::3], strict=False):
        if re.search(r"^#+ ", prose, re.MULTILINE):
            break
        if kind == language:
            found.append(code)
    return found


def programs(path: Path) -> dict[str, str]:
    """Return the blocks of Python and C before which a paragraph names a file, such as `program.py`."""
    named = re.compile(r"`(\w+\.(?:py|c))`[^\n]*\n\n```(?:python|c)\n(.*?)^```$", _LONG)
    found = named.findall(path.read_text("utf-8"))
    return dict(found)


class Block(NamedTuple):
    """A code block with its heading and its language. `indented` is True if it has no fence."""

    heading: str
    kind: str
    code: str


def all_blocks(path: Path) -> list[Block]:
    """Return every code block in order: fenced ones, and lines indented by four blanks outside of lists."""
    found, heading, fence = [], "", ""
    for part in re.split(r"(^```\w*\n.*?^```$\n?|^#+ [^\n]+$)", path.read_text("utf-8"), flags=_LONG):
        if part.startswith("#"):
            heading = part.lstrip("#").strip()
        elif part.startswith("```"):
            fence, code = part.split("\n", 1)
            found.append(Block(heading, fence.removeprefix("```"), code.rsplit("```", 1)[0]))
        else:
            lines = re.findall(r"(?:(?<=\n\n)|\A)((?:^    \S.*\n?)+)", part, re.MULTILINE)
            found += [Block(heading, "indented", lines) for lines in lines]
    return found


def _whole(first: str, lines: Iterator[str]) -> str:
    """Return a command with the lines that continue it, which are removed from the input."""
    command = first
    while command.endswith("\\"):
        command += "\n" + next(lines)
    here = re.search(r"<<'?(\w+)", command)
    if here:
        document = takewhile(lambda line: line != here[1], lines)
        command = "\n".join([command, *document, here[1]])
    return command
