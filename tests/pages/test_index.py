"""docs/README.md lists every page of docs/ once, and the tutorial of each kind of user."""

import re

from tests.spec.markdown import ROOT

INDEX = (ROOT / "docs" / "README.md").read_text("utf-8")
TUTORIALS = ["firmware.md", "kernel.md", "testing.md", "console.md"]


def test_every_page_has_one_line() -> None:
    """Each page has one row, and each row a page."""
    rows = re.findall(r"^\| \[(\S+)\]\((\S+)\) \|", INDEX, re.MULTILINE)
    listed = [target for _, target in rows if target.endswith(".md")]
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert sorted(listed) == sorted(pages)
    assert all(text == target or text == f"{target}/" for text, target in rows)


def test_each_kind_of_user_has_a_tutorial() -> None:
    """Four pages are tutorials; the README of the project names them, in the same order."""
    assert re.findall(r"\]\((\S+)\) \| \*\*tutorial\*\*", INDEX) == TUTORIALS
    readme = (ROOT / "README.md").read_text("utf-8").partition("## Tutorials\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\|.*\| \[docs/(\S+)\]\(docs/\1\)", readme, re.MULTILINE) == TUTORIALS
