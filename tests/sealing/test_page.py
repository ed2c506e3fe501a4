"""spec/sealed.md and the code agree: layouts, kinds, errors, names, labels of the key derivation."""

import re
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from construct import SizeofError

from hcall_server import sealing
from hcall_server.components import anchor_card
from hcall_server.nvram import COMMIT, SYSTEM, TRUSTED_KEY, mark, partition_name, sqlite, wrapped_name
from hcall_server.nvram.names import CONSOLE, CUSTODY, old_image_name, old_profile_name
from hcall_server.platform import trusted_key
from hcall_server.sealing import (
    commits,
    console_formats,
    copies,
    copy_errors,
    copy_formats,
    custody_formats,
    formats,
    level_1,
    level_1_formats,
    sealer,
    traveller_formats,
    wrapped_key,
)
from hcall_server.sealing import fields as later
from hcall_server.sealing.copy_errors import CopyError

PAGE = (Path(__file__).resolve().parents[2] / "spec" / "sealed.md").read_text("utf-8")
ROOMS = {
    "formats": formats,
    "level_1_formats": level_1_formats,
    "commits": commits,
    "copy_formats": copy_formats,
    "traveller_formats": traveller_formats,
    "console_formats": console_formats,
    "custody_formats": custody_formats,
    "wrapped_key": wrapped_key,
    "anchor_card": anchor_card,
}
LAYOUTS = re.findall(r"^<!-- layout: (\S+) -->$", PAGE, re.MULTILINE)


