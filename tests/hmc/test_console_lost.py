"""The loss of a console: what its successor has, and what happens when the old one returns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hmc.plant import Keeper, Plant, until

# Other tests cover this code, so coverage is not measured here.
pytestmark = [pytest.mark.process, pytest.mark.usefixtures("not_measured")]

PROCESSOR = "service-processor"


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Plant, Keeper]]:
    """A system at its old console, which has copies and a profile backup. A new console without a store."""
    old, new = Keeper(tmp_path / "old"), Keeper(tmp_path / "new", ["--name", "new"])
    plant = Plant(tmp_path / "sys1", old.start())
    plant.begin()
    plant.fill("first")
    plant.line("bkprofdata", "-f", "monday")
    plant.line("bkprofdata", "-f", str(tmp_path / "profiles"))
    plant.fill("second")
    plant.back_up()
    yield plant, new
    plant.server.kill()
    old.end()
    new.end()


def demand_new_console(plant: Plant, new: Keeper) -> None:
    """Assert that the new console has one copy of every store, and no profile backups."""
    new.start()
    plant.keeper = new
    plant.wake()
    until(lambda: all(len(plant.copies(each)) == 1 for each in plant.stores))
    link = plant.view().console
    assert link is not None
    assert (link.id, link.name) == (new.console.ready["console"], "new")
    assert "there is no profile backup 'monday'" in plant.refused_line(
        "rstprofdata", "-l", "1", "-f", "monday"
    )


def test_the_console_is_lost_and_the_old_one_comes_back(pair: tuple[Plant, Keeper]) -> None:
    """R-45: A new console gets every copy and recovers the system. The old console is refused.

    When the new console is gone, the old one is accepted again.
    """
    plant, new = pair
    old = plant.keeper
    old.console.kill()
    demand_new_console(plant, new)
    plant.lose(PROCESSOR)
    plant.recovered()
    plant.demand("second")
    old.console.start()
    # The ready line of the old console says that the new console's stream is open.
    (away,) = old.console.ready["away"]
    assert away["trouble"].startswith("the console new (")
    assert away["trouble"].endswith(" is connected")
    assert away["advice"].startswith("stop the other console, or take the system out of it there: ")
    until(lambda: "is connected" in old.systems()["sys1"].trouble)
    assert f"the console new ({new.console.ready['console']})" in old.systems()["sys1"].trouble
    assert new.systems()["sys1"].connected
    plant.fill("third")
    new.console.kill()
    plant.keeper = old
    plant.wake()
    until(lambda: old.systems()["sys1"].connected)
    plant.settle()
    assert len(plant.copies("alpha")) == 3
    plant.lose(PROCESSOR)
    plant.recovered()
    plant.demand("third")


def test_processor_first_then_console(pair: tuple[Plant, Keeper], tmp_path: Path) -> None:
    """R-45, R-46: If the processor and then the console are lost, the new console has no copies.

    A profile backup that was stored elsewhere restores the partitions.
    """
    plant, new = pair
    plant.keeper.console.kill()
    plant.lose(PROCESSOR, start=False)
    plant.server.start()
    plant.keeper = new.start()
    plant.wake()
    new.console.log_lines("recovery.no_copies")
    assert "sys1 stays in Recovery: not restored: alpha, beta" in plant.refused("recover")
    assert "given up: alpha, beta" in plant.hmc("recover", "--give-up")
    # The settings have made new, empty partitions, and these run now.
    plant.power_off()
    plant.line("rstprofdata", "-l", "1", "-f", str(tmp_path / "profiles"))
    plant.demand("first")
