"""The snippet for GitHub Actions: each of its commands runs here, in a small project.

The installation alone is not run, because it needs a network: its words are checked, and the local tree is
used.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.spec.markdown import ROOT

SNIPPET = (ROOT / "contrib" / "github-actions.yml").read_text("utf-8")
INSTALL = ["python", "-m", "pip", "install", "./swpks"]
FROM_AN_INDEX = {"pytest", "pytest-trio"}

TESTS = """
import swpks


async def test_a_new_keystore_is_empty(pks_partition):
    assert (await pks_partition.channel.call(swpks.get_config())).used_space == 0
"""
PROGRAM = """#!/bin/sh
set -e
echo data | swpks lpar lpar1 --socket "$1" write my-object --wait
swpks lpar lpar1 --socket "$1" read my-object >answer
"""


class Step(NamedTuple):
    """A step that runs commands: its name, its script, and whether it needs a failure before it."""

    name: str
    script: str
    after_failure: bool


def steps() -> Iterator[Step]:
    """Yield the steps of the snippet that run commands.

    The snippet uses two forms of YAML for them, and a third one would fail the test of the steps.
    """
    for part in re.split(r"^      - ", SNIPPET, flags=re.MULTILINE)[1:]:
        block = re.search(r"^ +run: \|\n((?: {10}.*\n)+)", part, re.MULTILINE)
        line = re.search(r"^ +run: ([^|\n].*)$", part, re.MULTILINE)
        if block or line:
            script = (
                re.sub(r"^ {10}", "", block[1], flags=re.MULTILINE) if block else (line and line[1]) or ""
            )
            yield Step(part.partition("\n")[0].removeprefix("name: "), script, "if: failure()" in part)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a test in Python and a program in another language, and swpks as a checkout in it."""
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "test_keystore.py").write_text(TESTS, "utf-8")
    (tests / "with-a-server.sh").write_text(PROGRAM, "utf-8")
    (tests / "with-a-server.sh").chmod(0o755)
    (tmp_path / "swpks").symlink_to(ROOT)
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, words in (("python", ""), ("swpks", " -m swpks")):
        (programs / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)}{words} "$@"\n', "utf-8")
        (programs / name).chmod(0o755)
    return tmp_path


def without_installation(script: str, project: Path) -> str:
    """Return a script without the line that installs swpks, after a check of its words."""
    lines = []
    for line in script.splitlines():
        words = shlex.split(line)
        if words[: len(INSTALL)] != INSTALL:
            assert "pip" not in words
            lines.append(line)
            continue
        assert set(words[len(INSTALL) :]) == FROM_AN_INDEX
        assert (project / words[len(INSTALL) - 1] / "pyproject.toml").is_file()
    return "\n".join(lines)


def run(script: str, project: Path) -> subprocess.CompletedProcess[str]:
    """Run a script as the runner of GitHub does: bash ends it at the first failure."""
    environment = os.environ | {
        "PATH": f"{project / 'programs'}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'spec'}",
        # The project has none of our other plugins, and they take most of the time.
        "PYTEST_ADDOPTS": f"--rootdir {project} -p no:hypothesispytest -p no:xdist -p no:cacheprovider",
    }
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    return subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_steps_are_those_of_the_snippet() -> None:
    """Each command of the snippet is in a step that the next test runs."""
    found = list(steps())
    assert len(found) == len(re.findall(r"^ +run:", SNIPPET, re.MULTILINE)) == 4
    assert [each.after_failure for each in found] == [False, False, False, True]
    assert sum("pip install" in each.script for each in found) == 1


@pytest.mark.process
@pytest.mark.usefixtures("not_measured")
def test_each_command_runs(project: Path) -> None:
    """The commands run one after the other in a project, and its tests pass against swpks."""
    said = ""
    for step in steps():
        done = run(without_installation(step.script, project), project)
        assert done.returncode == 0, (step.name, done.stdout, done.stderr)
        said += done.stdout
    assert "1 passed" in said
    assert (project / "answer").read_text("utf-8") == "data\n"
    assert "server.stopped" in said  # of the log, which the last step shows


@pytest.mark.process
@pytest.mark.usefixtures("not_measured")
def test_a_failed_program_fails_its_step(project: Path) -> None:
    """If the project's program fails, its step fails; otherwise nobody would learn of it."""
    (project / "tests" / "with-a-server.sh").write_text("#!/bin/sh\nexit 7\n", "utf-8")
    (step,) = (each for each in steps() if "with-a-server" in each.script)
    done = run(f"trap 'kill $!' EXIT\n{step.script}", project)
    assert done.returncode == 7
