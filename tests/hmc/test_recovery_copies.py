"""The copies that a real console restores: after its absence, after damage, by order, for several systems."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hcall_client.calls import read_object
from hcall_client.console import create_partition
from tests.certificates import Authority
from tests.hmc.plant import OS, Keeper, Plant, until
from tests.parts.systems import LABEL

# Other tests cover this code, so coverage is not measured here.
pytestmark = [pytest.mark.process, pytest.mark.usefixtures("not_measured")]

PROCESSOR = "service-processor"


def test_a_console_that_was_away(plant: Plant) -> None:
    """R-44, R-45: A console that was away copies the changed stores at once.

    If a store is lost while the console is away, the last changes are lost.
    """
    plant.begin()
    console = plant.keeper.console
    plant.fill("first")
    console.kill()
    plant.fill("second")
    console.start()
    plant.settle()
    console.kill()
    plant.fill("third")
    generation = plant.partition("alpha").generation
    plant.lose(PROCESSOR, start=False)
    plant.server.start()
    view = plant.view()
    assert (view.state, view.lost, view.console) == ("Recovery", ["alpha", "beta"], None)
    console.start()
    output = plant.recovered().lines
    assert f"generation {generation}" not in output[0]
    plant.demand("second")


class Disk:
    """The database of a stopped console."""

    def __init__(self, keeper: Keeper) -> None:
        self._path = keeper.console.store / "console.sqlite"

    def change(self, statement: str, *values: object) -> None:
        """Run a statement of SQL that changes something."""
        with closing(sqlite3.connect(self._path)) as database, database:
            assert database.execute(statement, values).rowcount > 0


DAMAGE = """UPDATE copy SET blob = CAST(substr(blob, 1, length(blob) - 20) || zeroblob(20) AS {})
            WHERE name = ? AND uuid = ? AND generation >= ?"""
SWAP = """UPDATE copy SET blob = (SELECT blob FROM copy WHERE uuid = ? LIMIT 1)
          WHERE uuid = ? AND generation = ?"""


def test_the_newest_copy_is_damaged(plant: Plant) -> None:
    """R-44, R-45: If the newest copy is damaged, an older one is restored.

    The lines of the job report that, and why the newest copy was skipped.
    """
    plant.begin()
    plant.fill("old")
    plant.back_up()
    plant.fill("new")
    plant.back_up()
    newest = plant.copies("alpha")[0]
    plant.keeper.console.stop()
    Disk(plant.keeper).change(DAMAGE.format("BLOB"), "alpha", newest.uuid, newest.generation)
    plant.keeper.console.start()
    plant.lose(PROCESSOR)
    output = plant.recovered().lines
    assert output[1] == "alpha: this is older than the last known copy; skipped:"
    assert f"generation {newest.generation}: " in output[2]
    assert output[3].startswith("beta: from ")
    plant.demand("old", ["alpha"])
    plant.demand("new", ["beta"])


def test_every_copy_of_a_store_is_damaged(plant: Plant) -> None:
    """R-45: A system with a store whose copies are all damaged stays in Recovery.

    An order can accept the loss of that store.
    """
    plant.begin()
    plant.fill("old")
    plant.back_up()
    plant.keeper.console.stop()
    Disk(plant.keeper).change(DAMAGE.format("TEXT"), "beta", plant.partition("beta").uuid, 0)
    plant.keeper.console.start()
    plant.lose(PROCESSOR)
    output = plant.recovered(state="failed").lines
    assert "beta: not restored" in output
    view = plant.view()
    assert (view.state, view.restored, view.lost) == ("Recovery", ["alpha"], ["beta"])
    assert "stays in Recovery" in plant.refused("recover")
    assert "given up: beta" in plant.hmc("recover", "--give-up")
    plant.demand("old", ["alpha"])
    assert plant.copies("beta") == []
    # The settings have made "beta" again, so its keystore is empty.
    keystore = plant.partition("beta").keystore
    assert keystore is not None
    assert keystore.objects == 0


def test_a_copy_of_another_key(plant: Plant, keeper: Keeper, tmp_path: Path) -> None:
    """R-45, R-53: A copy under another trusted system key is refused, and an older one is restored."""
    other = Plant(tmp_path / "other", keeper)
    other.begin()
    plant.begin()
    plant.fill("old")
    plant.back_up()
    plant.fill("new")
    plant.back_up()
    newest, foreign = plant.copies("alpha")[0], other.copies("alpha")[0]
    assert newest.trusted_key_id != foreign.trusted_key_id
    keeper.console.stop()
    Disk(keeper).change(SWAP, foreign.uuid, newest.uuid, newest.generation)
    keeper.console.start()
    plant.lose(PROCESSOR)
    output = plant.recovered().lines
    assert f"generation {newest.generation}: " in output[2]
    assert foreign.trusted_key_id in output[2]
    plant.demand("old", ["alpha"])
    plant.demand("new", ["beta"])
    other.end()


def test_a_change_of_the_key_renews_every_copy(plant: Plant, tmp_path: Path) -> None:
    """R-44, R-53: After a change of the key, each store has a copy that opens with the new key's file."""
    plant.begin()
    plant.fill("old")
    plant.back_up()
    key = tmp_path / "tsk"
    key.write_bytes(bytes(range(32)))
    plant.line("chtskey", "-o", "change", "--newkey", str(key))
    now = plant.line("lstskey", "-F", "key_id")
    until(lambda: {plant.copies(each)[-1].trusted_key_id for each in plant.stores} == {now})
    plant.lose("anchor-card", PROCESSOR, start=False)
    plant.server.partitions = []
    plant.start()
    plant.line("chtskey", "-o", "restore", "--newkey", str(key))
    assert "alpha: from 20" in plant.hmc("recover")
    plant.demand("old")


