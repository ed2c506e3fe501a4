"""R-51, R-52, R-54, R-55: migrations of real processes under load, with kill -9 or a disk that fails."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.migration_processes.disks import DiskFault, attempt
from tests.migration_processes.fleet import Fleet
from tests.migration_processes.live import Scenario
from tests.migration_processes.scenarios import SCENARIOS
from tests.soak.recording import build

# Other tests cover this code, so coverage is not measured here.
pytestmark = [pytest.mark.process, pytest.mark.usefixtures("not_measured")]


class Fleets:
    """A fleet for many scenarios in turn. If a scenario fails, the next one gets a new fleet."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._fleet: Fleet | None = None

    def play(self, scenario: Scenario) -> None:
        """Play a scenario."""
        if self._fleet is None:
            self._count += 1
            folder = self._folder / str(self._count)
            folder.mkdir()
            self._fleet = Fleet(folder)
            self._fleet.start()
        try:
            scenario(self._fleet)
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """Kill all processes."""
        if self._fleet:
            self._fleet.end()
            self._fleet = None


@pytest.fixture(scope="module")
def fleets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleets]:
    """Two systems and a console; all scenarios use them."""
    made = Fleets(tmp_path_factory.mktemp("f"))
    yield made
    made.end()


SAMPLE = (
    "source-frozen",
    "source-released",
    "target-expected",
    "target-prepared",
    "target-activated",
    "console-opened",
    "console-forced",
    "target-stall",
    "inactive-source-released-off",
    "inactive-target-taken",
    "restart-target-taken",
    "restart-console-forced",
)
"""The scenarios of `make test`: `make soak SOAK_ARGS=migration-kills` runs all of them."""


@pytest.mark.parametrize("name", SAMPLE)
def test_a_kill(fleets: Fleets, name: str) -> None:
    """R-51, R-52, R-54, R-55: there is one owner, no confirmed write is lost, and the client goes on."""
    fleets.play(SCENARIOS[name])


@pytest.mark.skipif(shutil.which("gcc") is None, reason="the recorder needs gcc")
def test_a_failing_disk(tmp_path: Path) -> None:
    """R-51, R-52: a migration succeeds although one operation of a disk fails, at console or target."""
    fleet = Fleet(tmp_path, library=build(tmp_path))
    try:
        fleet.start()
        assert attempt(fleet, DiskFault("live", "console", errno.ENOSPC), 9)
        assert attempt(fleet, DiskFault("inactive", "target", errno.EIO), 1)
    finally:
        fleet.end()
