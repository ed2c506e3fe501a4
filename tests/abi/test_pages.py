"""The generated parts of the pages in spec/ agree with the code."""

import importlib
from pathlib import Path

import pytest

from tests.spec.markdown import ROOT, SPEC

PAGES = sorted(path for path in SPEC.rglob("*.md") if "<!-- table: " in path.read_text("utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_the_tables_of_the_code(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each generated table in a page is the one that the code makes now."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    tables = importlib.import_module("spec_tables")
    text = page.read_text("utf-8")
    assert tables.filled(text) == text
