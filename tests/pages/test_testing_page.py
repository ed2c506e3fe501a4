"""docs/testing.md is true: its project runs in an empty folder, and its programs are tests of this module."""

import ast
import inspect
import re
from collections.abc import Callable
from itertools import chain
from typing import Any, NamedTuple

import pytest

import swpks
from swpks.testing import (
    EmulatedConsole,
    ServerProcess,
    blocking_partition,
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

# The programs of the page are executed in this module. So pytest finds their tests and marks as in the
# reader's own file.
exec(compile("\n".join(PROGRAMS), str(PAGE), "exec"))


def test_every_program_is_collected(page_blocks: PageBlocks) -> None:
    """pytest collects each block with a test; otherwise the block would not be run."""
    assert page_blocks.programs() == PROGRAMS
    assert len(PROGRAMS) == 7
    for program in PROGRAMS:
        names = [each.name for each in ast.parse(program).body if hasattr(each, "name")]
        assert names
        assert all(name.startswith("test_") and name in globals() for name in names)


@pytest.mark.usefixtures("not_measured")
def test_the_project_of_the_page(tmp_path, monkeypatch, page_blocks: PageBlocks) -> None:
    """In an empty folder, each command gives the shown output, also with wrong options."""
    for name, value in ONLY_OURS.items():
        monkeypatch.setenv(name, value)
    page = page_blocks.session()
    commands = list(page.commands)
    assert len(commands) == 11
    # A failed command must not end the shell.
    commands[commands.index("pytest -q test_wrong.py")] += " || true"
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    *written, _ = run(repository(tmp_path / "repository"), commands)
    for command, shown, found in zip(commands, page.shown, written, strict=True):
        assert shows(shown, found), f"$ {command}\n{found}"


def test_the_options_are_those_of_the_fixtures() -> None:
    """The tables have every option of the fixtures, with its default value."""
    makers: tuple[Any, ...] = (fresh_partition, emulated_console, ServerProcess)
    for table, maker in zip(tables(TEXT)[2:5], makers, strict=True):
        documented = {name: row[1] for row in table[1:] for name in re.findall(r"`(\w+)`", row[0])[:3]}
        found = {name: each.default for name, each in inspect.signature(maker).parameters.items()}
        found.pop("state", None)
        assert set(documented) == set(found)
        for name, default in documented.items():
            if default not in ("as above", '`"off"`'):
                assert _plain(ast.literal_eval(default.strip("`"))) == _plain(found[name])


class Members(NamedTuple):
    """The table of a fixture's members: their names, and the examples."""

    names: set[str]
    examples: dict[str, str]


def members(number: int) -> Members:
    """Return a table of members. Each row must have three cells; a `|` within a cell would make it two."""
    rows = tables(TEXT)[number][1:]
    names = [re.findall(r"`(\w+)[`(]", row[0]) for row in rows]
    assert all(len(row) == 3 for row in rows)
    return Members(
        set(chain(*names)), {name[0]: row[2].strip("`") for name, row in zip(names, rows, strict=True)}
    )


def public(given: object) -> set[str]:
    """Return the public members of an object."""
    return {name for name in dir(given) if not name.startswith("_")}


async def run_example(text: str, **names: Any) -> dict[str, Any]:
    """Run an example in a table; return the names that it defines."""
    names["swpks"] = swpks
    coroutine = eval(compile(text, str(PAGE), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
    if coroutine is not None:
        await coroutine
    return names


async def test_the_members_of_both_partitions(pks_partition, pks_partition_sync) -> None:
    """The table has exactly the public members of the two partition classes.

    `open` and `run` are in one class each.
    """
    documented = members(1)
    assert documented.names == public(pks_partition_sync)
    assert documented.names - {"run"} | {"open"} == public(pks_partition)
    for example in documented.examples.values():
        await run_example(example, pks_partition_sync=pks_partition_sync)
    assert pks_partition_sync.partition.running


def before(member: str) -> list[str]:
    """Return the steps that the page requires before the example for this member of the console."""
    (item,) = re.findall(rf"^- `{member}` .*\n(?:  .*\n)*", TEXT, re.MULTILINE) or [""]
    return re.findall(r"`((?:job = |await |pks_console\.files).*?)`", item)


def options_of(member: str) -> dict[str, Any]:
    """Return the options of the pytest mark with which this example of the console runs."""
    (mark,) = re.findall(
        r"^Each example runs alone .*`@pytest\.mark\.pks_console\((.*)\)`", TEXT, re.MULTILINE
    )
    more = re.findall(rf"^- `{member}` is for a mark with `(.*?)`", TEXT, re.MULTILINE)
    options: dict[str, Any] = eval(f"dict({', '.join([mark, *more])})")
    return options


def test_the_members_of_a_console() -> None:
    """The table has exactly the public members of a console. The steps before examples name such members."""
    documented = members(5)
    assert documented.names == public(EmulatedConsole) | {"systems", "files", "log", "management"}
    assert {member for member in documented.examples if before(member)} == {
        "finish", "restart_remotely", "recover", "start_system", "start", "add",
    }  # fmt: skip


@pytest.mark.parametrize("member", members(5).examples)
async def test_an_example_of_a_console(member: str) -> None:
    """The example runs alone, after the steps that the page requires. Its job succeeds."""
    example = members(5).examples[member]
    assert f"pks_console.{member}" in example
    async with emulated_console(**options_of(member)) as console:
        names: dict[str, Any] = {"pks_console": console}
        for step in before(member):
            names = await run_example(step, **names)
        if before(member):
            assert NEEDED[member](console)
        await run_example(example, **names)
        assert all(job.state == "done" for job in console.management.jobs.all)


NEEDED: dict[str, Callable[[EmulatedConsole], bool]] = {
    "finish": lambda it: bool(it.known("a").copies),
    "restart_remotely": lambda it: not it.known("a").connected,
    "recover": lambda it: it.systems["b"].state == "Recovery",
    "start_system": lambda it: not it.systems["b"].running,
    "start": lambda it: it._scope is None,
    "add": lambda it: [each.name for each in it.management.systems] == ["a"],
}
"""The state that the steps before an example bring about."""


@pytest.mark.parametrize("member", members(1).examples)
async def test_an_example_of_a_partition(member: str) -> None:
    """Each example of a partition runs alone."""
    with blocking_partition() as partition:
        await run_example(members(1).examples[member], pks_partition_sync=partition)


def test_the_members_of_a_server(tmp_path) -> None:
    """The table has exactly the public members of a server, and each example is valid Python.

    `test_server_fixture.py` runs such calls.
    """
    documented = members(6)
    assert documented.names == public(ServerProcess(tmp_path))
    for member, example in documented.examples.items():
        assert f"swpks_server.{member}" in example
        compile(example, str(PAGE), "exec")


def _plain(value: Any) -> Any:
    """Return a default value as the page writes it: a tuple as a list, a mapping as a dict of lists."""
    if hasattr(value, "items"):
        return {key: list(each) for key, each in value.items()}
    return list(value) if isinstance(value, tuple | list) else value
