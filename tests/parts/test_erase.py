"""Secure erase through real processes: a system is used and erased, then every remaining byte is searched."""

from __future__ import annotations

from pathlib import Path

import pytest

from hcall_client.console import (
    begin_recovery,
    create_partition,
    end_recovery,
    power_on,
    restore_copy,
    set_trusted_key,
    show_partition,
)
from tests.parts.life import Life
from tests.parts.systems import contents

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("not_measured")]


TRACE = "traces/alpha-1-1.pcapng"


def leave_trace(life: Life) -> None:
    """Leave the file of a trace that was made with secrets."""
    path = life.system.state / TRACE
    path.parent.mkdir(mode=0o700)
    path.write_bytes(life.secrets["root key"])


def test_a_whole_life(tmp_path: Path) -> None:
    """R-40, R-42, R-53, R-60, R-61, R-62: after an erase no secret can be read.

    With the operator's key, the copy of a store can be restored.
    """
    life = Life(tmp_path)
    system = life.system
    with system.on():
        life.fill()
        demand_no_erase_of_a_running_system(life)
    # The test's folder `removed` now holds the old card with its key.
    life.replace("anchor-card")
    with system.on():
        assert system.components().decision == "card-replaced"

    before = life.search.below(system.state)
    assert before == {
        "anchor-card/anchor-card": {"root key"},
        "removed/anchor-card.1/anchor-card": {"root key"},
        "access-keys/alpha.key": {"access key"},
    }

    leave_trace(life)
    life.secrets["encrypted store"] = system.record(f"partition/{life.before.uuid}")[-64:]
    assert set(life.search.below(system.state)) - before.keys() == {"service-processor/nvram.sqlite", TRACE}
    output = life.asmi("clear-all")
    assert "swpks hmc chtskey -o restore --newkey FILE" in output
    assert not system.part("removed").exists()
    assert system.sql("SELECT * FROM record WHERE name = 'trusted-key'") == []
    assert "root key" not in {name for found in life.search.below(system.state).values() for name in found}
    with system.on() as server:
        assert (server.ready["state"], server.ready["sockets"]) == ("Reset pending", {})
        life.refused("system.operating", create_partition("alpha", 64))
        life.refused("system.operating", restore_copy(life.copy().read_bytes()))
        life.refused("system.operating", set_trusted_key("restore", life.key.read_bytes()))
        life.refused("recovery.state", end_recovery(give_up=True))
        life.refused("recovery.state", begin_recovery())
    assert "swpks hmc chtskey -o restore --newkey FILE" in life.asmi("reset-settings")
    assert life.search.below(system.state) == {}
    assert not system.part("presence").exists()
    assert list(system.part("asmi").iterdir()) == []

    system.server.partitions = []
    with system.on() as server:
        assert (server.ready["state"], server.ready["partitions"]) == ("Operating", [])
        assert system.view().system_id == life.system_id
        assert system.components().decision == "whole"
        demand_the_way_back(life)
    assert system.root_key() != life.secrets["root key"]


def demand_no_erase_of_a_running_system(life: Life) -> None:
    """Assert that a running system refuses erases and a new TPM with status 1, and changes nothing."""
    before = contents(life.state)
    commands = [["asmi", "--state", str(life.state), action] for action in ("clear-all", "reset-settings")]
    for words in [*commands, ["hmc", "replace", "tpm"]]:
        done = life.system.server.run(*words)
        assert (done.returncode, done.stdout) == (1, b"")
        assert b"state.owner" in done.stderr
    assert contents(life.state) == before


def demand_the_way_back(life: Life) -> None:
    """Assert that a copy can be restored only after the operator has restored the trusted system key."""
    system, server = life.system, life.system.server
    life.refused("trusted-key.set", restore_copy(life.copy().read_bytes()))
    life.refused("trusted-key.sealed", set_trusted_key("return", sealed=life.sealed.read_bytes()))
    life.make_partition()
    life.hmc_refused("copy.key", "restore", str(life.copy()))
    server.hmc("chtskey", "-o", "restore", "--newkey", str(life.key))
    server.hmc("restore", str(life.copy()))
    system.ask(power_on("alpha"))
    assert system.read_object() == system.data
    demand_counters(life)


