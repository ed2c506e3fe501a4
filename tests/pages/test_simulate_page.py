"""docs/simulate.md is true: each command of its sessions answers as shown."""

import pytest

from tests.pages.sessions import run, shows
from tests.spec.markdown import ROOT, session

PAGE = ROOT / "docs" / "simulate.md"


@pytest.mark.process
@pytest.mark.parametrize("heading,least", [("One seed", 3), ("Many seeds", 1)])
def test_the_sessions_of_the_page(tmp_path, heading: str, least: int) -> None:
    """The figures are those of any seed that keeps all promises."""
    shown = session(PAGE, heading)
    *written, _ = run(tmp_path, shown.commands)
    assert len(shown.commands) == least
    for command, expected, told in zip(shown.commands, shown.shown, written, strict=True):
        assert shows(expected, told), f"$ {command}\n{told}"
