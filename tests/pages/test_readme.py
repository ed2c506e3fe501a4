"""README.md is true: its example tests pass, and it shows the boots of the other pages.

`test_whole_pages.py` runs its sessions and its program, in the order of the page.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.pages.page_blocks import PageBlocks
from tests.pages.sessions import not_on_screen, screen, shows
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
