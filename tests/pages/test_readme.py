"""README.md is true: its first session, and its programs after that session, again and again."""

import sys

import pytest

from tests.pages.sessions import run, shows
from tests.spec.markdown import ROOT, blocks, session

README = ROOT / "README.md"


@pytest.mark.process
@pytest.mark.slow
def test_the_first_session_and_the_program_after_it(tmp_path) -> None:
    """R-04, R-06, R-10, R-13, R-51: each command answers as the page shows; then the program runs, twice."""
    first = session(README, "A first session")
    (program,) = (block for block in blocks(README, "From your own code", "python") if "trio.run" in block)
    (tmp_path / "program.py").write_text(program)
    again = f"{sys.executable} program.py; {sys.executable} program.py"
    *written, last = run(tmp_path, first.commands, again)
    assert len(first.commands) > 10
    for command, shown, told in zip(first.commands, first.shown, written, strict=True):
        assert shows(shown, told), f"$ {command}\n{told}"
    assert last.split() == ["b'secret'", "b'secret'"]


@pytest.mark.process
@pytest.mark.slow
def test_the_session_about_parts(tmp_path) -> None:
    """Each command of the section answers as shown: copy, lost part, recovery, first call of an erase."""
    told = session(README, "Parts that break")
    *written, _ = run(tmp_path, told.commands)
    assert len(told.commands) > 10
    for command, shown, found in zip(told.commands, told.shown, written, strict=True):
        assert shows(shown, found), f"$ {command}\n{found}"


def names_of(test: str) -> dict:
    """The names of the page's example that defines this test."""
    (example,) = (block for block in blocks(README, "From your own code", "python") if f"def {test}" in block)
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
