"""docs/bench.md is true: each command of its sessions answers as shown."""

import pytest

from tests.pages.sessions import run, shows
from tests.spec.markdown import ROOT, session

PAGE = ROOT / "docs" / "bench.md"


@pytest.mark.process
@pytest.mark.parametrize("heading,least", [("A server of its own", 1), ("A server that runs", 7)])
def test_the_sessions_of_the_page(tmp_path, heading: str, least: int) -> None:
    shown = session(PAGE, heading)
    *written, _ = run(tmp_path, shown.commands)
    assert len(shown.commands) == least
    for command, expected, told in zip(shown.commands, shown.shown, written, strict=True):
        assert shows(expected, told), f"$ {command}\n{told}"
    if least > 1:
        assert (tmp_path / "figures.json").stat().st_size
        assert (tmp_path / "figures.svg").read_text().startswith("<svg ")
