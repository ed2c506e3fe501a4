"""The page about compatibility has the levels in the code, and the examples of its promises exist."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable

import pytest

from hcall_abi.frames import VERSION as FRAMES
from hcall_abi.later import of_later_release
from hcall_server.components.anchor_card import CARD_LEVELS
from hcall_server.components.tpm.blobs import EMBEDDED_LEVEL
from hcall_server.console.database import STORE_LEVEL
from hcall_server.console.profile_format import PROFILE_LEVEL
from hcall_server.mobility.messages import VERSION as MOBILITY
from hcall_server.nvram.sqlite import _SCHEMAS, SCHEMA_LEVEL
from hcall_server.sealing import formats
from hcall_server.sealing.commits import COMMIT_LEVEL, MARK_LEVEL
from hcall_server.sealing.console_formats import CONSOLE_LEVEL
from hcall_server.sealing.copies import _LEVELS as COPY_LEVELS
from hcall_server.sealing.copy_formats import COPY_LEVEL
from hcall_server.sealing.custody_formats import CUSTODY_LEVEL
from hcall_server.sealing.snapshot_formats import SNAPSHOT_LEVEL
from hcall_server.sealing.snapshots import READ_SNAPSHOTS
from hcall_server.sealing.traveller_formats import TRAVELLER_LEVEL
from hcall_server.sealing.wrapped_key import WRAPPED_LEVEL
from hcall_server.wrapping.formats import LEVEL as WRAPPED_OBJECT
from tests.spec.markdown import ROOT

PAGE = (ROOT / "docs" / "compatibility.md").read_text("utf-8")

Levels = tuple[int | None, Iterable[int]]
OLD_TOO = (1, 2)
"""Level 1 is read by `hcall_server.sealing.level_1`; tests/service/test_kept_states.py opens its folders."""

LEVELS: dict[str, Levels] = {
    "frames of the data channel": (FRAMES, [FRAMES]),
    "sealed records (envelope)": (formats.ENVELOPE_LEVEL, OLD_TOO),
    "partition record": (formats.PARTITION_LEVEL, [formats.PARTITION_LEVEL]),
    "profile of sealed level 1": (None, OLD_TOO),
    "partition image": (formats.IMAGE_LEVEL, [formats.IMAGE_LEVEL]),
    "system record": (formats.SYSTEM_LEVEL, OLD_TOO),
    "trusted system key": (formats.TRUSTED_KEY_LEVEL, [formats.TRUSTED_KEY_LEVEL]),
    "console record": (CONSOLE_LEVEL, [CONSOLE_LEVEL]),
    "custody record": (CUSTODY_LEVEL, [CUSTODY_LEVEL]),
    "commit record": (COMMIT_LEVEL, [COMMIT_LEVEL]),
    "high-water mark": (MARK_LEVEL, OLD_TOO),
    "NVRAM (SQLite)": (SCHEMA_LEVEL, _SCHEMAS),
    "anchor card": (max(CARD_LEVELS), CARD_LEVELS),
    "wrapped copy of the root key": (WRAPPED_LEVEL, [WRAPPED_LEVEL]),
    "embedded TPM: seed and blob": (EMBEDDED_LEVEL, [EMBEDDED_LEVEL]),
    "console copy": (COPY_LEVEL, COPY_LEVELS),
    "named snapshot": (SNAPSHOT_LEVEL, READ_SNAPSHOTS),
    "store of a console (SQLite)": (STORE_LEVEL, range(1, STORE_LEVEL + 1)),
    "profile backup": (PROFILE_LEVEL, [PROFILE_LEVEL]),
    "partition during a migration": (TRAVELLER_LEVEL, [TRAVELLER_LEVEL]),
    "mobility channel": (MOBILITY, [MOBILITY]),
    "wrapped object of a guest": (WRAPPED_OBJECT, [WRAPPED_OBJECT]),
}


def table(head: str) -> dict[str, list[str]]:
    """Return the rows of a table in the page, by their first cell, without links."""
    rows = re.search(rf"^\| {re.escape(head)} \|\n\|[- |]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert rows
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", rows[1])
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in plain.splitlines()]
    return {row[0]: row[1:] for row in found}


FORMATS = table("format | written | read | stored examples")


def test_the_page_has_the_levels_of_the_code() -> None:
    """For each format, the page has the level that is written, and every level that is read."""
    listed = {name: (row[0], row[1]) for name, row in FORMATS.items()}
    assert listed == {
        name: (str(written) if written else "-", ", ".join(map(str, sorted(read))))
        for name, (written, read) in LEVELS.items()
    }


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_kept_examples(name: str) -> None:
    """Each folder of examples that a row names exists and is not empty."""
    folders = re.findall("`([^`]+)`", FORMATS[name][2])
    assert folders
    assert all(any((ROOT / folder).iterdir()) for folder in folders)


def test_the_page_shows_the_words_of_a_refusal() -> None:
    """The example of a refusal in the page has the text that the code gives."""
    assert of_later_release(3, CARD_LEVELS) in " ".join(PAGE.split())


def test_the_oldest_python_is_that_of_the_package() -> None:
    """The page, pyproject.toml and its classifiers name the same oldest version of Python."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    oldest = project["requires-python"].removeprefix(">=")
    assert table("interface | stable | how long")["Python's own version"][0] == f"{oldest} and later"
    assert f"Programming Language :: Python :: {oldest}" in project["classifiers"]
