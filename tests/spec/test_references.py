"""Every page and heading to which the code or a page refers exists."""

import re
from collections.abc import Iterator

import pytest

from hcall_abi.frames import FrameType
from hcall_abi.rules.catalogue import RULES
from hcall_abi.rules.rule import Rule
from tests.spec.markdown import ROOT, SPEC, anchors, broken, links

FOLDERS = ["spec/hcall_abi", "hcall_server", "hcall_client", "tools", "bench"]
SOURCES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
PAGES = [*SPEC.rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
NAMED = re.compile(r"spec/([\w/-]+\.md)(?:#([\w-]*)(\{)?)?")


def missing(page: str, anchor: str | None, where: str) -> Iterator[str]:
    """Yield what is wrong with a reference to a page, if anything."""
    path = SPEC / page
    if not path.is_file():
        yield f"{where}: spec/{page}: no such page"
    elif anchor and anchor not in anchors(path):
        yield f"{where}: spec/{page}#{anchor}: no such heading"


def references() -> Iterator[str]:
    """Yield every broken reference in the sources."""
    for source in SOURCES:
        text = source.read_text("utf-8")
        where = source.relative_to(ROOT).as_posix()
        for match in NAMED.finditer(text):
            yield from missing(match[1], None if match[3] else match[2], where)


def test_pages_and_headings_that_code_names() -> None:
    """Each `spec/page.md#heading` in docstrings, error sections and logs exists."""
    assert sorted(set(references())) == []


@pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))
def test_pages_of_rules(rule: Rule) -> None:
    """The page and the heading that a rule names exist; each refusal by the rule shows them."""
    match = NAMED.fullmatch(rule.page)
    assert match, rule.page
    assert match[2], f"{rule.page} has no heading"
    assert list(missing(match[1], match[2], rule.id)) == []


def test_every_frame_has_its_heading() -> None:
    """The page has a heading with the name of each frame, because rules and vectors refer to it."""
    assert {kind.name.lower() for kind in FrameType} <= anchors(SPEC / "protocol.md")


@pytest.mark.parametrize("page", PAGES, ids=[page.relative_to(ROOT).as_posix() for page in PAGES])
def test_links_between_pages(page) -> None:
    """Every relative link leads to an existing file, and to a heading in it."""
    assert [why for target in links(page) if (why := broken(target, page))] == []


def test_nothing_private_in_the_pages() -> None:
    """The pages name only public sources, and no path of a developer's machine."""
    for page in PAGES:
        text = page.read_text("utf-8")
        assert not re.search(r"(?<![\w.])/(?:work|tmp|home|root)/", text), page
        assert "pks-abi" not in text, page
