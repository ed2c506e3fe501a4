"""A recovery during which kill -9 ends the console, the system, or both in either order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hcall_abi.control_views import SystemView
from swpks.hmc.views import JobView
from tests.hmc.plant import Keeper, Plant
from tests.hmc.tap import Tap

# Other tests cover this code, so coverage is not measured here.
pytestmark = [pytest.mark.process, pytest.mark.usefixtures("not_measured")]

THREE = ("alpha", "beta", "gamma")
RESTORE, END = b"POST /v1/copies ", b"POST /v1/recovery/end "


class Halted:
    """A system with three stores, whose recovery a tap can hold at a request."""

    def __init__(self, plant: Plant, tap: Tap) -> None:
        self.plant = plant
        self.tap = tap
        self.recoveries = 0

    def halt(self, request: bytes, nth: int, *, answered: bool) -> SystemView:
        """Lose the service processor and hold the recovery at a request; return the view of the system."""
        self.plant.fill("old")
        self.plant.back_up()
        self.plant.fill("new")
        self.tap.hold(request, nth, answered=answered)
        self.recoveries += 1
        self.plant.lose("service-processor")
        assert self.tap.held.wait(20)
        return self.plant.view()

    def demand(self) -> JobView:
        """Let the recovery end. Assert that there is one job with every store, and no line twice."""
        job = self.plant.recovered(self.recoveries)
        assert len(self.plant.recoveries()) == self.recoveries
        view = self.plant.view()
        assert (view.state, [each.name for each in view.partitions]) == ("Operating", list(THREE))
        self.plant.demand("old")
        assert [line.partition(":")[0] for line in job.lines[:-1]] == list(THREE)
        assert job.lines[-1] == f"{self.plant.name} is Operating, with 3 restored stores"
        return job


@pytest.fixture(scope="module")
def halted(keeper: Keeper, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Halted]:
    """A system that the tests use one after the other."""
    folder = tmp_path_factory.mktemp("h")
    plant = Plant(folder / "halted", keeper, THREE)
    plant.tap = folder / "tap"
    tap = Tap(plant.tap, plant.server.control_socket)
    plant.begin()
    yield Halted(plant, tap)
    tap.close()
    plant.end()


Kill = Callable[[Halted], None]


def console_dies(halted: Halted) -> None:
    """Kill the console, and start it on its store."""
    console = halted.plant.keeper.console
    console.kill()
    halted.tap.release()
    console.start()


def system_dies(halted: Halted) -> None:
    """Kill the system, and start it on its state."""
    halted.plant.server.kill()
    halted.tap.release()
    halted.plant.start()


def both_die_console_first(halted: Halted) -> None:
    """Kill both; start the console first."""
    halted.plant.keeper.console.kill()
    halted.plant.server.kill()
    halted.tap.release()
    halted.plant.keeper.console.start()
    halted.plant.start()


def both_die_system_first(halted: Halted) -> None:
    """Kill both; start the system first."""
    halted.plant.server.kill()
    halted.plant.keeper.console.kill()
    halted.tap.release()
    halted.plant.server.start()
    halted.plant.keeper.console.start()


@pytest.mark.parametrize("kill", [console_dies, system_dies], ids=lambda kill: kill.__name__)
def test_before_the_second_of_three(halted: Halted, kill: Kill) -> None:
    """R-45, R-48: A kill comes before the second of three restores. The same job restores the rest."""
    view = halted.halt(RESTORE, 2, answered=False)
    assert (view.state, view.restored) == ("Recovery", ["alpha"])
    kill(halted)
    halted.demand()


@pytest.mark.parametrize(
    "kill",
    [console_dies, system_dies, both_die_console_first, both_die_system_first],
    ids=lambda kill: kill.__name__,
)
def test_after_the_second_of_three(halted: Halted, kill: Kill) -> None:
    """R-45, R-48: A kill comes after the second restore, before its answer. The same job goes on."""
    view = halted.halt(RESTORE, 2, answered=True)
    assert (view.state, view.restored) == ("Recovery", ["alpha", "beta"])
    kill(halted)
    halted.demand()


@pytest.mark.parametrize("kill", [console_dies, system_dies], ids=lambda kill: kill.__name__)
def test_at_the_end(halted: Halted, kill: Kill) -> None:
    """R-45, R-48: A kill comes after the end of Recovery, before its answer. The same job ends."""
    assert halted.halt(END, 1, answered=True).state == "Operating"
    kill(halted)
    halted.demand()


def test_the_processor_is_lost_again_half_way(halted: Halted) -> None:
    """R-45, R-48: A second loss of the processor removes restored stores.

    The same job restores them again.
    """
    halted.halt(RESTORE, 3, answered=False)
    halted.plant.lose("service-processor", start=False)
    halted.tap.release()
    halted.plant.start()
    job = halted.plant.recovered(halted.recoveries)
    halted.plant.demand("old")
    assert job.lines[-1].endswith("with 3 restored stores")


def test_the_tpm_is_lost_too_half_way(halted: Halted, tmp_path: Path) -> None:
    """R-45, R-48: After a loss of processor and TPM, the stores that the job had restored stay."""
    halted.halt(RESTORE, 2, answered=True)
    halted.plant.lose("tpm", start=False)
    halted.tap.release()
    halted.plant.start()
    halted.demand()
