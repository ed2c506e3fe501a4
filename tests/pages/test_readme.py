"""README.md is true: its examples of tests pass, and its boot is that of the recipe.

`test_whole_pages.py` runs its sessions and its program, in the order of the page.
"""

import re

import pytest

from tests.pages.sessions import absent
from tests.spec.markdown import ROOT, blocks, session

README = ROOT / "README.md"
RECIPE = session(ROOT / "docs" / "kernel.md", "Five minutes: a stock kernel")
HEADING = "From your own code"


def test_the_boot_is_that_of_the_recipe() -> None:
    """tests/qemu/test_recipe.py boots it: the same command, and a part of what is typed and shown there."""
    boot = session(README, "Under a real kernel")
    assert boot.commands == RECIPE.commands[-1:]
    assert set(boot.guest) <= set(RECIPE.guest)
    assert len(boot.output) > 3
    assert absent("\n".join(boot.output), "\n".join(RECIPE.output)) is None


def test_no_example_is_left_out() -> None:
    """Each example of a test is one of those below."""
    examples = [block for block in blocks(README, HEADING, "python") if "trio.run" not in block]
    told = {name for block in examples for name in re.findall(r"^async def (test_\w+)", block, re.MULTILINE)}
    assert len(told) == len(examples) == 3
    assert told == {"test_my_boot_code", "test_my_runbook", "test_my_guest_moves"}


def names_of(test: str) -> dict:
    """The names of the page's example that defines this test."""
    (example,) = (block for block in blocks(README, HEADING, "python") if f"def {test}" in block)
    names: dict = {}
    exec(example, names)
    return names


async def test_the_test_of_a_partition(pks_partition) -> None:
    """The example of the fixture is a test that passes."""
    await names_of("test_my_boot_code")["test_my_boot_code"](pks_partition)


async def test_the_test_of_a_console(pks_console) -> None:
    """R-45, R-46: the same for a console and its systems."""
    await names_of("test_my_runbook")["test_my_runbook"](pks_console)


@pytest.mark.pks_console(partitions={"a": ["lpar1"], "b": []})
async def test_the_test_of_a_move(pks_console) -> None:
    """R-51: the guest's channel follows its partition."""
    await names_of("test_my_guest_moves")["test_my_guest_moves"](pks_console)
