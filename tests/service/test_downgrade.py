"""A state of a later release is refused by its level and stays unchanged (docs/compatibility.md)."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import trio

from hcall_abi.errors import StorageError, SwpksError
from hcall_abi.later import FILE, FOLDER
from hcall_abi.rules import hmc
from hcall_abi.rules import storage as rules
from hcall_abi.rules.rule import Rule
from hcall_server.components.anchor_card import CARD_SIZE, CHECK_SIZE
from hcall_server.console.profile_format import decode_profiles
from hcall_server.console.store import ConsoleStore
from hcall_server.machine.machine import Machine
from hcall_server.nvram.mark import SLOTS
from hcall_server.nvram.names import COMMIT, SYSTEM, partition_name
from hcall_server.sealing.console_record import decode_console
from hcall_server.sealing.custody_record import decode_custody
from hcall_server.sealing.errors import PlaintextError
from hcall_server.sealing.partitions import decode_partition
from hcall_server.sealing.system import decode_system
from hcall_server.sealing.trusted_key import decode_trusted_key
from tests.service.folder import assembled, database_of

Change = Callable[[Path], None]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A stopped system of this release, with two partitions and everything durable."""
    folder = tmp_path / "state"
    with assembled(folder) as machine:
        trio.run(_fill, machine)
    return folder


async def _fill(machine: Machine) -> None:
    for name in ("alpha", "beta"):
        machine.changes.create(name, 8)
    assert await machine.encryptor.flush()


def contents(state: Path) -> dict[str, bytes]:
    """Return the contents of all files but the lock, by path."""
    files = (path for path in state.rglob("*") if path.is_file() and path.name != "lock")
    return {str(path.relative_to(state)): path.read_bytes() for path in files}


def card(body: Callable[[bytes], bytes]) -> Change:
    """Replace the body of the anchor card and compute its check value again."""

    def change(state: Path) -> None:
        path = state / "anchor-card" / "anchor-card"
        content = body(path.read_bytes()[:-CHECK_SIZE])
        path.write_bytes(content + hashlib.sha256(content).digest())

    return change


def level(at: int, number: int) -> Callable[[bytes], bytes]:
    """Return a function that replaces the level in bytes."""
    return lambda old: old[:at] + bytes([number]) + old[at + 1 :]


def record(name: str, change: Callable[[bytes], bytes]) -> Change:
    """Replace the content of a record in NVRAM."""

    def changed(state: Path) -> None:
        with closing(sqlite3.connect(database_of(state))) as database, database:
            (old,) = database.execute("SELECT blob FROM record WHERE name = ?", (name,)).fetchone()
            database.execute("UPDATE record SET blob = ? WHERE name = ?", (change(old), name))

    return changed


def schema(state: Path) -> None:
    """Set another level of the database and add a table that this release does not know."""
    with closing(sqlite3.connect(database_of(state))) as database, database:
        database.execute("CREATE TABLE more (name TEXT)")
        database.execute("PRAGMA user_version = 3")


def mark(state: Path) -> None:
    """Set another level in both slots of the mark."""
    path = database_of(state).with_name("nvram.sqlite-mark")
    content = bytearray(path.read_bytes())
    for slot in SLOTS:
        content[slot + 4] = 3
    path.write_bytes(content)


LATER: dict[str, tuple[Change, int, str, Rule]] = {
    "card": (card(level(4, 3)), 3, "levels 1 and 2", rules.STATE_LEVEL),
    "longer card": (card(lambda old: level(4, 9)(old) + bytes(100)), 9, "levels 1 and 2", rules.STATE_LEVEL),
    "NVRAM": (schema, 3, "levels 1 and 2", rules.STATE_LEVEL),
    "mark": (mark, 3, "levels 1 and 2", rules.STATE_LEVEL),
    "commit record": (
        record(COMMIT, lambda old: level(4, 2)(old) + bytes(8)),
        2,
        "level 1",
        rules.STATE_LEVEL,
    ),
    "system record": (record(SYSTEM, level(4, 3)), 3, "levels 1 and 2", rules.SEALED_LEVEL),
}


