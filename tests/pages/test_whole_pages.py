"""The pages are true: each command of a page, run in the order of the page, gives the shown output."""

import re
from pathlib import Path

import pytest

from tests.pages.ends import LEFT, begins, ends, repository, with_end
from tests.pages.sessions import ONLY_OURS, follow, run
from tests.pages.table import ELSEWHERE, IN_SOAK, NOT_RUN, WHOLE, Whole
from tests.spec.markdown import ROOT, Session, programs, whole


def steps_of(row: Whole) -> Session:
    """Return the sessions of a page that this module runs: those whose heading has no other row."""
    others = (*ELSEWHERE, *IN_SOAK, *NOT_RUN)
    sessions = (each for each in others if each.page == row.page and not getattr(each, "kind", ""))
    return whole(ROOT / row.page, {each.heading for each in sessions})


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("row", WHOLE, ids=lambda row: row.page)
def test_every_command_of_the_page(
    row: Whole,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """R-04, R-06, R-10, R-13, R-36, R-44 to R-46, R-50 to R-52, R-54, R-75: each page runs in one shell.

    Its commands give the shown output, and leave no process.
    """
    if not row.measured:
        request.getfixturevalue("not_measured")
    for name, value in ONLY_OURS.items():
        monkeypatch.setenv(name, value)
    steps = steps_of(row)
    assert len(steps.commands) >= row.least
    work = tmp_path_factory.mktemp("p")  # the path of a socket has to be short
    monkeypatch.setenv("TMPDIR", str(work))
    place = repository(work / "r")
    for name, program in programs(ROOT / row.page).items():
        begun = re.compile(rf"(python|pytest\b.*|\S*g?cc\b.*) {re.escape(name)}\b")
        assert any(map(begun.match, steps.commands)), name
        (place / name).write_text(program)
        # The reader saves the file in the folder of the page, so it is copied there.
        steps.commands[1] += f"; cp {place / name} ."
    then = f"PYTHONPATH={ROOT}:{ROOT}/spec\nexport PYTHONPATH\n{row.then}"
    follow(place, with_end(steps, then, row.last))


def steps_in(page: str) -> Session:
    """Return all sessions of a page, except those that are no commands of a user."""
    return whole(ROOT / page, {row.heading for row in NOT_RUN if row.page == page})


ALL_PAGES = [
    "README.md",
    *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))),
    # The other pages of spec/ show only excerpts.
    *(row.page for row in WHOLE if row.page.startswith("spec/")),
]
PAGES = [page for page in ALL_PAGES if re.search(r"^\$ ", (ROOT / page).read_text("utf-8"), re.MULTILINE)]


@pytest.mark.parametrize("page", PAGES)
def test_each_page_has_a_head_and_an_end(page: str) -> None:
    """Each page makes its folder and ends its servers, so the next page can run in the same shell."""
    text = (ROOT / page).read_text("utf-8")
    assert begins(steps_in(page))
    assert ends(steps_in(page))
    assert "Use a new shell (bash) and an empty folder." in text


def test_pages_with_commands_are_found() -> None:
    """The list of pages above is not empty."""
    assert {"docs/kernel.md", *(row.page for row in WHOLE)} <= set(PAGES)


def test_a_page_without_a_head_or_an_end_is_found() -> None:
    """The check reports a page that leaves its server running, and one that makes no folder."""
    page = Session(["swpks serve &", "swpks hmc status"], [], [], ["", ""], ["", ""])
    assert not begins(page)
    assert not ends(page)


@pytest.mark.process
def test_a_process_that_is_left_is_found(tmp_path: Path) -> None:
    """The check reports an orphan, which is no job of the shell.

    It does not report processes of the shell itself.
    """
    # Between its fork and its exec, the orphan has another command line, or none.
    begun = """while [ "$(tr '\\0' ' ' </proc/$(cat pid)/cmdline)" != "sleep 60 " ]; do :; done"""
    orphan = f"(sleep 60 >/dev/null 2>&1 & echo $! >pid); {begun}"
    gone = "kill $(cat pid); while [ -e /proc/$(cat pid) ]; do :; done"
    first, _, found, _, none, _ = run(tmp_path, [LEFT, orphan, LEFT, gone, LEFT])
    assert (first, none) == ("", "")
    assert found.split(maxsplit=1)[1].strip() == "sleep 60"
