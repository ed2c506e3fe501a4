"""`swpks capabilities`: its page has the same keys as its output, and its values agree with the code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import hcall_server
from hcall_abi.calls import CALLS
from hcall_abi.levels import LEVELS
from hcall_server.sealing.formats import ENVELOPE_LEVEL
from swpks.cli.main import COMMANDS, main
from tests.spec.markdown import SPEC, blocks, tables, text_of

PAGE = SPEC / "capabilities.md"
ROWS = {row[0]: row[1:] for row in tables(text_of(PAGE))[0][1:]}
KEYS = {key.strip("` ") for cell in ROWS for key in cell.split(",")}
NAMED = {key.removesuffix(".*") for key in KEYS if key.endswith(".*")}
"""Keys whose value is an object with variable names."""


@pytest.fixture
def found(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The object that the command prints."""
    assert main(["capabilities", "--json"]) == 0
    values: dict[str, Any] = json.loads(capsys.readouterr().out)
    return values


def keys(values: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """Return the paths of all values. An object whose keys are names counts as one value."""
    for name, value in values.items():
        path = f"{before}{name}"
        if path in NAMED:
            assert isinstance(value, dict), path
            yield f"{path}.*"
        elif isinstance(value, dict):
            yield from keys(value, f"{path}.")
        else:
            yield path


def test_the_page_has_every_key(found: dict[str, Any]) -> None:
    """Each key has a line on the page, and each line has a key."""
    assert set(keys(found)) == KEYS


def numbers(version: str) -> tuple[int, ...]:
    """Return the three numbers of a version."""
    return tuple(int(each) for each in version.split("."))


def test_each_key_has_its_first_release() -> None:
    """The page names a first release for each key; it is not later than this release."""
    this = numbers(hcall_server.__version__)
    for key, (since, content) in ROWS.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", since), key
        assert numbers(since) <= this, key
        assert content


def test_values_are_those_of_the_code(found: dict[str, Any]) -> None:
    """The printed levels, calls, commands and formats are those of the code."""
    assert found["version"] == hcall_server.__version__
    assert found["calls"] == {opcode.name: f"0x{int(opcode):X}" for opcode in CALLS}
    levels = {name: {opcode.name for opcode in level.calls} for name, level in LEVELS.items()}
    assert {name: set(calls) for name, calls in found["firmware_levels"].items()} == levels
    assert {f"swpks {command}" for command in COMMANDS} <= set(found["options"])
    assert "--log-calls" in found["options"]["swpks serve"]
    assert "log_calls" in found["settings"]
    assert found["formats"]["sealed"]["written"] == ENVELOPE_LEVEL
    assert all(each["written"] in each["read"] for each in found["formats"].values())
    assert found["back_ends"]["tpm"]["embedded"] is True


def test_every_kept_sealed_level_is_read(found: dict[str, Any]) -> None:
    """The test vectors have one folder for each sealed level that swpks can read."""
    kept = {int(path.name.removeprefix("level-")) for path in (SPEC / "vectors/sealed").iterdir()}
    assert set(found["formats"]["sealed"]["read"]) == kept


def test_options_of_settings_are_in_the_page_of_the_server(found: dict[str, Any]) -> None:
    """The page of the server has each option of `swpks serve`."""
    page = (SPEC / "service.md").read_text("utf-8")
    assert [
        name for name in found["options"]["swpks serve"] if name not in ("-h", "--help") and name not in page
    ] == []


def test_text_has_a_line_for_each_value(found: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Without --json, the output has the same keys, one value in a line, and no braces."""
    assert main(["capabilities"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"version: {hcall_server.__version__}" in lines
    assert "formats.sealed.read: 1, 2" in lines
    assert "back_ends.tpm.embedded: yes" in lines
    assert {line.split(":")[0].split(".")[0] for line in lines} == set(found)


@pytest.mark.usefixtures("not_measured")
def test_the_program_of_the_page_runs(tmp_path: Path) -> None:
    """The example program on the page runs; it finds the option and the firmware level."""
    (program,) = blocks(PAGE, "Capabilities", "python")
    command = tmp_path / "swpks"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m swpks "$@"\n')
    command.chmod(0o755)
    run = f"{program}\nprint(options, level)"
    found = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, check=True, env=found)
    assert done.stdout == "['--log-calls'] FW1110\n"
