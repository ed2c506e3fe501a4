"""swpks accepts every command that a message advises, exactly as it is printed."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from hcall_abi.remedies import REMEDIES
from hcall_server.console.advice import at_store
from hcall_server.console.lines.run import COMMANDS, usage_of
from swpks.hmc.names import LINES
from swpks.hmc.verb_remedies import at_end
from tests.swpks.commands import takes

ROOT = Path(__file__).parents[2]
ROOMS = ("hcall_server", "hcall_client", "swpks", "spec/hcall_abi")
SHOWN_ALONE = ("swpks/demo/", "swpks/testing/")
"""Rooms whose texts show commands that they run themselves, so a wrong command fails there."""
FILLED = ("NAME", "64", "NEXT", " --state DIR ", "tpm", "lstskey")
"""Values for the holes of a message in a command."""
HOLE = "\0"
QUOTED = re.compile(r"`([^`]+)`")
BARE = re.compile(r"(?<!`)\bswpks (?:hmc|lpar|serve|asmi)\b(?! server)[^`;:,()\n]*")
ADVICE = re.compile(f"swpks (?:hmc|lpar|serve|asmi) |`(?:swpks|{'|'.join(LINES)}) ")
"""A file without such words has no advice: parsing every file takes a second."""
_FIELD = re.compile(r"\{\w+\}")
"""A field that `str.format` fills."""
PROSE = re.compile(r" (?:shows|refuses|lists|and|or|first|then|for each)\b.*|\.*$")
"""The sentence around a command, and its full stop."""


def texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield each string of a module, except docstrings, with its line.

    The placeholder HOLE replaces each value of an f-string.
    """
    expressions = {id(each.value) for each in ast.walk(tree) if isinstance(each, ast.Expr)}
    pieces = set[int]()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            pieces.update(map(id, node.values))
            parts = [str(each.value) if isinstance(each, ast.Constant) else HOLE for each in node.values]
            yield node.lineno, _FIELD.sub(HOLE, "".join(parts))
    for node in ast.walk(tree):
        free = isinstance(node, ast.Constant) and id(node) not in expressions | pieces
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and free:
            yield node.lineno, _FIELD.sub(HOLE, node.value)


def advised(text: str) -> list[str]:
    """Return the commands that a text advises.

    A command is in backquotes. Without backquotes it ends at the end of its clause.
    """
    quoted = [each for each in QUOTED.findall(text) if each.split()[0] in ("swpks", *LINES)]
    bare = [each[0] for each in BARE.finditer(QUOTED.sub("", text)) if each.start()]
    return [*quoted, *(PROSE.sub("", each) for each in bare)]


def in_the_code() -> Iterator[tuple[str, str]]:
    """Return each command that the code advises, with its place in the code."""
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            where, source = str(path.relative_to(ROOT)), path.read_text()
            if ADVICE.search(source) and not where.startswith(SHOWN_ALONE):
                for number, text in texts(ast.parse(source)):
                    yield from ((f"{where}:{number}", each) for each in advised(text))


def is_taken(text: str) -> bool:
    """Return whether swpks accepts a command after some value has replaced each HOLE in it."""
    parts = text.replace("[NAME=]", "NAME=").removesuffix("...").split(HOLE)
    for values in product(FILLED, repeat=len(parts) - 1):
        whole = parts[0] + "".join(value + part for value, part in zip(values, parts[1:], strict=True))
        if takes(shlex.split(whole)):
            return True
    return False


def test_each_advised_command_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    """The real parsers accept each advised command: its verbs, its options and the order of its words."""
    found = sorted(set(in_the_code()))
    assert [(where, text) for where, text in found if not is_taken(text)] == []
    assert len(found) > 60
    assert any(text.startswith("chtskey ") for _, text in found)
    assert any(text.startswith("swpks serve --state") for _, text in found)
    places = {where.partition("/")[0] for where, _ in found}
    assert places == {"hcall_client", "hcall_server", "spec", "swpks"}


def test_each_remedy_is_taken_at_its_end() -> None:
    """The commands of each remedy are accepted after the console or the command has put its end into them."""
    for rule_id, remedy in REMEDIES.items():
        for whole in (at_store(remedy, "/hmc"), at_end(remedy, "--state /state")):
            wrong = [each for each in advised(whole) if not is_taken(each)]
            assert wrong == [], rule_id


def test_a_wrong_advice_is_found() -> None:
    """The search finds a wrong command in a text, and the parsers refuse it."""
    assert advised("is off: swpks hmc power on lpar1.") == ["swpks hmc power on lpar1"]
    assert advised("see `swpks hmc jobs -x`, which") == ["swpks hmc jobs -x"]
    assert not is_taken("swpks hmc --store /hmc name NAME --state DIR")
    for wrong in ("swpks hmc power on lpar1", "swpks hmc jobs -x", "chtskey -o restore -x FILE"):
        assert not is_taken(wrong)


def test_a_line_has_its_help() -> None:
    """`LINE --help` works for every line of the console."""
    assert any("`COMMAND --help`" in each for each in REMEDIES.values())
    assert all(usage_of(name).startswith("Usage: ") for name in COMMANDS)


def test_a_command_names_the_store_of_its_console() -> None:
    """An advised `swpks hmc` command names the store, so it works without SWPKS_HMC.

    A command that has `--store` already stays unchanged; so does a line of the console.
    """
    advice = at_store("`swpks hmc jobs`, `swpks hmc serve --store DIR`, `lstskey -m SYS`; swpks hmc", "/a b")
    assert advice == (
        "`swpks hmc --store '/a b' jobs`, `swpks hmc serve --store DIR`, `lstskey -m SYS`; swpks hmc"
    )
    assert at_store("`swpks hmc jobs`", "") == "`swpks hmc jobs`"
    assert is_taken(at_store("`swpks hmc jobs`", "/a b").strip("`"))
