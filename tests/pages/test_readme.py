"""README.md is true: its example tests pass, and it shows the boots of the other pages.

`test_whole_pages.py` runs its sessions and its program, in the order of the page.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from swpks.conformance.client.cases import CLIENT_CASES
from tests.export import captures
from tests.export.vectors import frames_of, load
from tests.pages.page_blocks import PageBlocks
from tests.pages.sessions import not_on_screen, run, screen, shows
from tests.spec.markdown import ROOT, session, whole

KERNEL, FIVE = ROOT / "docs" / "kernel.md", "Five minutes: a stock kernel"
RECIPE = session(KERNEL, FIVE)


def test_the_boot_is_that_of_the_recipe(page_blocks: PageBlocks) -> None:
    """README.md has the boot command of the recipe in docs/kernel.md, and a part of its session."""
    boot = page_blocks.session()
    assert boot.commands == RECIPE.commands[-1:]
    assert set(boot.guest) <= set(RECIPE.guest)
    assert len(boot.output) > 3
    assert not_on_screen(screen(ROOT / "README.md", "Under a real kernel"), screen(KERNEL, FIVE)) is None


def test_the_chain_is_that_of_its_page(page_blocks: PageBlocks) -> None:
    """R-77: the boots from a disk, and a part of their output, are those of docs/boot-loader.md.

    `test_boot_loader_page.py` compares that page with real boots.
    """
    chain, page = page_blocks.session(), whole(ROOT / "docs" / "boot-loader.md")
    assert len(chain.commands) == 2
    for command, shown in zip(chain.commands, chain.shown, strict=True):
        assert len(shown.splitlines()) > 4
        assert shows(shown, page.shown[page.commands.index(command)]), command


@pytest.mark.usefixtures("not_measured")
def test_a_capture_in_words(tmp_path: Path, page_blocks: PageBlocks) -> None:
    """R-81: tshark prints the shown lines, for the golden session with a password."""
    captures.exported(tmp_path / "session.pcap", frames_of(load("session-2")))
    page = page_blocks.session()
    *written, _ = run(tmp_path, page.commands)
    assert len(written) == 3
    for shown, printed in zip(page.shown, written, strict=True):
        assert has_lines(shown, printed), printed


def has_lines(shown: str, printed: str) -> bool:
    """Return whether output has the shown lines, and others only at a line `...`.

    Other dots stand for themselves: tshark prints many of them.
    """
    lines, left_out = iter(printed.splitlines()), False
    for line in shown.splitlines():
        if line != "..." and line not in (lines if left_out else [next(lines, None)]):
            return False
        left_out = line == "..."
    return left_out or next(lines, None) is None


def test_lines_are_compared() -> None:
    """Another line, a missing one, and one in the wrong place are found."""
    shown = "one\n...\nfour\n"
    assert has_lines(shown, "one\ntwo\nfour\n")
    assert has_lines("...\ntwo\n...\n", "one\ntwo\nthree\n")
    for wrong in ("", "one\n", "four\none\n", "one\ntwo\nfour\nfive\n", "two\none\nfour\n"):
        assert not has_lines(shown, wrong)


def test_the_verdict_is_that_of_a_run(page_blocks: PageBlocks) -> None:
    """R-80: the run of the judge, and a part of its output, are those of docs/conformance.md.

    `test_whole_pages.py` compares that page with a real run.
    """
    verdict, page = page_blocks.session(), whole(ROOT / "docs" / "conformance.md")
    (command,) = verdict.commands
    assert shows(verdict.shown[0], page.shown[page.commands.index(command)])
    text = (ROOT / "README.md").read_text("utf-8")
    assert f"judges a client with {len(CLIENT_CASES)} cases" in text


def the_test_of(page_blocks: PageBlocks) -> Callable[[Any], Awaitable[None]]:
    """Return the test function in the page's example."""
    (example,) = page_blocks.programs()
    names: dict[str, Any] = {}
    exec(example, names)
    (test,) = (value for name, value in names.items() if name.startswith("test_"))
    return test


async def test_the_test_of_a_partition(pks_partition, page_blocks: PageBlocks) -> None:
    """The example test with a partition passes."""
    await the_test_of(page_blocks)(pks_partition)


async def test_the_test_of_a_console(pks_console, page_blocks: PageBlocks) -> None:
    """R-45, R-46: the example test with a console and its systems passes."""
    await the_test_of(page_blocks)(pks_console)


@pytest.mark.pks_console(partitions={"a": ["lpar1"], "b": []})
async def test_the_test_of_a_move(pks_console, page_blocks: PageBlocks) -> None:
    """R-51: the example test passes: the guest's channel follows its partition."""
    await the_test_of(page_blocks)(pks_console)
