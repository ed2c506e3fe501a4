"""Each file of a state is replaced by every other kind of object: the start soon ends with the reason."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hcall_abi.errors import SwpksError
from hcall_server.machine.machine import Machine
from hcall_server.service.settings import PartitionSettings, Settings
from tests.scarcity.places import binary, empty, endless, fifo, folder, huge, loop, lost_link, no_hang
from tests.service.folder import assembled

SETTINGS = Settings(partition=(PartitionSettings.of("a", 8),))
FILES = (
    "lock",
    "service-processor/nvram.sqlite",
    "service-processor/nvram.sqlite-mark",
    "service-processor/nvram.sqlite-wal",
    "service-processor/nvram.sqlite-journal",
    "service-processor",
    "tpm",
    "tpm/seed",
    "anchor-card",
    "anchor-card/anchor-card",
    "anchor-card/anchor-card.new",
    "access-keys",
    "access-keys/a.key",
    "access-keys/a.key.new",
    "run",
)
KINDS = (fifo, lost_link, loop, folder, endless, empty, huge, binary)
DANGEROUS = (fifo, lost_link, loop, folder, endless)
"""Kinds that a start never uses as a file of the state; an open of the first waits forever."""
LEFT = {
    "service-processor/nvram.sqlite-journal",
    "service-processor/nvram.sqlite-wal",
    "anchor-card/anchor-card.new",
    "access-keys/a.key.new",
}
"""Files that a start does not need."""
FOLDERS = {"anchor-card", "service-processor", "tpm", "access-keys", "run"}
HEALED = {(fifo, "anchor-card/anchor-card")}
"""Damaged files that a start repairs: the card is written again from the wrapped copy."""


def started(state: Path) -> Machine:
    """Start a machine on a state folder, and release the folder."""
    with no_hang(), assembled(state, SETTINGS) as machine:
        return machine


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undamaged state."""
    made = tmp_path_factory.mktemp("state") / "state"
    started(made)
    return made


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("name", FILES)
def test_a_file_of_the_state_is_something_else(
    name: str, kind: Callable[[Path], Path], state: Path, tmp_path: Path
) -> None:
    """R-22: the start raises an error with a rule, or the machine has its partition."""
    here = tmp_path / "state"
    shutil.copytree(state, here)
    place = here / name
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    kind(place)
    kept = name in LEFT or (kind, name) in HEALED or (kind is folder and name in FOLDERS)
    fine = kind not in DANGEROUS or kept
    try:
        assert "a" in started(here).system.partitions
    except SwpksError:
        return
    assert fine
