"""The check of a page's terminal session misses nothing."""

import pytest

from tests.pages.sessions import absent, follow, not_on_screen, run, shows
from tests.spec.markdown import Session


@pytest.mark.process
def test_each_command_has_its_output(tmp_path) -> None:
    """Each command has its own output, also one that fails. The last output is that of `then`."""
    assert run(tmp_path, ["echo one", "false", "echo two"], "echo end") == ["one\n", "", "two\n", "end\n"]


@pytest.mark.process
@pytest.mark.parametrize("end", ["exit 0", "exit 3", "kill -9 $$"])
def test_a_shell_that_ends_early_is_an_error(tmp_path, end: str) -> None:
    """If the shell ends early, the last commands were not run, so the check fails."""
    with pytest.raises(AssertionError, match="the shell ended in"):
        run(tmp_path, ["echo one", end, "echo two"])


@pytest.mark.process
def test_an_end_that_fails_is_an_error(tmp_path) -> None:
    """If the program after the session fails, the check fails, whatever it has printed."""
    with pytest.raises(AssertionError):
        run(tmp_path, ["echo one"], "echo fine; false")


def test_a_part_of_a_line_ends_with_the_line() -> None:
    """With `by_line`, `...` inside a line stands for a part of this line only.

    A line that is only `...` stands for any number of lines.
    """
    for written, same in (("a 1 b\nc\n", True), ("a 1 b\nmore\nc\n", False), ("a 1\n2 b\nc\n", False)):
        assert shows("a ... b\nc\n", written, by_line=True) is same
    assert shows("a ... b\nc\n", "a 1\n2 b\nc\n")
    assert shows("a\n...\nb\n", "a\n1\n2\nb\n", by_line=True)
    assert shows("...\n", "1\n2\n", by_line=True)
    assert not shows("a ...\n", "a 1\nmore\n", by_line=True)


def test_each_difference_is_told(tmp_path) -> None:
    """The error lists every command with another output, and each line of a guest that is missing or late."""
    steps = Session(["echo one", "echo two", "cat"], [], [], ["one\n", "2\n", "b\na\n"], ["", "", "a\nb\n"])
    with pytest.raises(AssertionError) as found:
        follow(tmp_path, steps)
    text = str(found.value)
    assert "echo one" not in text
    assert "$ echo two\ntwo" in text
    assert "'a' is not printed, or not in this place" in text


@pytest.mark.process
def test_commands_are_typed_into_a_guest(tmp_path) -> None:
    """The commands of a guest are its input. The guest may print more than the page shows."""
    steps = Session(["cat"], [], [], ["[    0.5] two ...\n"], ["one\n[    7.25] two and more\nthree\n"])
    assert follow(tmp_path, steps, "echo end").strip() == "end"


@pytest.mark.process
def test_output_is_that_of_a_terminal(tmp_path) -> None:
    """Another colour, carriage return or time is no difference.

    Another word, line or blank line is a difference.
    """
    command = r"printf '\033[37m\033[?25hone\n\r\n\r[    0.5] two\r\n'"
    for shown, same in (
        *(("one\n\n[    7.25] two\n", True), ("...\n...two\n", True)),
        *(("one\n[    0.5] two\n", False), ("one\n\n[    0.5] three\n", False)),
    ):
        steps = Session([command], [], [], [shown], [""])
        if same:
            follow(tmp_path, steps)
        else:
            with pytest.raises(AssertionError):
                follow(tmp_path, steps)


@pytest.mark.parametrize("shown,written,missing", [
    ("a\nb", "a\nx\nb", None), ("a\nb", "b\na", "b"), ("[  1.0] a", "[ 20.5] a", None),
    ("a ... c", "a b c", None),
    ("a\n...\nc", "a\nc", None), ("a\nc", "a", "c"), ("1...", "2", "1..."),
])  # fmt: skip
def test_lines_of_a_guest(shown: str, written: str, missing: str | None) -> None:
    """The lines of a guest must come in the order of the page."""
    assert absent(shown, written) == missing


@pytest.mark.parametrize("shown,written,missing", [
    ("a\nb", "a\r\nb", None), ("a\nb", "a\nx\nb", "a\nb\n"), ("a\n...\nb", "a\nx\nb", None),
    ("a\n...", "a\nx", None), ("a", "a\nx", "(the end, before 'x')"), ("b", "a\nb", "b\n"),
    ("...\n/ # c\nd", "c\n/ # \x1b[6nc\n[  1.5] d", None), ("...\n/ # c\nd", "/ # c\nx\nd", "/ # c\nd\n"),
    ("a\n...\nb", "a\nb", None), ("a ... c", "a b c", None), ("a ... c", "a\nc", "a ... c\n"),
])  # fmt: skip
def test_lines_that_a_page_leaves_out(shown: str, written: str, missing: str | None) -> None:
    """Only a line `...` on the page means that lines are left out."""
    assert not_on_screen(shown, written) == missing
