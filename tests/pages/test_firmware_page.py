"""docs/firmware.md shows its example as it is. `test_whole_pages.py` runs the programs of the page."""

import re

from tests.export.compilers import EXAMPLES
from tests.pages.page_blocks import PageBlocks
from tests.spec.markdown import ROOT


def test_the_excerpt_is_of_the_example(page_blocks: PageBlocks) -> None:
    """The lines of a call stand so in firmware.c, and the page has the number of its lines."""
    source = (EXAMPLES / "firmware.c").read_text("utf-8")
    (excerpt,) = page_blocks.programs("c")
    assert excerpt in source
    page = (ROOT / "docs" / "firmware.md").read_text("utf-8")
    assert f"has {len(source.splitlines())} lines" in page


def test_the_registers_are_those_of_the_header() -> None:
    """The page says which register `r[0]` is, and the header has nine of them, from the first argument on."""
    page = (ROOT / "docs" / "firmware.md").read_text("utf-8")
    assert "`r[0]` is r4, and `r[8]` is r12" in page
    header = (ROOT / "swpks" / "include" / "swpks" / "pks.h").read_text("utf-8")
    assert re.search(r"^#define PKS_REGISTERS 9\b", header, re.MULTILINE)
    assert re.search(r"registers\[0\] = authorization;", header)
