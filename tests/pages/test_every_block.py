"""A test runs each code block of README.md and docs/, or `table.py` has a reason why not."""

import ast
import re
import shlex
import subprocess
from functools import partial
from itertools import chain

import pytest

from tests.pages.page_blocks import PageBlocks, given_to
from tests.pages.table import ELSEWHERE, IN_SOAK, NOT_RUN, WHOLE, Elsewhere
from tests.soak.parts import PARTS
from tests.spec.markdown import ROOT, Block, all_blocks, programs

PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
RUN_AS_A_WHOLE = {row.page for row in WHOLE}
OTHERS = (*ELSEWHERE, *IN_SOAK, *NOT_RUN)


def named(page: str, block: Block) -> bool:
    """Return whether a row of the table names this block."""
    own = any(row.page == page and row.names(block) for row in ELSEWHERE)
    return own or any(
        (row.page, getattr(row, "kind", "")) == (page, block.kind) and row.heading in (block.heading, "*")
        for row in (*IN_SOAK, *NOT_RUN)
    )


def whole(page: str, block: Block) -> bool:
    """Return whether a block is run with its whole page: a session, or a program that a session runs."""
    return page in RUN_AS_A_WHOLE and (not block.kind or block.code in programs(ROOT / page).values())


def left_out(page: str) -> list[Block]:
    """Return the blocks of a page that no test runs."""
    return [block for block in all_blocks(ROOT / page) if not (named(page, block) or whole(page, block))]


@pytest.mark.parametrize("page", PAGES)
def test_no_block_is_left_out(page: str) -> None:
    """Each block has a row, or is run with its whole page."""
    assert left_out(page) == []


def test_a_block_that_is_left_out_is_found(tmp_path, monkeypatch) -> None:
    """In a new page, a session, a program or an indented command without a row is reported."""
    page = tmp_path / "new.md"
    page.write_text(
        "# New\n\n```\n$ true\n```\n\n```python\nprint()\n```\n\n## Below\n\nSo:\n\n    make it\n"
    )
    monkeypatch.setattr("tests.pages.test_every_block.ROOT", tmp_path)
    found = [(block.heading, block.kind) for block in left_out("new.md")]
    assert found == [("New", ""), ("New", "python"), ("Below", "indented")]


@pytest.mark.parametrize("row", OTHERS, ids=lambda row: f"{row.page}: {row.heading}, {row[2][:40]}")
def test_no_row_is_left_over(row) -> None:
    """Each row has a block. An old row would excuse a new block under the same heading."""
    kind = getattr(row, "kind", "")
    blocks = all_blocks(ROOT / row.page)
    mine = [block for block in blocks if block.kind == kind and row.heading in (block.heading, "*")]
    assert any(getattr(row, "has", "") in block.code for block in mine)


@pytest.mark.parametrize("test", sorted({row.test for row in ELSEWHERE}))
def test_a_named_test_takes_its_blocks(test: str) -> None:
    """Each test that a row names exists, and uses the fixture `page_blocks`."""
    file, _, function = test.partition("::")
    defined = ast.walk(ast.parse((ROOT / file).read_text("utf-8")))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    (found,) = (node for node in defined if isinstance(node, functions) and node.name == function)
    assert "page_blocks" in {argument.arg for argument in found.args.args}


def test_a_block_that_a_test_does_not_take_is_found() -> None:
    """The fixture reports sessions, programs and lines that the test has not used.

    Blocks of other rows do not count.
    """
    given = PageBlocks(
        [Elsewhere("docs/testing.md", "*", "", ""), Elsewhere("docs/testing.md", "*", "python", "")]
    )
    assert {block.kind for block in given.left} == {"", "python"}
    assert len(given.programs()) > 1
    assert {block.kind for block in given.left} == {""}
    assert len(given.session().commands) > 1
    assert given.left == []
    own = PageBlocks([Elsewhere("README.md", "From your own code", "python", "", "test_my_runbook")])
    assert own.lines() == []
    assert len(own.left) == 1


def test_a_test_that_leaves_a_block_out_fails() -> None:
    """If a test passes and leaves a block out, it fails; a skipped one does not.

    A test without a row is an error.
    """
    name = ELSEWHERE[0].test
    for passed, taken, fails in ((True, False, True), (True, True, False), (False, False, False)):
        fixture = given_to(name, partial(bool, passed))
        given = next(fixture)
        if taken:
            assert given.programs()
        with pytest.raises(AssertionError if fails else StopIteration) as caught:
            next(fixture)
        assert ("leaves out blocks" in str(caught.value)) == fails
    with pytest.raises(AssertionError, match=r"no row for tests/x\.py::test"):
        next(given_to("tests/x.py::test", lambda: True))


@pytest.mark.parametrize("row", IN_SOAK)
def test_a_named_part_of_the_soak_exists(row) -> None:
    """If a row names a part of `make soak`, the part exists, and its module names the page."""
    assert row.part in PARTS
    module = ROOT / "tests" / "soak" / f"{row.part.replace('-', '_')}.py"
    assert row.page.rpartition("/")[2] in module.read_text("utf-8")


def test_a_row_that_is_not_run_has_a_reason() -> None:
    """Few blocks are not run, and the row of each has a reason."""
    assert len(NOT_RUN) <= 8
    assert all(len(row.reason.split()) > 5 for row in NOT_RUN)


def test_every_make_target_of_the_pages_exists() -> None:
    """Each `make` target that a page names exists."""
    lines = (
        re.findall(r"(?:^ *|`)(make [a-z][^`\n#]*)", (ROOT / page).read_text("utf-8"), re.M) for page in PAGES
    )
    words = {shlex.split(re.split(r"   +|\.\.\.", line)[0])[1] for line in chain.from_iterable(lines)}
    assert {"demo", "test", "setup", "soak"} <= words
    command = ["make", "--dry-run", "--no-print-directory", *sorted(words)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
