"""bkprofdata and rstprofdata with real processes: a restore loses only announced data (R-46)."""

from __future__ import annotations

from pathlib import Path

import pytest

from hcall_client.console import set_attributes
from tests.hmc.plant import Plant

pytestmark = pytest.mark.process


def test_later_updates_are_lost_as_announced(plant: Plant) -> None:
    """R-46: A restore that would lose later updates is refused, and the refusal lists the losses.

    With --forcekeystore contents are restored; counters never decrease.
    """
    plant.begin()
    plant.fill("monday")
    plant.line("bkprofdata", "-f", "monday")
    saved = plant.partition("alpha")
    plant.fill("tuesday")
    restore = ("rstprofdata", "-l", "1", "-f", "monday")
    assert "running: alpha, beta; power off each of them first" in plant.refused_line(*restore)
    plant.power_off()
    plant.server.console.call(set_attributes("alpha", {"secure_boot": 2}))
    output = plant.refused_line(*restore)
    before = plant.partition("alpha")
    lost = f"now restores {before.restores}, generation {before.generation}: later updates are lost"
    assert f"generation {saved.generation}; {lost}" in output
    assert "SWPK0226" in output
    plant.demand("tuesday")
    plant.power_off()
    assert lost in plant.line(*restore, "--forcekeystore")
    plant.demand("monday")
    after = plant.partition("alpha")
    assert (after.secure_boot, after.restores) == (saved.secure_boot, before.restores + 1)
    assert after.generation > before.generation
    assert after.ipl_count > before.ipl_count


def test_each_level(plant: Plant, tmp_path: Path) -> None:
    """R-46: Level 1 deletes partitions outside the backup, 2 keeps them, 3 adds missing ones.

    Level 4 deletes all partitions.
    """
    plant.begin()
    plant.fill("monday")
    backup = str(tmp_path / "monday")
    plant.line("bkprofdata", "-f", backup)
    plant.power_off()
    force = ("-f", backup, "--forcekeystore")

    def names() -> list[str]:
        return [each.name for each in plant.view().partitions]

    plant.line("mksyscfg", "-r", "lpar", "-i", "name=gamma,keystore_kbytes=64")
    plant.line("rstprofdata", "-l", "2", *force)
    assert names() == ["alpha", "beta", "gamma"]
    plant.line("rmsyscfg", "-r", "lpar", "-n", "gamma")
    plant.fill("tuesday")
    plant.power_off()
    output = plant.refused_line("rstprofdata", "-l", "4")
    assert (
        "this would be lost: alpha would be deleted, with 1 object; beta would be deleted, with 1 object"
        in output
    )
    plant.line("rstprofdata", "-l", "4", "--forcekeystore")
    assert names() == []
    plant.line("rstprofdata", "-l", "3", "-f", backup)
    plant.demand("monday")
    plant.power_off()
    plant.line("mksyscfg", "-r", "lpar", "-i", "name=gamma,keystore_kbytes=64")
    assert "gamma would be deleted" in plant.line("rstprofdata", "-l", "1", *force)
    assert names() == ["alpha", "beta"]
    plant.demand("monday")


def test_after_a_disaster(plant: Plant) -> None:
    """R-45, R-46: After the recovery of a lost system, an older profile backup can still be restored."""
    plant.begin()
    plant.fill("monday")
    plant.line("bkprofdata", "-f", "monday")
    plant.fill("tuesday")
    plant.back_up()
    plant.lose("service-processor")
    plant.recovered()
    plant.demand("tuesday")
    plant.power_off()
    plant.line("rstprofdata", "-l", "2", "-f", "monday", "--forcekeystore")
    plant.demand("monday")