def demand_counters(life: Life) -> None:
    """Assert that the counters of the restored store have increased, and that its latch is off."""
    after = life.system.ask(show_partition("alpha"))
    assert after.uuid == life.before.uuid
    assert after.ipl_count > life.before.ipl_count
    assert after.keystore is not None
    assert life.before.keystore is not None
    assert after.keystore.generation > life.before.keystore.generation
    assert after.keystore_signed_updates == 1
    assert after.keystore_signed_updates_without_verification == 0


def test_a_reset_alone_is_recovered(tmp_path: Path) -> None:
    """R-45, R-47, R-48, R-53, R-61: after Reset Settings, the operator returns the key and restores the copy.

    Then the partitions of the settings run again.
    """
    life = Life(tmp_path)
    system = life.system
    with system.on():
        life.fill()
    assert "swpks hmc recover" in life.asmi("reset-settings")
    system.server.partitions = ["alpha:64", "beta:4"]
    with system.on() as server:
        demand_recovery(life)
        server.hmc("chtskey", "-o", "return", "--sealed", str(life.sealed))
        server.hmc("restore", str(life.copy()))
    for end in (server.stop, server.kill):
        server.start()
        view = system.view()
        assert (view.state, view.restored, view.lost) == ("Recovery", ["alpha"], [])
        assert server.ready["sockets"] == {}
        life.refused("name.exists", power_on("alpha"))
        end()
    server.start()
    output = server.hmc("recover")
    assert output.splitlines() == ["the state is Operating; restored: alpha"]
    assert {each.name: each.keystore_kbytes for each in system.view().partitions} == {"alpha": 64, "beta": 4}
    assert system.read_object() == system.data
    demand_counters(life)
    assert server.access_key("alpha") == life.secrets["access key"]
    server.kill()
    with system.on() as server:
        assert server.ready["running"] == ["alpha", "beta"]
        assert system.read_object() == system.data


def demand_recovery(life: Life) -> None:
    """Assert the state Recovery: no partition is served or created.

    The partitions of the settings are postponed. The store of alpha is known, and not given up without a
    command.
    """
    system, server = life.system, life.system.server
    assert server.ready["state"] == "Recovery"
    assert (server.ready["sockets"], server.ready["partitions"]) == ({}, [])
    assert {path.name for path in (life.state / "run").iterdir()} == {"control.sock", "mobility.sock"}
    (line,) = server.log_lines('"partition.postponed"')
    assert '["alpha", "beta"]' in line
    life.refused("system.operating", create_partition("delta", 4))
    life.refused("name.exists", power_on("alpha"))
    life.refused("trusted-key.set", restore_copy(life.copy().read_bytes()))
    assert "alpha" in life.refused("recovery.complete", end_recovery(give_up=False))
    view = system.view()
    assert (view.state, view.restored, view.lost) == ("Recovery", [], ["alpha"])


def test_a_store_is_given_up_by_name(tmp_path: Path) -> None:
    """R-45, R-48: the refusal of `swpks hmc recover` names the stores that would be lost.

    So does --give-up.
    """
    life = Life(tmp_path, ("alpha:64", "beta:4"))
    system = life.system
    with system.on():
        life.fill()
    life.replace("service-processor")
    system.server.partitions = []
    with system.on() as server:
        server.hmc("chtskey", "-o", "return", "--sealed", str(life.sealed))
        server.hmc("restore", str(life.copy("alpha")))
        output = life.hmc_refused("recovery.complete", "recover")
        assert "beta" in output
        assert "alpha" not in output
        assert server.hmc("recover", "--give-up").splitlines() == [
            "the state is Operating; restored: alpha",
            "given up: beta",
        ]
        assert [each.name for each in system.view().partitions] == ["alpha"]
        assert system.read_object() == system.data
        assert not (life.state / "access-keys" / "beta.key").exists()
    with system.on() as server:
        assert (server.ready["state"], server.ready["partitions"]) == ("Operating", ["alpha"])


def test_everything_is_given_up(tmp_path: Path) -> None:
    """R-48: if no store was restored, the end of Recovery is refused without `give_up`.

    Then the system is empty.
    """
    life = Life(tmp_path)
    system = life.system
    with system.on():
        life.fill()
    life.replace("service-processor")
    for key in (life.state / "access-keys").iterdir():
        # Without access keys, the start knows no store.
        key.unlink()
    system.server.partitions = []
    with system.on():
        assert "no store was restored" in life.refused("recovery.complete", end_recovery())
        system.ask(end_recovery(give_up=True))
    with system.on() as server:
        assert (server.ready["state"], server.ready["partitions"]) == ("Operating", [])