@pytest.mark.parametrize("accept_older", [False, True])
@pytest.mark.parametrize("part", LATER)
def test_a_later_state_is_refused_by_its_level(state: Path, part: str, accept_older: bool) -> None:
    """R-22: The error for a state of a later level has that level, the readable levels, and the remedy.

    No byte of the state changes.
    """
    change, found, read, rule = LATER[part]
    good = contents(state)
    change(state)
    before = contents(state)
    assert good != before
    for _ in range(2):
        with pytest.raises(StorageError) as caught, assembled(state, accept_older=accept_older):
            pass
        assert caught.value.rule is rule
        finding = f"level {found} of a later release, and this release reads {read}; {FOLDER}"
        assert finding in caught.value.message
        assert contents(state) == before


def test_a_damaged_level_of_the_card_is_damage(state: Path) -> None:
    """R-40: If the check value of the card is wrong, a higher level on it counts as damage.

    The start does not take it for a later release, and writes the card again.
    """
    path = state / "anchor-card" / "anchor-card"
    good = path.read_bytes()
    path.write_bytes(level(4, 3)(good))
    with assembled(state) as machine:
        assert machine.system.find("alpha").refused is None
    assert path.read_bytes() == good
    assert len(good) == CARD_SIZE


def test_a_later_record_takes_its_partition_out_of_service(state: Path) -> None:
    """R-21: A record of a later release disables only its own partition, and stays unchanged."""
    with assembled(state) as machine:
        uuid = machine.system.find("alpha").profile.uuid
    record(partition_name(uuid), level(4, 3))(state)
    for _ in range(2):
        with assembled(state) as machine:
            assert machine.system.find("beta").refused is None
            refused = machine.system.find("alpha").refused
        assert refused is not None
        assert "level 3 of a later release, and this release reads levels 1 and 2" in refused.message


PLAINTEXTS: dict[str, Callable[[bytes], Any]] = {
    "system record": decode_system,
    "partition record": lambda plaintext: decode_partition(plaintext, UUID(int=1), 1),
    "trusted system key": decode_trusted_key,
    "console record": decode_console,
    "custody record": decode_custody,
}


@pytest.mark.parametrize("rest", [b"", b"a layout that nobody knows yet"], ids=["nothing", "bytes"])
@pytest.mark.parametrize("kind", PLAINTEXTS)
def test_a_later_plaintext_is_named(kind: str, rest: bytes) -> None:
    """A plaintext of a later level is refused with an error of its own, whatever follows the level.

    A plaintext with the invalid level 0 is refused as a wrong layout.
    """
    with pytest.raises(
        PlaintextError, match=r"has level 9 of a later release, .*; start the later"
    ) as caught:
        PLAINTEXTS[kind](b"\0\x09" + rest)
    assert caught.value.rule is rules.STATE_LEVEL
    with pytest.raises(PlaintextError, match="does not have the layout") as caught:
        PLAINTEXTS[kind](b"\0\0" + rest)
    assert caught.value.rule is not rules.STATE_LEVEL


def test_a_later_store_of_a_console(tmp_path: Path) -> None:
    """The console refuses the store by its level and changes nothing."""
    path = tmp_path / "console.sqlite"
    ConsoleStore(path).close()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA user_version = 3")
    before = path.read_bytes()
    for _ in range(2):
        error = refusal(lambda: ConsoleStore(path))
        assert error.rule is hmc.HMC_STORE_LEVEL
        assert f"level 3 of a later release, and this release reads levels 1 and 2; {FOLDER}" in error.message
    assert path.read_bytes() == before


def test_a_later_profile_backup() -> None:
    """A profile backup of a later level is refused before its contents are read."""
    error = refusal(lambda: decode_profiles(b"swpks profile backup 2 0\n{}"))
    assert error.rule is hmc.HMC_PROFILE_LEVEL
    assert re.search(f"level 2 of a later release, and this release reads level 1; {FILE}", error.message)


def refusal(act: Callable[[], object]) -> SwpksError:
    """Return the error of an act."""
    with pytest.raises(SwpksError) as caught:
        act()
    return caught.value
