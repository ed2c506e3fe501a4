"""docs/console.md is true: its sessions in one shell, with two systems, consoles, and clients' own forms."""

import re

import pytest

from tests.pages.sessions import run, shows
from tests.spec.markdown import ROOT, Session, session

PAGE = ROOT / "docs" / "console.md"
HEADINGS = re.findall(r"^## (.+)$", PAGE.read_text("utf-8"), re.MULTILINE)

OP_TEST = r"""
lssyscfg -r lpar -m sys1 --filter "lpar_names=lpar1" | sed s/,/\
/g | grep "secure_boot\|keystore"
"""
"""What op-test really sends: `\\\n` in a text of Python is a backslash and a newline for the shell."""


def sessions() -> Session:
    """All sessions of the page, as one."""
    parts = [session(PAGE, heading) for heading in HEADINGS]
    return Session(*([each for part in parts for each in getattr(part, field)] for field in Session._fields))


@pytest.mark.process
@pytest.mark.slow
def test_every_command_of_the_page(tmp_path) -> None:
    """R-36, R-44, R-45, R-46, R-75: attributes, copies, lost service processor, profiles, lost console."""
    told = sessions()
    *written, last = run(tmp_path, told.commands, OP_TEST.strip())
    assert len(told.commands) > 50
    for command, shown, found in zip(told.commands, told.shown, written, strict=True):
        assert shows(shown, found), f"$ {command}\n{found}"
    assert "keystore_kbytes=0" in last, last
