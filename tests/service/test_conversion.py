"""State folders of earlier commits open after a conversion, with all their contents."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio

from hcall_abi.consumers import SecureBoot
from hcall_abi.errors import OperatorError, StorageError
from hcall_client.blocking import BlockingChannel
from hcall_client.calls import Authorization, read_object
from hcall_client.console import rotate_key
from hcall_client.errors import OpenRefused
from hcall_server.machine.machine import Machine
from hcall_server.nvram import NvramError
from hcall_server.nvram.sqlite import SqliteNvram
from hcall_server.service.age import UNKNOWN_COMMITS
from swpks.testing import ServerProcess
from tests.service.folder import STATES, assembled, database_of, old_state

OS = Authorization(3)
ALPHA = {"disk-key": "the data of alpha" * 20, "firmware": "\x01"}
BETA = {"other": "the data of beta"}


def keys_of(what: str) -> dict[str, str]:
    """Return the access keys that clients of an old state have."""
    folder = STATES / "89ecc72" / what / "access-keys"
    return {path.stem: path.read_text().strip() for path in folder.iterdir()}


def test_a_state_of_89ecc72_opens(tmp_path: Path) -> None:
    """R-21, R-47: Each old partition has its objects, size, attributes, modes, IPL count and access key."""
    with assembled(old_state(tmp_path / "state", "89ecc72", "stopped")) as machine:
        alpha, beta, gamma = machine.system.partitions.values()
        assert [each.refused for each in (alpha, beta, gamma)] == [None] * 3
        assert (alpha.number, alpha.kbytes, alpha.ipl_count) == (1, 64, 3)
        assert alpha.next_secure_boot == SecureBoot.ENFORCE
        assert (beta.kbytes, beta.ipl_count, gamma.kbytes) == (8, 3, 0)
        assert beta.attributes.keystore_signed_updates == beta.attributes.linux_dynamic_key_secure_boot == 1
        assert {each.name: each.access_key.hex() for each in (alpha, beta, gamma)} == keys_of("stopped")
        assert alpha.keystore is not None
        labels = {each.label.decode(): each.data for each in alpha.keystore.contents.snapshot().objects}
        assert labels.keys() == ALPHA.keys()


@pytest.mark.process
def test_a_server_serves_a_state_of_89ecc72(tmp_path: Path) -> None:
    """R-21: A confirmed object that was only in SQLite's log is served. Clients use their old keys."""
    state = old_state(tmp_path / "state", "89ecc72", "killed")
    key = bytes.fromhex(keys_of("killed")["alpha"])
    server = ServerProcess(state, [], ["--listen", "tcp:127.0.0.1:0"]).start()
    try:
        address = ("127.0.0.1", server.ready["tcp_port"])
        with BlockingChannel.connect(address, partition=1, access_key=key, timeout=20) as channel:
            assert channel.call(read_object(OS, b"late")).data == b"written before the power cut"
        server.console.call(rotate_key("alpha"))
        with pytest.raises(OpenRefused):
            BlockingChannel.connect(address, partition=1, access_key=key, timeout=20)
        server.kill()
        server.start()
        address = ("127.0.0.1", server.ready["tcp_port"])
        new = server.access_key("alpha")
        assert new != key
        BlockingChannel.connect(address, partition=1, access_key=new, timeout=20).close()
        assert server.stop() == 0
    finally:
        server.kill()


def shape(state: Path) -> tuple[Any, ...]:
    """Return the level and the tables of a state's database."""
    with closing(sqlite3.connect(database_of(state))) as nvram:
        (level,) = nvram.execute("PRAGMA user_version").fetchone()
        return level, nvram.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()


def test_a_converted_database_is_like_a_new_one(tmp_path: Path) -> None:
    """R-21: the conversion leaves nothing of level 1, and the next start writes nothing more."""
    state, new = old_state(tmp_path / "state", "89ecc72", "stopped"), tmp_path / "new"
    for each in (state, new, state):
        with assembled(each):
            pass
    assert shape(state) == shape(new)


def test_a_database_that_kept_its_old_tables_is_tidied_by_its_next_commit(tmp_path: Path) -> None:
    """R-21: An earlier release converted the records and left the old tables.

    The next commit removes them.
    """
    state = old_state(tmp_path / "state", "89ecc72", "stopped")
    with assembled(state) as machine:
        before = {each.name: each.profile for each in machine.system.partitions.values()}
    tidy = shape(state)
    with closing(sqlite3.connect(database_of(state))) as nvram, nvram:
        nvram.execute("CREATE TABLE commits (number INTEGER NOT NULL)")
        nvram.execute("INSERT INTO commits VALUES (1)")
        nvram.execute("PRAGMA user_version = 1")
    with assembled(state) as machine:
        assert {each.name: each.profile for each in machine.system.partitions.values()} == before
        assert shape_of_open(machine) == 1
        trio.run(change_and_flush, machine)
        assert shape_of_open(machine) == 2
    assert shape(state) == tidy


def shape_of_open(machine: Machine) -> int:
    """Return the level of a database that is in use."""
    assert isinstance(machine.nvram.inner, SqliteNvram)
    return int(machine.nvram.inner._pragma("user_version"))


async def change_and_flush(machine: Machine) -> None:
    machine.encryptor.system_changed(machine.system)
    assert await machine.encryptor.flush()


def older(state: Path) -> None:
    """Make the database three commits older than its mark (level 1)."""
    with closing(sqlite3.connect(database_of(state))) as nvram, nvram:
        nvram.execute("UPDATE commits SET number = number - 3")


