"""The table of disasters: a system loses parts, and a real console restores its stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hmc.plant import Plant, until
from tests.parts.life import erase
from tests.service.processes import serve

# Other tests cover this code, so coverage is not measured here.
pytestmark = [pytest.mark.process, pytest.mark.usefixtures("not_measured")]

CARD, TPM, PROCESSOR = "anchor-card", "tpm", "service-processor"
ALL_PAIRS = (CARD, TPM, CARD, PROCESSOR, TPM, PROCESSOR, CARD)
"""A sequence in which each part directly follows each other part."""


@pytest.mark.slow
def test_one_part_after_another(plant: Plant) -> None:
    """R-45, R-48: The parts are lost one after the other.

    Only the loss of a service processor loses changes.
    """
    plant.begin()
    recoveries = 0
    for number, part in enumerate(ALL_PAIRS):
        plant.fill(f"old {number}")
        plant.back_up()
        plant.fill(f"new {number}")
        plant.lose(part)
        if part == PROCESSOR:
            recoveries += 1
            job = plant.recovered(recoveries)
            assert job.lines[0].startswith("alpha: from 20")
            assert job.lines[-1] == f"{plant.name} is Operating, with 2 restored stores"
            plant.demand(f"old {number}")
        else:
            assert plant.view().state == "Operating"
            plant.demand(f"new {number}")
            plant.settle()
    assert len(plant.recoveries()) == recoveries == 2


@pytest.mark.parametrize("parts", [(PROCESSOR, TPM), (TPM, PROCESSOR)], ids=" then ".join)
def test_processor_and_tpm(plant: Plant, parts: tuple[str, str]) -> None:
    """R-45, R-48: After the loss of processor and TPM, the card has the root key.

    The console restores the stores.
    """
    plant.begin()
    plant.fill("old")
    plant.back_up()
    before = plant.view()
    plant.fill("new")
    plant.lose(*parts)
    assert plant.server.ready["state"] == "Recovery"
    plant.recovered()
    plant.demand("old")
    after = plant.view()
    assert (after.state, after.name, after.system_id) == ("Operating", plant.name, before.system_id)
    for old, new in zip(before.partitions, after.partitions, strict=True):
        assert (old.uuid, old.number, old.restores + 1) == (new.uuid, new.number, new.restores)
        assert new.generation > old.generation


def test_settings_are_reset(plant: Plant) -> None:
    """R-45, R-61: After reset-settings the console restores each store, as after a lost processor."""
    plant.begin()
    plant.fill("old")
    plant.back_up()
    plant.server.stop()
    erase(plant.server, "reset-settings")
    plant.start()
    assert plant.server.ready["state"] == "Recovery"
    plant.recovered()
    plant.demand("old")


def own_key(plant: Plant, folder: Path) -> Path:
    """Set a trusted system key of the operator at the system itself; return its file."""
    key = folder / "tsk"
    key.write_bytes(bytes(range(32)))
    plant.server.hmc("chtskey", "-o", "change", "--newkey", str(key))
    return key


def kept(plant: Plant, folder: Path) -> Path:
    """Fill a system with copies; return the file in which the operator has its trusted system key."""
    plant.begin()
    key = own_key(plant, folder)
    plant.fill("old")
    plant.back_up()
    plant.fill("new")
    return key


def demand_key(plant: Plant, key: Path) -> None:
    """Assert that the stores are not restored without the right key. A wrong one is refused."""
    wrong = key.with_name("wrong")
    wrong.write_bytes(bytes(32))
    needed = {each.trusted_key_id for each in plant.copies()}
    command = f"chtskey -m {plant.name} -o restore --newkey FILE"
    assert_key_named(plant.refused("recover"), needed, command, f"{plant.name} has none")
    plant.line("chtskey", "-o", "restore", "--newkey", str(wrong))
    wrong_id = plant.line("lstskey", "-F", "key_id")
    output = plant.refused_line("chsysstate", "-r", "sys", "-o", "recover")
    assert_key_named(output, needed, command, f"{plant.name} has {wrong_id}")
    view = plant.view()
    assert (view.state, view.partitions) == ("Operating", [])


def assert_key_named(output: str, needed: set[str], *further: str) -> None:
    """Assert that the refusal names the needed key, the present key and the command."""
    assert any(f"need the trusted system key {each}" in output for each in needed)
    for each in further:
        assert each in output


@pytest.mark.parametrize("parts", [(CARD, TPM), (TPM, CARD)], ids=" then ".join)
def test_card_and_tpm(plant: Plant, parts: tuple[str, str], tmp_path: Path) -> None:
    """R-45, R-53, R-60: Without card and TPM the start fails.

    After Clear All, the operator's key restores the stores.
    """
    key = kept(plant, tmp_path)
    plant.lose(*parts, start=False)
    assert "root-key.readable" in serve("--state", str(plant.server.state)).stderr
    plant.erase()
    back_by_key(plant, key)


@pytest.mark.parametrize("parts", [(CARD, PROCESSOR), (PROCESSOR, CARD)], ids=" then ".join)
def test_card_and_processor(plant: Plant, parts: tuple[str, str], tmp_path: Path) -> None:
    """R-45, R-53: Without card and processor a new system starts.

    The operator's key restores the old stores.
    """
    key = kept(plant, tmp_path)
    plant.lose(*parts, start=False)
    back_by_key(plant, key)


def test_the_key_of_an_idle_system_is_changed(plant: Plant, tmp_path: Path) -> None:
    """R-44, R-45, R-53: After a change of the key, all copies are made again, also of unchanged stores."""
    plant.begin()
    plant.fill("old")
    plant.back_up()
    plant.power_off()
    key = tmp_path / "tsk"
    key.write_bytes(bytes(range(32)))
    plant.line("chtskey", "-o", "change", "--newkey", str(key))
    key_id = plant.line("lstskey", "-F", "key_id")
    until(lambda: {each.trusted_key_id for each in plant.copies()} == {key_id})
    plant.lose(CARD, PROCESSOR, start=False)
    back_by_key(plant, key)


def back_by_key(plant: Plant, key: Path) -> None:
    """Restore the stores into the empty system with the operator's key."""
    plant.server.partitions = []
    plant.start()
    assert (plant.server.ready["state"], plant.server.ready["partitions"]) == ("Operating", [])
    demand_key(plant, key)
    plant.line("chtskey", "-o", "restore", "--newkey", str(key))
    output = plant.line("chsysstate", "-r", "sys", "-o", "recover")
    assert "alpha: from 20" in output
    plant.demand("old")


def test_a_whole_system_is_erased(plant: Plant, tmp_path: Path) -> None:
    """R-45, R-60, R-62: After Clear All the sealed key of the console is useless.

    Only the operator's file of the key restores the stores.
    """
    key = kept(plant, tmp_path)
    plant.server.stop()
    erase(plant.server, "clear-all")
    plant.server.partitions = []
    plant.start()
    assert "Reset pending" in plant.refused("recover")
    plant.server.stop()
    erase(plant.server, "reset-settings")
    plant.start()
    demand_key(plant, key)
    plant.line("chtskey", "-o", "restore", "--newkey", str(key))
    assert "alpha: from 20" in plant.hmc("recover")
    plant.demand("old")
