"""An erase on etcd, and the folders of the system's standbys: what their starts find, and the remedies."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from hcall_abi.errors import SwpksError
from hcall_server.service import standing_by
from hcall_server.service.erase import clear_all, reset_settings
from hcall_server.service.erase_nvram import erased_nvram
from swpks.cli.main import main
from tests.cluster.powered_off import PLACE, PoweredOff


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PoweredOff:
    monkeypatch.setattr(standing_by, "GRACE", -6.0)
    return PoweredOff(tmp_path / "state", monkeypatch).filled()


@pytest.fixture
def standby(system: PoweredOff, tmp_path: Path) -> PoweredOff:
    """The folder of a standby that has served once."""
    shutil.copytree(system.folder, tmp_path / "standby")
    return PoweredOff(tmp_path / "standby", system.monkeypatch, model=system.model)


def erase(system: PoweredOff, *, key: bool) -> None:
    """Reset the system; with `key`, after Clear All."""
    for action in (clear_all, reset_settings) if key else (reset_settings,):
        with erased_nvram(system.folder, PLACE) as nvram:
            action(system.folder, os.urandom, nvram)


def test_a_reset_alone_leaves_marks(system: PoweredOff, standby: PoweredOff) -> None:
    """R-61: the start of a standby is refused; the remedy is that of the text."""
    erase(system, key=False)
    with pytest.raises(SwpksError, match=r"is empty, but its high-water mark .* --nvram-prefix right"):
        standby.found()
    assert system.found() == ("Recovery", [])
    with pytest.raises(SwpksError, match="--accept-older if etcd was restored, or the system was erased"):
        standby.found()
    assert main(["hmc", "--state", str(standby.folder), "replace", "service-processor"]) == 0
    assert standby.found() == ("Recovery", [])


def test_the_old_key_opens_nothing_new(system: PoweredOff, standby: PoweredOff) -> None:
    """R-62: a standby with the old card is refused, and one with the new card and TPM serves."""
    erase(system, key=True)
    with pytest.raises(SwpksError, match="No copy was changed"):
        standby.found()
    for part in ("anchor-card", "tpm"):
        shutil.rmtree(standby.folder / part)
        shutil.copytree(system.folder / part, standby.folder / part)
    assert standby.found() == ("Operating", [])


@pytest.mark.parametrize("lost", [[], ["tpm"]])
def test_a_system_in_recovery_is_erased(system: PoweredOff, lost: list[str]) -> None:
    """R-48, R-61: its only record beside wrapped copies is the commit record, which opens."""
    erase(system, key=False)
    assert system.found() == ("Recovery", [])
    for part in lost:
        shutil.rmtree(system.folder / part)
    erase(system, key=True)
    assert system.found() == ("Operating", [])
