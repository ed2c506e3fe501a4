"""kill -9 of source, target and console in an inactive migration, and which system owns the partition then.

The client pauses while the partition is off, and both sockets are watched during the whole attempt.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from hcall_client.console import set_trusted_key
from tests.migration_processes.fleet import KEY, Fleet
from tests.migration_processes.live import Scenario, process_of, stall

FOR_EVER = 1_000_000
"""Number of commits that are refused: more than come before the trouble ends."""
End = Literal["source", "target", "either"]


@contextmanager
def powered_off(fleet: Fleet, end: End = "target", *, is_started: bool = False) -> Iterator[None]:
    """Run a block with the partition powered off. Then assert which system owns it, and power it on there.

    `is_started`: the owner was restarted after it got the partition, so the partition runs already.
    """
    owners = {"source": [fleet.source], "target": [fleet.target], "either": [*fleet.systems]}[end]
    with fleet.load() as load:
        with load.paused():
            fleet.power_off()
            yield
            fleet.is_off = fleet.is_off and not is_started
            found = fleet.settled()
            assert found in owners, f"{found} owns the partition\n{fleet.report()}"
            fleet.power_on(found)
        load.goes_on()


def whole(fleet: Fleet) -> None:
    """Make an inactive migration without a kill."""
    with powered_off(fleet):
        assert fleet.move().ended()[0] == 0


def inactive(role: str, point: str, *, is_started: bool = False) -> Scenario:
    """Return a scenario: in an inactive migration, `role` dies at a point and is started again."""

    def scenario(fleet: Fleet) -> None:
        victim = process_of(fleet, role)
        fleet.start_again(victim, point)
        fleet.settled()
        with powered_off(fleet, is_started=is_started):
            fleet.move()
            fleet.died(victim)
            fleet.start_again(victim)

    return scenario


def stopped_too_late(fleet: Fleet) -> None:
    """NVRAM of the source hangs during the release: a stop is refused, and later the partition arrives."""
    source = fleet.source
    with powered_off(fleet, "target"):
        stall(source, "io", FOR_EVER)
        fleet.move()
        fleet.until(lambda: any("the release" in each.waiting for each in fleet.moves()), "no release")
        assert "has not stored the custody" in fleet.refused("migrlpar", "-o", "s", *fleet.here)
        stall(source, "none")


def sent_back(role: str, point: str) -> Scenario:
    """Return a scenario: the target has lost its key after the release, so the operator orders the way back.

    The order is `migrlpar -o r --force`. A process dies during this order. If that leaves the migration
    unfinished, the order is repeated.
    """

    def scenario(fleet: Fleet) -> None:
        source, target, victim = fleet.source, fleet.target, process_of(fleet, role)
        fleet.start_again(source, "released-off")
        if victim is not source:
            fleet.start_again(victim, point)
        fleet.settled()
        with powered_off(fleet, "source", is_started=victim is source):
            fleet.move()
            fleet.died(source)
            target.console.call(set_trusted_key("change", key=KEY[::-1]))
            fleet.start_again(source, point if victim is source else "")
            fleet.until(lambda: not fleet.moves(), "the target has not refused the copy")
            order = ("migrlpar", "-o", "r", "--force", *fleet.here)
            first = fleet.order(*order)
            fleet.died(victim)
            fleet.start_again(victim)
            first.ended()
            if not fleet.is_settled():
                fleet.order(*order).ended()
        target.console.call(set_trusted_key("change", key=KEY))

    return scenario


def _shown(fleet: Fleet, column: str) -> str:
    """Return a column that the console shows about the attempt."""
    return fleet.line("lslparmigr", "-r", "lpar", "-m", fleet.source.state.name, "-F", column).strip()


INACTIVE: dict[str, Scenario] = {
    "inactive": whole,
    "inactive-source-released-off": inactive("source", "released-off"),
    "inactive-source-gone": inactive("source", "gone"),
    "inactive-target-taken": inactive("target", "taken", is_started=True),
    "inactive-console-opened": inactive("console", "opened"),
    "inactive-console-told": inactive("console", "told"),
    "inactive-console-done": inactive("console", "done"),
    "inactive-stopped-too-late": stopped_too_late,
    "inactive-back-target-dropped": sent_back("target", "dropped"),
    "inactive-back-console-aborted": sent_back("console", "aborted"),
    "inactive-back-console-forced": sent_back("console", "forced"),
    "inactive-back-source-taken": sent_back("source", "taken"),
}
"""Each scenario of an inactive migration, by name."""