@pytest.fixture
def manual(tmp_path: Path) -> Iterator[Keeper]:
    """A console that recovers a system only by order."""
    made = Keeper(tmp_path / "manual", ["--manual-recovery"])
    yield made.start()
    made.end()


def test_a_recovery_by_order(manual: Keeper, tmp_path: Path) -> None:
    """R-45, R-48: With --manual-recovery a recovery waits for an order, which may give a store up."""
    plant = Plant(tmp_path / "sys1", manual)
    plant.begin()
    plant.fill("old")
    plant.back_up()
    plant.lose(PROCESSOR)
    plant.log("system.connected", 2)
    assert plant.line("lssyscfg", "-r", "sys", "-F", "state") == "Recovery"
    assert plant.recoveries() == []
    output = plant.line("chsysstate", "-r", "sys", "-o", "recover")
    assert "\nalpha: from 20" in output
    assert f"\n{plant.name} is Operating, with 2 restored stores" in output
    plant.demand("old")
    manual.console.kill()
    plant.server.console.call(create_partition("gamma", 4))
    plant.lose(PROCESSOR, start=False)
    plant.server.start()
    manual.console.start()
    plant.log("system.connected", 3)
    output = plant.refused("recover")
    assert "sys1 stays in Recovery: not restored: gamma" in output
    assert "given up: gamma" in plant.hmc("recover", "--give-up")
    plant.demand("old")
    assert "with 2 partitions" in plant.refused("recover")
    plant.server.kill()


def test_two_systems(plant: Plant, keeper: Keeper, tmp_path: Path) -> None:
    """R-45: The recovery of one system has no effect on the guests and the stream of another."""
    other = Plant(tmp_path / "other", keeper)
    other.begin()
    plant.begin()
    plant.fill("old")
    other.fill("other")
    plant.back_up()
    before = keeper.systems()["other"]
    with other.guest("alpha") as session:
        plant.lose(PROCESSOR)
        plant.recovered()
        assert session.call(read_object(OS, LABEL)).data == b"other of alpha"
    plant.demand("old")
    other.demand("other")
    after = keeper.systems()["other"]
    assert (after.connected, after.since) == (True, before.since)
    assert other.recoveries() == []
    assert "console.left" not in other.server.log
    other.end()


def test_a_system_on_tls(plant: Plant, authority: Authority) -> None:
    """R-45: A system at a TLS address is recovered too, also after a change of its port."""
    tls = authority.server()
    words = ["--control", "tcp:127.0.0.1:0", "--tls-cert", tls.cert, "--tls-key", tls.key, "--tls-ca", tls.ca]
    plant.server.options = list(map(str, words))
    plant.begin()
    assert plant.keeper.systems()[plant.name].where.startswith("https://127.0.0.1:")
    plant.fill("old")
    plant.back_up()
    plant.lose(PROCESSOR)
    plant.recovered()
    plant.demand("old")
