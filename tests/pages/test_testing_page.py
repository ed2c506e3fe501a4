"""docs/testing.md is true: its project runs in an empty folder, and its programs are tests of this module."""

import ast
import inspect
import re
from typing import Any

import pytest

from swpks.testing import (
    BlockingPartition,
    EmulatedPartition,
    ServerProcess,
    emulated_console,
    fresh_partition,
)
from tests.pages.ends import repository
from tests.pages.page_blocks import PageBlocks
from tests.pages.sessions import ONLY_OURS, run, shows
from tests.spec.markdown import ROOT, tables

PAGE = ROOT / "docs" / "testing.md"
TEXT = PAGE.read_text("utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)

# pytest finds the tests of the page here, with their marks, as in the reader's file.
exec(compile("\n".join(PROGRAMS), str(PAGE), "exec"))


def test_every_program_is_collected(page_blocks: PageBlocks) -> None:
    """A block whose test nobody collects would not be tried."""
    assert page_blocks.programs() == PROGRAMS
    assert len(PROGRAMS) == 6
    for program in PROGRAMS:
        names = [each.name for each in ast.parse(program).body if hasattr(each, "name")]
        assert names
        assert all(name.startswith("test_") and name in globals() for name in names)


@pytest.mark.usefixtures("not_measured")
def test_the_project_of_the_page(tmp_path, monkeypatch, page_blocks: PageBlocks) -> None:
    """In an empty folder, each command answers as shown, also to wrong options."""
    for name, value in ONLY_OURS.items():
        monkeypatch.setenv(name, value)
    page = page_blocks.session()
    commands = list(page.commands)
    assert len(commands) == 7
    commands[-1] += " || true"  # the shell would end at a failure
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    *written, _ = run(repository(tmp_path / "repository"), commands)
    for command, shown, found in zip(commands, page.shown, written, strict=True):
        assert shows(shown, found), f"$ {command}\n{found}"


def test_the_options_are_those_of_the_fixtures() -> None:
    """The tables have every option, with its default."""
    makers: tuple[Any, ...] = (fresh_partition, emulated_console, ServerProcess)
    for table, maker in zip(tables(TEXT)[2:], makers, strict=True):
        documented = {name: row[1] for row in table[1:] for name in re.findall(r"`(\w+)`", row[0])[:3]}
        found = {name: each.default for name, each in inspect.signature(maker).parameters.items()}
        found.pop("state", None)
        assert set(documented) == set(found)
        for name, default in documented.items():
            if default not in ("as above", '`"off"`'):
                assert _plain(ast.literal_eval(default.strip("`"))) == _plain(found[name])


def test_the_members_are_those_of_both_partitions() -> None:
    """Each name of the table is one of the classes; the asynchronous one has no `run`."""
    documented = {name for row in tables(TEXT)[1][1:] for name in re.findall(r"`(\w+)[`(]", row[0])}
    functions = documented - {"channel", "machine", "partition", "nvram"}
    assert functions <= set(vars(BlockingPartition))
    assert functions - set(vars(EmulatedPartition)) == {"run"}


def _plain(value: Any) -> Any:
    """A default in the types of the page."""
    if hasattr(value, "items"):
        return {key: list(each) for key, each in value.items()}
    return list(value) if isinstance(value, tuple | list) else value
