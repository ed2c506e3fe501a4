"""The pages have the numbers of the contract: what spec/ has from the code is as the code has it."""

import importlib
from pathlib import Path

import pytest

from tests.spec.markdown import ROOT, SPEC

PAGES = sorted(path for path in SPEC.rglob("*.md") if "<!-- table: " in path.read_text("utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_has_the_tables_of_the_code(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, so that the code counts that is loaded here; tests/spec tries the command."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    tables = importlib.import_module("spec_tables")
    text = page.read_text("utf-8")
    assert tables.filled(text) == text
