"""The project stores a folder of every earlier level, and this release opens each (docs/compatibility.md)."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from hcall_abi.consumers import SecureBoot
from hcall_server.components.anchor_card import CARD_LEVELS, AnchorCard
from hcall_server.console.database import STORE_LEVEL
from hcall_server.console.profile_format import decode_profiles
from hcall_server.console.store import ConsoleStore
from hcall_server.nvram.names import old_profile_name
from hcall_server.nvram.sqlite import SCHEMA_LEVEL
from hcall_server.sealing.kinds import SealedKind
from hcall_server.sealing.level_1 import OldSealer
from tests.service.folder import STATES, assembled, database_of, old_state

LATE = {"stopped": set[bytes](), "killed": {b"late"}}
"""The label that was confirmed before a kill and is only in the write-ahead log."""


class Levels(NamedTuple):
    """The levels in a stored state: those of its card and records, its database and its profiles."""

    card: int
    schema: int
    profile: int | None
    """Only sealed level 1 has profiles as separate records."""


KEPT = {
    "71f6267": Levels(1, 1, 1),
    "89ecc72": Levels(1, 1, 2),
    "9ad1d50": Levels(2, 2, None),
    "c1662f8": Levels(2, 2, None),
}


def pragma(path: Path, name: str) -> int:
    """Return a number from the header of a database."""
    with closing(sqlite3.connect(path)) as database:
        (found,) = database.execute(f"PRAGMA {name}").fetchone()
    return int(found)


def level_of_profile(state: Path) -> int | None:
    """Return the level of alpha's profile of sealed level 1.

    It is in the plaintext, so this needs the card's key.
    """
    card = AnchorCard(state / "anchor-card").read()
    assert card is not None
    with closing(sqlite3.connect(database_of(state))) as database:
        query = "SELECT * FROM record WHERE name = ?"
        rows = database.execute(query, (old_profile_name(1),)).fetchall()
    if not rows:
        return None
    plaintext = OldSealer(card.identity).open(SealedKind.PARTITION_PROFILE, 1, rows[0][1]).plaintext
    return int.from_bytes(plaintext[:2])


def test_every_earlier_level_is_kept() -> None:
    """R-21: For each earlier level of card, NVRAM and profiles there is a stored folder."""
    folders = {path.name for path in STATES.iterdir() if path.is_dir()}
    assert folders == KEPT.keys()
    assert {each.card for each in KEPT.values()} == set(CARD_LEVELS)
    assert {each.schema for each in KEPT.values()} == set(range(1, SCHEMA_LEVEL + 1))
    assert {each.profile for each in KEPT.values()} >= {1, 2}


@pytest.mark.parametrize("what", LATE)
@pytest.mark.parametrize("commit", KEPT)
def test_a_kept_state_opens(tmp_path: Path, commit: str, what: str) -> None:
    """R-21, R-22: at each start every partition has its objects, sizes, mode and access key."""
    state = old_state(tmp_path / "state", commit, what)
    card = (state / "anchor-card" / "anchor-card").read_bytes()
    assert (card[4], pragma(database_of(state), "user_version"), level_of_profile(state)) == KEPT[commit]
    keys = {path.stem: path.read_text().strip() for path in (state / "access-keys").iterdir()}
    for _ in range(2):
        with assembled(state) as machine:
            assert machine.system.state.value == "Operating"
            found = machine.system.partitions.values()
            assert {each.name: each.refused for each in found} == dict.fromkeys(("alpha", "beta", "gamma"))
            assert {each.name: each.access_key.hex() for each in found} == keys
            alpha, beta, gamma = found
            assert (alpha.kbytes, beta.kbytes, gamma.kbytes) == (64, 8, 0)
            assert alpha.next_secure_boot == SecureBoot.ENFORCE
            assert alpha.keystore is not None
            objects = alpha.keystore.contents.snapshot().objects
            assert {each.label for each in objects} >= {b"disk-key"} | LATE[what]
            assert (
                next(each.data for each in objects if each.label == b"disk-key") == b"the data of alpha" * 20
            )
    assert (state / "anchor-card" / "anchor-card").read_bytes()[4] == max(CARD_LEVELS)
    assert pragma(database_of(state), "user_version") == SCHEMA_LEVEL


def test_a_kept_store_of_a_console_opens(tmp_path: Path) -> None:
    """A store of level 1 gets the tables of level 2 and keeps systems, copies and profile backups."""
    folder = tmp_path / "console"
    shutil.copytree(STATES / "c1662f8" / "console", folder)
    path = folder / "console.sqlite"
    path.chmod(0o600)
    assert (pragma(path, "user_version"), STORE_LEVEL) == (1, 2)
    for _ in range(2):
        store = ConsoleStore(path)
        (system,) = store.systems()
        assert system.name == "sys1"
        assert sorted(each.name for each in store.copies(system.key)) == ["alpha", "beta", "gamma"]
        store.close()
        assert pragma(path, "user_version") == STORE_LEVEL
    (backup,) = (folder / "profiles").glob("*/monday")
    assert [each.name for each in decode_profiles(backup.read_bytes()).partitions] == [
        "alpha",
        "beta",
        "gamma",
    ]
