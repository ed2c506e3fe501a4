"""Two parts are lost: with the file of the key, an operator restores the stores from copies."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hcall_client.console import begin_recovery, end_recovery, restore_copy, set_trusted_key
from hcall_server.service.erase import clear_all, reset_settings
from hcall_server.service.layout import take_away
from tests.parts.life import Life
from tests.parts.systems import System

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("not_measured")]


def erased(life: Life) -> None:
    """Erase a system that has lost every copy of its root key; Clear All makes a new key."""
    done = life.system.refused()
    assert (done.returncode, "rule root-key.readable:" in done.stderr) == (3, True)
    life.asmi("clear-all")
    life.asmi("reset-settings")


@pytest.mark.parametrize(
    "lost,then",
    [(("anchor-card", "tpm"), erased), (("anchor-card", "service-processor"), lambda life: None)],
    ids=["card and TPM", "card and service processor"],
)
def test_both_are_lost(tmp_path: Path, lost: tuple[str, ...], then: Callable[[Life], None]) -> None:
    """R-41, R-45, R-48, R-53, R-62: an empty system accepts the operator's key, and restores the copies."""
    life = Life(tmp_path)
    system = life.system
    with system.on():
        life.fill()
    system.server.partitions = []
    for part in lost:
        system.remove(part)
    then(life)
    with system.on() as server:
        assert (server.ready["state"], server.ready["partitions"]) == ("Operating", [])
        assert system.root_key() != life.secrets["root key"]
        life.refused("trusted-key.sealed", set_trusted_key("return", sealed=life.sealed.read_bytes()))
        system.ask(set_trusted_key("restore", life.key.read_bytes()))
        assert system.ask(begin_recovery()).state == "Recovery"
        system.ask(restore_copy(life.copy().read_bytes()))
        assert system.ask(end_recovery()).restored == ["alpha"]
        assert system.read_object() == system.data
    assert system.found_again()[:2] == ("whole", "Operating")
    assert system.found_again().data == system.data


def test_damaged_nvram_can_be_erased(ours: System) -> None:
    """R-60, R-61, R-62: a system with damaged NVRAM can be erased, and keeps its id."""
    nvram = ours.part("service-processor") / "nvram.sqlite"
    system_id = ours.card().identity.system_id
    take_away(ours.part("service-processor"), ours.state)
    ours.part("service-processor").mkdir(mode=0o700)
    nvram.write_bytes(b"no database" * 1000)
    nvram.chmod(0o600)
    assert "NVRAM was damaged, and is removed." in clear_all(ours.state, os.urandom)
    assert ours.found_again()[:2] == ("reset-pending", "Reset pending")
    reset_settings(ours.state, os.urandom)
    found = ours.found_again()
    assert (found.row, found.state, found.data) == ("whole", "Operating", None)
    assert ours.card().identity.system_id == system_id
    assert list(ours.part("asmi").iterdir()) == []