def table(marker: str) -> list[list[str]]:
    """Return the rows of the table that follows a marker, without its head."""
    lines = PAGE.split(f"<!-- {marker} -->\n", 1)[1].split("\n\n", 1)[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def fields(definition: Any) -> list[tuple[str, Any]]:
    """Return every named field. In place of a nested header, return the fields of the header."""
    found: list[tuple[str, Any]] = []
    for field in definition.subcons:
        if field.name == "header" and hasattr(field.subcon, "subcons"):
            found += fields(field.subcon)
        elif field.name:
            found.append((field.name, field))
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_page_shows_the_layouts_of_the_code(layout: str) -> None:
    """R-02: every field has its offset and width, in order.

    If a width varies, the page has a text in place of the number. Examples: `name_length` and `2 + n`.
    """
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
    """Each layout of the code has a table on the page.

    A header has none of its own: its fields are rows in the table of the layout that contains it.
    """
    within = {
        "console_formats.CONSOLE_HEADER",
        "copy_formats.COPY",
        "copy_formats.COPY_START",
        "copy_formats.COPY_START_1",
        "formats.ENVELOPE",
        "formats.IMAGE",
        "formats.OBJECT_HEADER",
        "formats.PARTITION_HEADER",
        "formats.LISTED_HEADER",
        "formats.SYSTEM_HEADER",
        "level_1_formats.ENVELOPE_HEADER",
        "level_1_formats.PROFILE_1_HEADER",
        "level_1_formats.PROFILE_2_HEADER",
        "commits.COMMIT_HEADER",
    }
    defined: dict[int, str] = {}
    for room, module in ROOMS.items():
        for name, value in vars(module).items():
            if name.isupper() and hasattr(value, "subcons"):
                defined.setdefault(id(value), f"{room}.{name}")
    assert set(defined.values()) == within | set(LAYOUTS)
    assert within.isdisjoint(LAYOUTS)


def test_both_levels_have_one_envelope() -> None:
    """The headers of both levels differ only in the level, so the page has one table for them."""
    old, new = (fields(room.ENVELOPE_HEADER) for room in (level_1_formats, formats))
    assert [(name, field.sizeof()) for name, field in old] == [(name, field.sizeof()) for name, field in new]


def test_the_page_lists_every_kind() -> None:
    """The table of kinds has the numbers and names of `SealedKind`."""
    assert [(int(row[0]), row[1]) for row in table("kinds")] == [
        (k.value, k.name) for k in sealing.SealedKind
    ]


def test_the_page_names_every_error() -> None:
    """The page has each error of a sealed blob, and no other."""
    in_table = {row[2] for row in table("errors")}
    defined = {
        name for name in sealing.__all__
        if isinstance(found := getattr(sealing, name), type) and issubclass(found, sealing.SealingError)
    }  # fmt: skip
    assert in_table == defined - {"SealingError", "SwappedError"}
    assert "SwappedError" in PAGE


def test_the_page_lists_every_later_field() -> None:
    """The table of tags has each later field of each record."""
    known = {
        "partition record": later.PARTITION_TAGS,
        "system record": later.SYSTEM_TAGS,
        "trusted system key": later.TRUSTED_KEY_TAGS,
        "console record": later.CONSOLE_TAGS,
        "custody record": later.CUSTODY_TAGS,
    }
    listed = [(row[0], int(row[1])) for row in table("tags")]
    assert listed == [(record, tag) for record, tags in known.items() for tag in sorted(tags)]


def test_the_page_names_every_error_of_a_copy() -> None:
    """The page has each error of a console copy with its rule, and no other."""
    in_table = {
        (error, rule.strip("`"))
        for row in table("copy errors")
        for error, rule in zip(row[2].split(", "), row[3].split(", "), strict=True)
    }
    defined = {
        (name, found.broken.id)
        for name, found in vars(copy_errors).items()
        if isinstance(found, type) and issubclass(found, CopyError) and found is not CopyError
    }
    assert in_table == defined
    assert f"there are at least {copies.LEAST_SIZE} bytes" in PAGE


def test_the_page_gives_names_and_numbers_of_the_code() -> None:
    """Record names, labels of key derivation, magics and limits on the page are those of the code."""
    uuid = UUID(int=1)
    wrapped = "`, `".join(wrapped_name(slot) for slot in (1, 2))
    names = [
        SYSTEM,
        COMMIT,
        TRUSTED_KEY,
        CONSOLE,
        CUSTODY,
        wrapped,
        partition_name(uuid).replace(str(uuid), "UUID"),
    ]
    assert [row[0].strip("`") for row in table("names")] == names
    old = [SYSTEM, old_profile_name(1), old_image_name(1)]
    assert [row[0].strip("`") for row in table("old names")] == [n.replace("00001", "NNNNN") for n in old]
    labels = [room.PARTITION_KEY_INFO for room in (sealer, level_1)]
    labels += [room.SEALING_INFO for room in (sealer, level_1)]
    labels += [commits.COMMIT_INFO, commits.MARK_INFO, copies.COPY_INFO, trusted_key.ID_INFO]
    labels += [formats.MAGIC, commits.COMMIT_MAGIC, commits.MARK_MAGIC]
    for label in *labels, copy_formats.COPY_MAGIC, wrapped_key.WRAPPED_MAGIC:
        assert f"`{label.decode()}`" in PAGE
    assert f"0x{sqlite.APPLICATION_ID:08X}" in PAGE
    assert f"checkpoint every {sqlite.CHECKPOINT_PAGES} pages" in PAGE
    assert f"{anchor_card.CARD_SIZE} bytes, no more" in PAGE
    assert f"The smallest blob has {formats.ENVELOPE_HEADER.sizeof() + formats.TAG_SIZE} bytes" in PAGE
    assert f"user version {sqlite.SCHEMA_LEVEL}" in PAGE
    assert re.search(rf"The mark of level 1 has\s{level_1_formats.MARK_1.sizeof()} bytes", PAGE)


def test_the_page_gives_the_figures_of_the_mark() -> None:
    """R-22: The page has number, size and places of the mark's slots, and how they alternate."""
    first, second = mark.SLOTS
    page = re.sub(r"\s+", " ", PAGE)
    assert f"slots of {commits.MARK.sizeof()} bytes, at the offsets {first} and {second}" in page
    assert f"Their distance is {second - first} bytes" in page
    assert f"after {mark.SWITCH} commits" in page


def test_every_heading_that_an_error_names_is_there() -> None:
    """Each section of the page that an error cites exists."""
    headings = {
        re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.*)", PAGE, re.M)
    }
    root = Path(__file__).parents[2]
    sources = [path for room in ("hcall_server", "spec/hcall_abi") for path in (root / room).rglob("*.py")]
    code = "".join(path.read_text("utf-8") for path in sources)
    named = set(re.findall(r"spec/sealed\.md#([a-z0-9-]+)", code))
    assert {"order-of-checks", "commit-record", "later-fields", "level-1"} <= named
    assert named - headings == set()