def test_an_older_database_of_level_1_is_converted_on_demand_only(tmp_path: Path) -> None:
    """R-22: An older database of level 1 is refused unchanged.

    If the operator accepts it, its contents return; IPL counts and latch do not go back.
    """
    state = old_state(tmp_path / "state", "89ecc72", "stopped")
    older(state)
    database = database_of(state).read_bytes()
    for _ in range(2):
        with pytest.raises(NvramError, match="was confirmed: it is damaged") as caught, assembled(state):
            pass
        assert caught.value.rule.id == "nvram.age"
    assert database_of(state).read_bytes() == database
    with assembled(state, accept_older=True) as machine:
        alpha = machine.system.find("alpha")
        assert (alpha.ipl_count, alpha.refused) == (3 + UNKNOWN_COMMITS, None)
    # A second start shows that the conversion was one commit and included the counts.
    with assembled(state) as machine:
        counts = [each.ipl_count for each in machine.system.partitions.values()]
        assert counts[:2] == [3 + UNKNOWN_COMMITS] * 2


def test_a_state_of_level_1_beside_the_mark_of_its_conversion(tmp_path: Path) -> None:
    """R-22: A level 1 database and card of an old backup are refused.

    Once accepted, they are not refused again.
    """
    state = old_state(tmp_path / "state", "89ecc72", "stopped")
    card = state / "anchor-card" / "anchor-card"
    backup = database_of(state).read_bytes(), card.read_bytes()
    for _ in range(2):
        with assembled(state) as machine:
            trio.run(change_and_flush, machine)
    database_of(state).write_bytes(backup[0])
    card.write_bytes(backup[1])
    with pytest.raises(NvramError, match="its mark is of level 2") as caught, assembled(state):
        pass
    assert caught.value.rule.id == "nvram.age"
    for accept in (True, False):
        with assembled(state, accept_older=accept) as machine:
            assert machine.system.find("alpha").ipl_count == 3 + UNKNOWN_COMMITS


def test_a_damaged_mark_of_level_1_stops_the_conversion(tmp_path: Path) -> None:
    """R-22: A damaged mark of level 1 stops the conversion, because the records may be too old.

    Without any mark the conversion goes on: level 1 promised none.
    """
    state = old_state(tmp_path / "state", "89ecc72", "stopped")
    mark = state / "nvram.sqlite-mark"
    mark.write_bytes(mark.read_bytes()[:-1])
    with pytest.raises(NvramError, match="its high-water mark of level 1 is damaged"), assembled(state):
        pass
    database_of(state).with_name(mark.name).unlink()
    with assembled(state) as machine:
        assert machine.system.find("alpha").ipl_count == 3


@pytest.fixture(scope="module")
def kills(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Kill a conversion at each of its steps; return the states that the next starts find."""
    command = [sys.executable, "-m", "tests.service.killed_conversion", str(tmp_path_factory.mktemp("kills"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.process
def test_a_conversion_that_is_killed_at_any_step_loses_nothing(kills: list[dict[str, Any]]) -> None:
    """R-21, R-22: After kill -9 at any step of the conversion, the next start has all contents."""
    assert len(kills) > 40
    for found in kills:
        assert found["refused"] == [], found["step"]
        assert found["again"], found["step"]
        assert found["sizes"] == {"alpha": 64, "beta": 8, "gamma": 0}
        assert found["keys"] == keys_of("killed")
        assert found["objects"]["alpha"] == {**ALPHA, "late": "written before the power cut"}
        assert found["objects"]["beta"] == BETA


@pytest.mark.parametrize("content", [b"no key", b"00" * 32 + b"\n# of alpha\n"], ids=["text", "text behind"])
def test_a_key_file_that_holds_no_key_stops_the_conversion(tmp_path: Path, content: bytes) -> None:
    """A key file without a key stops the conversion before any change.

    The operator repairs or removes the file.
    """
    state = old_state(tmp_path / "state", "89ecc72", "stopped")
    path = state / "access-keys" / "alpha.key"
    good = path.read_bytes()
    path.write_bytes(content)
    with pytest.raises(OperatorError, match="holds no access key"), assembled(state):
        pass
    path.write_bytes(good)
    with assembled(state) as machine:
        assert machine.system.find("alpha").access_key.hex() == good.decode().strip()


@pytest.mark.parametrize("with_card", [True, False], ids=["card", "no card"])
@pytest.mark.parametrize("kind", ["level 1", "level 2"])
def test_a_lost_database_is_no_new_system(tmp_path: Path, kind: str, with_card: bool) -> None:
    """R-22: the mark shows that commits existed. With the database put back, everything is there."""
    state = old_state(tmp_path / "state", "89ecc72", "stopped")
    if kind == "level 2":
        with assembled(state):
            pass
    folder = state / "service-processor" if kind == "level 2" else state
    database, card = folder / "nvram.sqlite", state / "anchor-card" / "anchor-card"
    kept = {path: path.read_bytes() for path in (database, card)}
    database.unlink()
    if not with_card:
        card.unlink()
    for _ in range(2):
        with pytest.raises(StorageError), assembled(state):
            pass
        database.unlink(missing_ok=True)
    assert not card.exists() or card.read_bytes() == kept[card]
    for path, content in kept.items():
        path.write_bytes(content)
        path.chmod(0o600)
    with assembled(state) as machine:
        assert [each.name for each in machine.system.partitions.values() if not each.refused] == [
            "alpha",
            "beta",
            "gamma",
        ]
