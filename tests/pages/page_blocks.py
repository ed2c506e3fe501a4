"""The fixture `page_blocks` gives a test the blocks of its page, and fails the test if it leaves one out.

So a row of `ELSEWHERE` (table.py) proves that its test has used every block of the row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.pages.table import ELSEWHERE, Elsewhere
from tests.spec.markdown import ROOT, Block, Session, all_blocks, session

PASSED = pytest.StashKey[bool]()


class PageBlocks:
    """The blocks of one page that a test must use."""

    def __init__(self, rows: Sequence[Elsewhere]) -> None:
        (page,) = {row.page for row in rows}
        self._path = ROOT / page
        self._blocks = [each for each in all_blocks(self._path) if any(row.names(each) for row in rows)]
        self._taken = set[str]()

    @property
    def left(self) -> list[Block]:
        """Return the blocks that the test has not used."""
        return [each for each in self._blocks if each.kind not in self._taken]

    def session(self) -> Session:
        """Return the terminal sessions as one session, in the order of the page."""
        headings = dict.fromkeys(each.heading for each in self._take(""))
        parts = [session(self._path, heading) for heading in headings]
        return Session(
            *([each for part in parts for each in getattr(part, field)] for field in Session._fields)
        )

    def programs(self, language: str = "python") -> list[str]:
        """Return the blocks of Python, or of another language."""
        return [each.code for each in self._take(language)]

    def lines(self) -> list[str]:
        """Return the lines of the indented blocks."""
        return [line.strip() for each in self._take("indented") for line in each.code.splitlines()]

    def _take(self, kind: str) -> list[Block]:
        self._taken.add(kind)
        return [each for each in self._blocks if each.kind == kind]


@pytest.fixture
def page_blocks(request: pytest.FixtureRequest) -> Iterator[PageBlocks]:
    """The blocks that the table assigns to this test, which must use all of them."""
    name = f"{request.path.relative_to(ROOT)}::{request.node.originalname}"
    yield from given_to(name, lambda: request.node.stash.get(PASSED, False))


def given_to(name: str, passed: Callable[[], bool]) -> Iterator[PageBlocks]:
    """Yield the blocks of a test. If the test has passed without one of them, fail."""
    rows = [row for row in ELSEWHERE if row.test == name]
    assert rows, f"tests/pages/table.py has no row for {name}"
    given = PageBlocks(rows)
    yield given
    # A test that was skipped or has failed is reported anyway.
    if passed():
        assert given.left == [], f"{name} leaves out blocks of its page"


def note_outcome(item: pytest.Item, report: pytest.TestReport) -> None:
    """Note whether a test has passed, for the fixture."""
    if report.when == "call":
        item.stash[PASSED] = report.passed
