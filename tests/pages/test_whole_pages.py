"""The pages are true: each command of a page, in the order of the page, answers as shown."""

import re
from pathlib import Path

import pytest

from tests.pages.sessions import follow, shows
from tests.pages.table import ELSEWHERE, IN_SOAK, NOT_RUN, WHOLE, Whole
from tests.spec.markdown import ROOT, Session, programs, whole


def told_by(row: Whole) -> Session:
    """The sessions of the page that this module runs: those under headings that no other row has."""
    others = (*ELSEWHERE, *IN_SOAK, *NOT_RUN)
    sessions = (each for each in others if each.page == row.page and not getattr(each, "kind", ""))
    return whole(ROOT / row.page, {each.heading for each in sessions})


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("row", WHOLE, ids=lambda row: row.page)
def test_every_command_of_the_page(row: Whole, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """R-04, R-06, R-10, R-13, R-36, R-44 to R-46, R-50 to R-52, R-54, R-75: all in one shell."""
    if not row.measured:
        request.getfixturevalue("not_measured")
    told = told_by(row)
    assert len(told.commands) >= row.least
    for name, program in programs(ROOT / row.page).items():
        assert any(re.match(rf"python {re.escape(name)}\b", command) for command in told.commands), name
        (tmp_path / name).write_text(program)
    last = follow(tmp_path, told, f"PYTHONPATH={ROOT}:{ROOT}/spec\nexport PYTHONPATH\n{row.then}")
    assert shows(row.last, last), f"$ {row.then}\n{last}"
