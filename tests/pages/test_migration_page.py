"""docs/migration.md is true: its sessions in one shell, with three systems and a console."""

import re
import sys

import pytest

from tests.pages.sessions import run, shows
from tests.spec.markdown import ROOT, Session, blocks, session

PAGE = ROOT / "docs" / "migration.md"
HEADINGS = re.findall(r"^## (.+)$", PAGE.read_text("utf-8"), re.MULTILINE)
PROGRAM = "Clients that follow"


def sessions() -> Session:
    """All sessions of the page, as one; the program is run where it stands."""
    parts = [session(PAGE, heading) for heading in HEADINGS]
    at = HEADINGS.index(PROGRAM)
    parts[at] = Session([f"{sys.executable} program.py"], [], ["True"], ["True"])
    return Session(*([each for part in parts for each in getattr(part, field)] for field in Session._fields))


@pytest.mark.process
@pytest.mark.slow
def test_every_command_of_the_page(tmp_path) -> None:
    """R-50, R-51, R-52, R-54: live and inactive migration, refusals, a remote restart, and its cleanup."""
    (program,) = blocks(PAGE, PROGRAM, "python")
    (tmp_path / "program.py").write_text(program)
    told = sessions()
    *written, _ = run(tmp_path, told.commands)
    assert len(told.commands) > 40
    for command, shown, found in zip(told.commands, told.shown, written, strict=True):
        assert shows(shown, found), f"$ {command}\n{found}"
