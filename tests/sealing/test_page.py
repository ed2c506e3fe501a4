"""spec/sealed.md and the code say the same: layouts, kinds, errors, names, labels of the key derivation."""

import re
from pathlib import Path
from typing import Any

import pytest
from construct import SizeofError

from hcall_server import sealing
from hcall_server.components import anchor_card
from hcall_server.nvram import SYSTEM, image_name, mark, profile_name, sqlite
from hcall_server.sealing import formats, sealer

PAGE = (Path(__file__).resolve().parents[2] / "spec" / "sealed.md").read_text("utf-8")
ROOMS = {"formats": formats, "anchor_card": anchor_card}
LAYOUTS = re.findall(r"^<!-- layout: (\S+) -->$", PAGE, re.MULTILINE)


def table(marker: str) -> list[list[str]]:
    """The rows of the table behind a marker, without its head."""
    lines = PAGE.split(f"<!-- {marker} -->\n", 1)[1].split("\n\n", 1)[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def fields(definition: Any) -> list[tuple[str, Any]]:
    """Every named field, those of a nested header in its place."""
    found: list[tuple[str, Any]] = []
    for field in definition.subcons:
        if field.name == "header" and hasattr(field.subcon, "subcons"):
            found += fields(field.subcon)
        elif field.name:
            found.append((field.name, field))
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_page_shows_the_layouts_of_the_code(layout: str) -> None:
    """R-02: every field at its offset, with its width, in its order; where widths vary, the length's name."""
    room, name = layout.split(".")
    offset: int | None = 0
    expected = []
    for field, definition in fields(getattr(ROOMS[room], name)):
        try:
            size: int | None = definition.sizeof()
        except SizeofError:
            size = None
        expected.append((field, str(offset) if offset is not None else "-", size))
        offset = offset + size if offset is not None and size is not None else None
    rows = [
        (row[2], row[0], int(row[1]) if row[1].isdecimal() else None) for row in table(f"layout: {layout}")
    ]
    assert rows == expected


def test_every_layout_has_its_table() -> None:
    """A new definition needs its place on the page; an object's and a record's header stand in the whole."""
    within = {
        "formats.ENVELOPE",
        "formats.IMAGE",
        "formats.OBJECT_HEADER",
        "formats.PROFILE_HEADER",
        "formats.PROFILE_1_HEADER",
    }
    defined = {
        f"{room}.{name}" for room, module in ROOMS.items() for name, value in vars(module).items()
        if name.isupper() and hasattr(value, "subcons")
    }  # fmt: skip
    assert defined - within == set(LAYOUTS)


def test_the_page_lists_every_kind() -> None:
    """Numbers and names of `SealedKind`."""
    assert [(int(row[0]), row[1]) for row in table("kinds")] == [
        (k.value, k.name) for k in sealing.SealedKind
    ]


def test_the_page_names_every_error() -> None:
    """Each refusal of a sealed blob is on the page, and each that is there exists."""
    in_table = {row[2] for row in table("errors")}
    defined = {
        name for name in sealing.__all__
        if isinstance(found := getattr(sealing, name), type) and issubclass(found, sealing.SealingError)
    }  # fmt: skip
    assert in_table == defined - {"SealingError", "SwappedError"}
    assert "SwappedError" in PAGE


def test_the_page_gives_names_and_numbers_of_the_code() -> None:
    """Record names, derivation labels, magics and limits."""
    names = [SYSTEM, profile_name(1), image_name(1)]
    assert [row[0].strip("`") for row in table("names")] == [name.replace("00001", "NNNNN") for name in names]
    for label in sealer.PARTITION_KEY_INFO, sealer.SEALING_INFO, formats.MAGIC, mark.MAGIC:
        assert f"`{label.decode()}`" in PAGE
    assert f"0x{sqlite.APPLICATION_ID:08X}" in PAGE
    assert f"checkpoint every {sqlite.CHECKPOINT_PAGES} pages" in PAGE
    assert f"{anchor_card.CARD_SIZE} bytes, no more" in PAGE
    assert f"The smallest blob has {formats.ENVELOPE_HEADER.sizeof() + formats.TAG_SIZE} bytes" in PAGE
    assert mark.SIZE == 20


def test_every_heading_that_an_error_names_is_there() -> None:
    """The section of an error leads somewhere."""
    headings = {
        re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.*)", PAGE, re.M)
    }
    code = "".join(
        path.read_text("utf-8") for path in (Path(__file__).parents[2] / "hcall_server").rglob("*.py")
    )
    named = set(re.findall(r"spec/sealed\.md#([a-z-]+)", code)) | set(
        re.findall(r'heading ?= ?"([a-z-]+)"', code)
    )
    assert named - headings == set()
