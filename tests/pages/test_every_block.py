"""No code block of README.md and docs/ is outside of a test: each is run, or has a reason (`table.py`)."""

import ast
import re
import shlex
import subprocess
from itertools import chain

import pytest

from tests.pages.table import ELSEWHERE, IN_SOAK, NOT_RUN, WHOLE
from tests.soak.parts import PARTS
from tests.spec.markdown import ROOT, Block, all_blocks, programs

PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
RUN_AS_A_WHOLE = {row.page for row in WHOLE}
OTHERS = (*ELSEWHERE, *IN_SOAK, *NOT_RUN)


def named(page: str, block: Block) -> bool:
    """Whether a row of its own has this block."""
    return any(
        (row.page, getattr(row, "kind", "")) == (page, block.kind) and row.heading in (block.heading, "*")
        for row in OTHERS
    )


def whole(page: str, block: Block) -> bool:
    """Whether the block is of a page that is run as a whole: a session, or a program that a session runs."""
    return page in RUN_AS_A_WHOLE and (not block.kind or block.code in programs(ROOT / page).values())


def left_out(page: str) -> list[Block]:
    """The blocks of a page that nothing runs."""
    return [block for block in all_blocks(ROOT / page) if not (named(page, block) or whole(page, block))]


@pytest.mark.parametrize("page", PAGES)
def test_no_block_is_left_out(page: str) -> None:
    """A new block makes a row necessary, unless the whole page is run."""
    assert left_out(page) == []


def test_a_block_that_is_left_out_is_found(tmp_path, monkeypatch) -> None:
    """A new page with a session, a program and an indented command: all three are found."""
    page = tmp_path / "new.md"
    page.write_text(
        "# New\n\n```\n$ true\n```\n\n```python\nprint()\n```\n\n## Below\n\nSo:\n\n    make it\n"
    )
    monkeypatch.setattr("tests.pages.test_every_block.ROOT", tmp_path)
    found = [(block.heading, block.kind) for block in left_out("new.md")]
    assert found == [("New", ""), ("New", "python"), ("Below", "indented")]


@pytest.mark.parametrize("row", OTHERS, ids=lambda row: f"{row.page}: {row.heading}, {row[2][:40]}")
def test_no_row_is_left_over(row) -> None:
    """Each row has a block; an old one would excuse a new block of the same heading."""
    kind = getattr(row, "kind", "")
    blocks = all_blocks(ROOT / row.page)
    assert any(block.kind == kind and row.heading in (block.heading, "*") for block in blocks)


@pytest.mark.parametrize("test", [row.test for row in ELSEWHERE])
def test_a_named_test_exists_and_reads_its_page(test: str) -> None:
    """The function is in its file, which names the page."""
    file, _, function = test.partition("::")
    source = (ROOT / file).read_text("utf-8")
    defined = {node.name for node in ast.walk(ast.parse(source)) if hasattr(node, "name")}
    (page,) = {row.page for row in ELSEWHERE if row.test == test}
    assert function in defined
    assert page.rpartition("/")[2] in source


@pytest.mark.parametrize("row", IN_SOAK)
def test_a_named_part_of_the_soak_exists(row) -> None:
    """`make soak` has it, and its module names the page."""
    assert row.part in PARTS
    module = ROOT / "tests" / "soak" / f"{row.part.replace('-', '_')}.py"
    assert row.page.rpartition("/")[2] in module.read_text("utf-8")


def test_a_row_that_is_not_run_has_a_reason() -> None:
    """There are few of them, and each says why."""
    assert len(NOT_RUN) <= 8
    assert all(len(row.reason.split()) > 5 for row in NOT_RUN)


def test_every_make_target_of_the_pages_exists() -> None:
    """In a block or in a sentence; `make` itself judges."""
    lines = (
        re.findall(r"(?:^ *|`)(make [a-z][^`\n#]*)", (ROOT / page).read_text("utf-8"), re.M) for page in PAGES
    )
    words = {shlex.split(re.split(r"   +|\.\.\.", line)[0])[1] for line in chain.from_iterable(lines)}
    assert {"demo", "test", "setup", "soak"} <= words
    command = ["make", "--dry-run", "--no-print-directory", *sorted(words)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
