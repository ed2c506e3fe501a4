"""Completion scripts in real shells: bash for every option, zsh and fish for the main words.

Each script has every word.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hcall_abi.levels import LEVELS
from swpks.cli import subjects
from swpks.cli.completion import SHELLS, script_of
from swpks.cli.main import COMMANDS, main, whole_parser
from swpks.cli.words import Command, tree
from swpks.hmc.names import LINES
from tests.debian.reporting import needed
from tests.spec.markdown import SPEC
from tests.swpks.shells import offers

ROOT = tree(whole_parser())
ALL = list(ROOT.all())


def words_before(command: Command) -> list[str]:
    """Return the words up to a command's name, with the word `value` for each operand on the way."""
    words, at = [command.path[0]], ROOT
    for name in command.path[1:]:
        words += ["value"] * len(at.operands) + [name]
        at = next(each for each in at.commands if each.path[-1] == name)
    return words


class Bash:
    """A bash process that completes many command lines."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def complete(self, *lines: list[str]) -> list[list[str]]:
        """Return, for each line, the words that bash offers for its last word."""
        return offers("bash", self._folder, list(lines))


@pytest.fixture(scope="module")
def bash(tmp_path_factory: pytest.TempPathFactory) -> Bash:
    """A bash that runs in an empty folder."""
    return Bash(tmp_path_factory.mktemp("bash"))


def test_the_tree_is_that_of_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """The completion tree has exactly the options of each --help, and the summaries of the commands."""
    assert {each.path[-1]: each.about for each in ROOT.commands} == COMMANDS
    for command in [each for each in ALL if each.path[-1] not in LINES]:
        with pytest.raises(SystemExit):
            main([*words_before(command)[1:], "--help"])
        shown = capsys.readouterr().out
        for option in command.options:
            assert all(name in shown for name in option.names), command.path
        offered = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", shown.split("options:")[-1]))
        known = {name for option in ROOT.all() for each in option.options for name in each.names}
        assert offered <= known | {"--"}, command.path


def test_bash_completes_every_command(bash: Bash) -> None:
    """bash offers the commands at each place where a command is allowed."""
    parents = [each for each in ALL if each.commands]
    assert len(parents) >= 3
    lines = [[*words_before(each), *["value"] * len(each.operands), ""] for each in parents]
    for parent, offered in zip(parents, bash.complete(*lines), strict=True):
        assert offered == [each.path[-1] for each in parent.commands], parent.path


def test_bash_completes_every_option(bash: Bash) -> None:
    """bash offers the options after each command, and after another option with its value."""
    options = [[name for option in each.options for name in option.names] for each in ALL]
    for command, names, offered in zip(
        ALL, options, bash.complete(*([*words_before(each), "-"] for each in ALL)), strict=True
    ):
        assert offered == names, command.path
        assert command.path[-1] in LINES or "--help" in offered
    serve = ["swpks", "serve", "--firmware", "FW1110", "--log-c"]
    assert bash.complete(serve) == [["--log-calls"]]


def test_bash_completes_every_choice(bash: Bash) -> None:
    """If an option has a list of values, bash offers them."""
    wanted = [
        ([*words_before(command), name, ""], option.choices)
        for command in ALL
        for option in command.options
        for name in option.names
        if option.choices
    ]
    assert len(wanted) > 4
    found = bash.complete(*(line for line, _ in wanted))
    assert found == [list(choices) for _, choices in wanted]
    assert bash.complete(["swpks", "serve", "--firmware=FW11"]) == [["FW1110"]]
    assert bash.complete(["swpks", "serve", "--firmware="]) == [list(LEVELS)]
    assert bash.complete(["swpks", "asmi", "--state", "x", ""]) == [["clear-all", "reset-settings"]]
    assert bash.complete(["swpks", "explain", ""]) == [list(subjects.offered())]
    assert bash.complete(["swpks", "explain", "H_PKS_WR"]) == [["H_PKS_WRITE_OBJECT", "H_PKS_WRAP_OBJECT"]]


def test_bash_completes_paths(bash: Bash) -> None:
    """bash offers folders for DIR and files for F.

    It never takes the value of an option for a command. A partition may have the name of a verb.
    """
    folder, file, verb, name = bash.complete(
        ["swpks", "serve", "--state", "bo"],
        ["swpks", "lpar", "x", "write", "--in", "ker"],
        ["swpks", "lpar", "--state", "ls", "write", "wra"],
        ["swpks", "lpar", "read", "r"],
    )
    assert folder == ["boot"]
    assert file == ["kernel image"]
    assert verb == ["wrap"]
    assert name == ["read", "rm", "revoke", "raw"]


SOME = ("serve", "write", "power", "lssyscfg", "migrlpar", "lstskey", "explain")
"""Commands whose options are tested in zsh and fish: all of them would take seconds."""


def asked() -> Iterator[tuple[list[str], set[str]]]:
    """Yield command lines; each with all words that any shell must offer for its last word."""
    for command in ALL:
        before = words_before(command)
        if command.commands:
            yield (
                [*before, *["value"] * len(command.operands), ""],
                {each.path[-1] for each in command.commands},
            )
        if command.path[-1] in SOME:
            yield [*before, "-"], {name for option in command.options for name in option.names}
        for option in command.options:
            if option.choices:
                yield [*before, option.names[-1], ""], set(option.choices)
        for n, operand in enumerate(command.operands):
            if operand.choices and operand.kind == "":
                yield [*before, *["value"] * n, ""], set(operand.choices)


PLACES: list[tuple[str, set[str]]] = [
    ("swpks serve --state bo", {"boot"}),
    ("swpks serve --state=bo", {"boot"}),
    ("swpks serve --firmware=FW11", {"FW1110"}),
    ("swpks serve --firmware FW1110 --log-c", {"--log-calls"}),
    ("swpks lpar x write --in ker", {"kernel image"}),
    ("swpks lpar --state ls write wra", {"wrap"}),
    ("swpks lpar --state=ls write wra", {"wrap"}),
    ("swpks lpar read r", {"read", "rm", "revoke", "raw"}),
    ("swpks hmc --store x lssy", {"lssyscfg"}),
    ("swpks hmc --store=x lssy", {"lssyscfg"}),
    ("swpks hmc lssyscfg -m sys1 -r sy", {"sys", "sysprof"}),
    ("swpks hmc power lpar1 o", {"on", "off"}),
    ("swpks explain H_PKS_WR", {"H_PKS_WRITE_OBJECT", "H_PKS_WRAP_OBJECT"}),
]
"""Lines whose last word depends on the words before it."""


@pytest.mark.process
@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_offers_the_words_of_the_parser(shell: str, tmp_path: Path) -> None:
    """Each real shell offers the commands, options, choices, operands and paths of the parser.

    No shell takes the value of an option for a command.
    """
    wanted = [*asked(), *((line.split(" "), words) for line, words in PLACES)]
    assert len(wanted) > 40
    found = offers(shell, tmp_path, [words for words, _ in wanted])
    for (words, expected), offered in zip(wanted, found, strict=True):
        # fish offers the whole word with its option, and adds a slash to a folder. Both are removed before
        # the comparison.
        plain = [re.sub(r"^--\w+=|/$", "", each) for each in offered]
        assert set(plain) == expected, f"{' '.join(words)}: {offered}"


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_a_shell_that_is_missing_is_named(
    shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a shell is missing in CI, the test fails and names the missing package."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=f"{shell} is not installed"):
        offers(shell, tmp_path, [["swpks", ""]])
    wanted = (SPEC.parent / "tools" / "debian-packages").read_text("utf-8").partition("  soak)")[0]
    assert f"need {shell} {shell} " in wanted


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_has_every_word(shell: str) -> None:
    """Each script has every command, option and choice of the parser."""
    script = script_of(shell)
    for command in ALL:
        assert command.path[-1] in script
        for option in command.options:
            assert all(name in script or f" {name.lstrip('-')}" in script for name in option.names)
            assert all(choice in script for choice in option.choices)


@pytest.mark.parametrize("shell", SHELLS)
def test_quotes_are_closed(shell: str) -> None:
    """Apostrophes and brackets in help texts do not break a script; the shell checks its syntax."""
    script = script_of(shell)
    assert all(len(re.findall("(?<!\\\\)'", line)) % 2 == 0 for line in script.splitlines())
    command = [needed(shell, shutil.which(shell)), "-n"]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_command_prints_it(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`swpks completion SHELL` prints the script that the wheel contains."""
    assert main(["completion", shell]) == 0
    assert capsys.readouterr().out == script_of(shell)
