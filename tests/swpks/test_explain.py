"""`swpks explain`: whatever an error cites is shown as text, and an unknown name has its nearest ones."""

from __future__ import annotations

import re

import pytest

from hcall_abi.messages import NO_NUMBER, OWN, message_number
from hcall_abi.rules.catalogue import RULES
from hcall_abi.statuses import Status
from swpks.cli import pages
from swpks.cli.explain import explained, rules_of
from swpks.cli.main import main
from swpks.cli.plain import inline, plain
from tests.spec.markdown import SPEC, anchors

WIDTH = 90
NOISE = re.compile(r"\]\(|\*\*|^#|^\||^```|`|^<!--|<a id", re.MULTILINE)
"""Marks of Markdown that a terminal does not show as such."""


@pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))
def test_every_rule_is_explained(rule) -> None:
    """Id, sentence, page, and the text of its section, without marks."""
    text = explained(rule.id, WIDTH)
    head, _, section = text.partition("\n\n")
    assert head.startswith(f"rule {rule.id}\n  {inline(rule.sentence)}\n  broken: {rule.fault.value} fault")
    assert head.endswith(f"page: {rule.page}")
    assert f"({rule.page})" in section.splitlines()[0]
    assert len(section.splitlines()) > 3
    assert NOISE.search(text) is None, NOISE.search(text)


@pytest.mark.parametrize("page", pages.names())
def test_every_page_is_shown(page: str) -> None:
    """Whole, by its name, without marks, in lines of the width; code may be longer."""
    text = explained(page, WIDTH)
    prose = [line for line in text.splitlines() if not line.startswith("    ")]
    assert NOISE.search("\n".join(prose)) is None, NOISE.search("\n".join(prose))
    assert [line for line in prose if len(line) > WIDTH and " " in line.strip()] == []
    assert explained(page.removeprefix("spec/").removesuffix(".md"), WIDTH) == text


def test_every_heading_is_shown() -> None:
    """The anchors are those of links between the pages."""
    for page in pages.names():
        found = {section.anchor for section in pages.sections(page)}
        assert found == anchors(SPEC / page.removeprefix("spec/")), page


def test_pages_are_those_of_the_contract() -> None:
    """All of them, in a checkout as in an installation."""
    assert set(pages.names()) == {f"spec/{page.relative_to(SPEC)}" for page in SPEC.rglob("*.md")}


@pytest.mark.parametrize("number", ["SWPK0701", "swpk0701", "HSCL8012", *OWN.values()])
def test_message_numbers(number: str) -> None:
    """Ours and those of the real console, in any case."""
    found = rules_of(number)
    assert found
    assert all(message_number(rule) == number.upper() for rule in found)
    assert all(f"rule {rule.id}\n" in explained(number, WIDTH) for rule in found)
    assert f"message number: {number.upper()}" in explained(number, WIDTH)


def test_a_section_has_the_sections_below_it() -> None:
    """And ends at the next one of its rank."""
    text = explained("spec/service.md#ready", WIDTH)
    assert text.startswith("Ready (spec/service.md#ready)\n-----")
    assert "SIGTERM" not in text
    assert explained("service#ready", WIDTH) == explained("service.md#Ready", WIDTH) == text


def test_a_call_is_found_by_its_name() -> None:
    """The log has READ_OBJECT."""
    assert explained("READ_OBJECT", WIDTH) == explained("spec/hcalls/read_object.md", WIDTH)


@pytest.mark.parametrize(
    "name,nearest",
    [
        ("object.exist", "object.exists"),
        ("SWPK0799", "SWPK07"),
        ("spec/protocoll.md", "spec/protocol.md"),
        ("protocol#framig", "spec/protocol.md#framing"),
    ],
)
def test_an_unknown_name(name: str, nearest: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, a usage error, and the nearest names."""
    assert main(["explain", name]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "the nearest are " in told.err
    assert nearest in told.err.partition("the nearest are ")[2].partition(" [")[0]
    assert "rule explain.known" in told.err


@pytest.mark.parametrize("name", ["", "#", "../README.md", "/etc/passwd", NO_NUMBER, "\x1b[31m"])
def test_other_names_show_no_file(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No path leads out of the pages; without a name there is the list of them."""
    status = main(["explain", name])
    told = capsys.readouterr()
    assert (status == 0) == (name == "")
    assert "\x1b" not in told.err
    if name == "":
        assert told.out.split() == list(pages.names())


def test_text_without_marks() -> None:
    """Links, code, emphasis, lists, tables and code blocks."""
    markdown = (
        "# Head\n\nA [link with `code`](x.md#y) and **bold** *words*, `a_b*c` [x].\n\n"
        "- one\n  more\n- `--flag`\n\n| a | b |\n| --- | --- |\n| 1 | `2` |\n\n```sh\n$ run *\n```\n"
    )
    shown = [
        *("HEAD", "", "A link with code and bold words, a_b*c [x].", "", "- one more", "- --flag", ""),
        *("a  b", "1  2", "", "    $ run *"),
    ]
    assert plain(markdown, 80).split("\n") == shown


def test_a_wide_table_becomes_a_list() -> None:
    """With the heads of its columns, in lines of the width."""
    markdown = f"| name | meaning |\n| --- | --- |\n| x | {'long words ' * 10}|\n"
    lines = plain(markdown, 50).splitlines()
    assert lines[0] == "x"
    assert lines[1].startswith("    meaning: long words")
    assert max(map(len, lines)) <= 50


@pytest.mark.parametrize("status", Status)
def test_every_status_is_explained(status: Status) -> None:
    """With its number, and each rule that it answers."""
    text = explained(status.name.lower(), 100)
    assert text.startswith(f"status {status.name} ({status.value})\n  h-calls: ")
    answered = {rule.id for rule in RULES.values() if rule.answer is status}
    assert {each for each in answered if f"  {each}: " in text} == answered
