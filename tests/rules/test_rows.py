"""The rows of the rule tables: names, ids, sentences, and what a client concludes from a status."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from hcall_abi import rules
from hcall_abi.calls import CALLS, Opcode
from hcall_abi.frames import OpenStatus
from hcall_abi.rules import hcalls as rows
from hcall_abi.rules.catalogue import CHAPTERS, RULES, rows_of
from hcall_abi.rules.rule import Positional, Rule
from hcall_client.errors import OPEN_RULES, HcallError

ID = re.compile(r"[a-z]+(-[a-z0-9]+)*(\.[a-z0-9]+(-[a-z0-9]+)*)?")
LONGEST = 24
"""Words of a sentence: 20, and four more for the one that lists the characters of a name."""
COVERING = (rows.FUNCTION, rows.FUNCTION_UPDATE, rows.AUTHORITY, rows.AUTHORITY_UPDATE, rows.SPACE_UPDATE)
"""Rows that a client shows if the server has several rules for one status."""


def test_every_module_of_rules_is_a_chapter() -> None:
    """Each module with rules is a chapter. A rule outside all chapters would be on no page and in no test."""
    found = {path.stem for folder in rules.__path__ for path in Path(folder).glob("*.py")}
    chapters = {chapter.__name__.rpartition(".")[2] for chapter in CHAPTERS}
    assert found == chapters | {"__init__", "rule", "catalogue"}


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.__name__)
def test_a_constant_has_the_name_of_its_rule(chapter) -> None:
    """The constant in the code has the same words as the id, which is in the log and on the page."""
    for name, row in vars(chapter).items():
        if isinstance(row, Rule):
            assert name == row.id.upper().replace(".", "_").replace("-", "_")
            assert ID.fullmatch(row.id), row.id


def test_ids_and_sentences_are_unique() -> None:
    """No two rules have the same id or the same sentence."""
    every = [row for chapter in CHAPTERS for row in rows_of(chapter)]
    assert len(every) == len(RULES)
    assert [text for text, times in Counter(row.sentence for row in every).items() if times > 1] == []


@pytest.mark.parametrize("row", RULES.values(), ids=RULES)
def test_a_sentence_is_plain(row: Rule) -> None:
    """A rule's sentence states a fact in a few words.

    It has no full stop, because other sentences contain it.
    """
    assert row.sentence == row.sentence.strip()
    assert not row.sentence.endswith(".")
    assert "{" not in row.sentence
    assert len(row.sentence.split()) <= LONGEST, row.sentence


def test_every_rule_is_used() -> None:
    """The code uses every rule. A rule that only a test can break would be useless."""
    root = Path(__file__).resolve().parents[2]
    folders = ("spec/hcall_abi", "hcall_server", "hcall_client", "swpks")
    files = [path for folder in folders for path in (root / folder).rglob("*.py")]
    trees = [ast.parse(path.read_text("utf-8")) for path in files if path.parent.name != "rules"]
    attributes = {node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names = {node.id for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)}
    constants = {name for chapter in CHAPTERS for name, row in vars(chapter).items() if isinstance(row, Rule)}
    opening = {
        row.id.upper().replace(".", "_") for row in RULES.values() if isinstance(row.answer, OpenStatus)
    }
    assert constants - attributes - names - opening == set()


@pytest.mark.parametrize("module", ["hcall_client", "swpks.cli.hmc", "hcall_server.service.server"])
def test_the_whole_catalogue_is_loaded_by_nobody_at_start(module: str) -> None:
    """No program loads the whole catalogue at its start, because only a refusal or a tool needs all rules."""
    code = f"import sys, {module}; print('hcall_abi.rules.catalogue' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_status_with_one_rule_shows_that_rule() -> None:
    """If a status has only one rule, the client's error names the rule that the server's log has."""
    meanings = defaultdict(set)
    for row in RULES.values():
        if row.status is not None and row not in COVERING:
            meanings[row.status].add(row)
    alone = {status: found for status, found in meanings.items() if len(found) == 1}
    assert {HcallError(status, Opcode.READ_OBJECT).rule for status in alone} == set().union(*alone.values())
    assert len(alone) >= 10
    for status in meanings.keys() - alone.keys():
        for opcode in Opcode:
            row = HcallError(status, opcode).rule
            assert row in COVERING or row in meanings[status]
            assert row.status is status


def test_an_answer_to_open_shows_its_rule() -> None:
    """Each status of OPEN has one rule, which client and server both show."""
    assert {row.answer: row for row in RULES.values() if isinstance(row.answer, OpenStatus)} == OPEN_RULES
    assert OPEN_RULES.keys() == set(OpenStatus) - {OpenStatus.OPENED}


def test_positional_rules_of_one_call_name_its_argument() -> None:
    """R-76: if a rule names an argument, the status depends on the register of the argument.

    The h-call on the rule's page has an argument of that name.
    """
    named = [row for row in RULES.values() if row.argument]
    assert len(named) > 15
    for row in named:
        assert row.answer is Positional.ARGUMENT
        page = row.page.removeprefix("spec/hcalls/").partition(".md")[0]
        assert row.argument in {arg.name for arg in CALLS[Opcode[page.upper()]].args}
