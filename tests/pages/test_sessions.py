"""The session of a page: its check does not shorten itself."""

import pytest

from tests.pages.sessions import run


@pytest.mark.process
def test_each_command_has_its_output(tmp_path) -> None:
    """Also one that fails; the last output is that of the end."""
    assert run(tmp_path, ["echo one", "false", "echo two"], "echo end") == ["one\n", "", "two\n", "end\n"]


@pytest.mark.process
@pytest.mark.parametrize("end", ["exit 0", "exit 3", "kill -9 $$"])
def test_a_shell_that_ends_early_is_an_error(tmp_path, end: str) -> None:
    """Its last commands were not run, so there is nothing to compare with the page."""
    with pytest.raises(AssertionError, match="the shell ended in"):
        run(tmp_path, ["echo one", end, "echo two"])


@pytest.mark.process
def test_an_end_that_fails_is_an_error(tmp_path) -> None:
    """The program behind the session has failed, whatever it has written."""
    with pytest.raises(AssertionError):
        run(tmp_path, ["echo one"], "echo fine; false")
