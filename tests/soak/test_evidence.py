"""docs/evidence.md is true: its commands are those of the Makefile, its figures those of full runs."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages.page_blocks import PageBlocks
from tests.soak.__main__ import commit_of, parsed
from tests.soak.parts import ETCD_ROUNDS, KILLS, PARTS, ROUNDS, RUNS, STATES
from tests.spec.markdown import ROOT

PAGE = (ROOT / "docs" / "evidence.md").read_text("utf-8")
COMMANDS = re.findall(r"^    (make soak[^\n]*?)(?:  .*)?$", PAGE, re.MULTILINE)
LINES = {part["part"]: part for part in map(json.loads, re.findall(r'^\{"part".*\}$', PAGE, re.MULTILINE))}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_page(command: str, page_blocks: PageBlocks) -> None:
    """`make` accepts each command on the page, with its arguments."""
    assert [re.split("   +", line)[0] for line in page_blocks.lines()] == COMMANDS
    shown = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", *shlex.split(command)[1:]],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    (program,) = (line for line in shown.splitlines() if "-m tests.soak" in line)
    words = shlex.split(program)
    given = parsed(words[words.index("tests.soak") + 1 :])
    assert set(given.parts) <= PARTS.keys()
    assert 0 < given.scale <= 1


def test_every_part_has_its_figures() -> None:
    """The page has the output of each part, and the command with the seed of that run."""
    assert LINES.keys() == PARTS.keys()
    given = [
        parsed(shlex.split(shlex.split(command)[2].removeprefix("SOAK_ARGS="))) for command in COMMANDS[3:]
    ]
    assert {(*each.parts,) for each in given} == {(name,) for name in PARTS}
    for each in given:
        assert each.parts == ["nth-faults"] or LINES[each.parts[0]]["seed"] == each.seed


def test_the_figures_are_those_of_their_scale() -> None:
    """Each figure on the page is at least its share of the full figure, and from an unchanged tree."""
    assert not any(line.get("commit", "").endswith("-dirty") for line in LINES.values())
    scale = {name: line["scale"] for name, line in LINES.items()}
    states = sum(number for name, number in LINES["power-cuts"].items() if name.startswith("states"))
    assert LINES["kills"]["kills"] >= KILLS * scale["kills"]
    assert states >= STATES * scale["power-cuts"]
    assert LINES["linearizability"]["rounds"] == ROUNDS * scale["linearizability"]
    assert LINES["etcd"]["rounds"] >= ETCD_ROUNDS * scale["etcd"]
    for name, runs in RUNS.items():
        assert LINES["fuzzing"][f"{name}: runs"] >= runs * scale["fuzzing"]


@pytest.mark.process
@pytest.mark.usefixtures("not_measured")
def test_a_run_of_the_command(soak_folder: Path) -> None:
    """A run of a part prints its line and leaves no files."""
    command = [sys.executable, "-m", "tests.soak", "linearizability", "--scale", "0.001", "--seed", "9"]
    done = subprocess.run(
        [*command, "--keep", str(soak_folder)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    line = json.loads(done.stdout)
    assert (line["part"], line["rounds"], line["seed"]) == ("linearizability", ROUNDS // 1000, "9")
    assert line["commit"].removesuffix("-dirty") == commit_of(ROOT).removesuffix("-dirty")
    assert list(soak_folder.iterdir()) == []


def git(folder: Path, *arguments: str) -> str:
    """Run git as a user of the test, without the settings of this machine."""
    settings = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@localhost", *arguments]
    environment = os.environ | settings
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_line_names_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line has the short commit id, with a mark if a file differs, or "unknown" without git."""
    assert commit_of(tmp_path) == "unknown"
    git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("first")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-qm", "first")
    name = git(tmp_path, "rev-parse", "HEAD")[:12]
    assert commit_of(tmp_path) == name
    (tmp_path / "file").write_text("second")
    assert commit_of(tmp_path) == f"{name}-dirty"
    (tmp_path / "inner").mkdir()
    assert commit_of(tmp_path / "inner") == "unknown", "an unpacked archive may lie in another project"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit_of(tmp_path) == "unknown"


def test_a_part_that_fails_says_how_to_repeat_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If a part fails, the message has the seed, the command to repeat it, and the folder of its files."""
    from tests.soak import __main__ as soak

    def broken(place: object) -> dict[str, int]:
        raise AssertionError("a promise is broken")

    monkeypatch.setitem(PARTS, "kills", broken)
    assert soak.main(["kills", "linearizability", "--seed", "5", "--keep", str(tmp_path)]) == 1
    line = capsys.readouterr().err
    assert "a promise is broken" in line
    assert "make soak SOAK_ARGS='kills --seed 5' SOAK_SCALE=1" in line
    assert str(tmp_path / "kills") in line


def test_a_part_that_is_not_there() -> None:
    """An unknown name ends the command before any part runs."""
    with pytest.raises(SystemExit):
        parsed(["kill"])
