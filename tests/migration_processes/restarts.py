"""kill -9 during a remote restart. In some scenarios the dead source returns.

The console copies the store while the client pauses. The source is killed in the same pause. So the copy
has every confirmed write, and the target must have them too. The client runs again while the partition is
restarted.
"""

from __future__ import annotations

from swpks.hmc.views import JobView
from tests.migration_processes.client import Load
from tests.migration_processes.fleet import Fleet, Line
from tests.migration_processes.live import Scenario, process_of


def lose_source(fleet: Fleet, load: Load) -> None:
    """Kill the source after a copy with every confirmed write; wait until the console has noticed."""
    with load.paused():
        copy(fleet)
        fleet.source.kill()
    noticed(fleet)


def copy(fleet: Fleet) -> None:
    """Let the console copy each store of the source."""
    job = fleet.console.console().order(JobView, "backup", system=fleet.source.state.name)
    assert job.state == "done", job


def noticed(fleet: Fleet) -> None:
    """Wait until the console reports that the source is away."""
    fleet.until(lambda: not fleet.known(fleet.source), "the console has not noticed")


def order_restart(fleet: Fleet) -> Line:
    """Start the command line of the remote restart."""
    return fleet.order("rrstartlpar", "-o", "restart", *fleet.way)


def ends_at_target(fleet: Fleet, load: Load, point: str = "") -> None:
    """Assert that the target serves while the source is dead.

    Then the source returns, dies at `point`, and is fenced.
    """
    serves_alone(fleet, load)
    source = fleet.source
    fleet.start_again(source, point)
    if point:
        fleet.died(source)
        fleet.start_again(source)
    is_fenced(fleet)
    assert clean_up(fleet).ended()[0] == 0
    assert fleet.settled() is fleet.target
    load.goes_on()


def serves_alone(fleet: Fleet, load: Load) -> None:
    """Wait until the target serves and the client goes on, while the source is dead."""
    fleet.until(lambda: fleet.serves(fleet.target), "the target does not serve")
    load.goes_on()


def is_fenced(fleet: Fleet) -> None:
    """Wait until a source that returned is fenced: its record says that it does not own the partition."""
    fleet.until(lambda: fleet.custody_of(fleet.source) == "released", "it was not fenced")


def clean_up(fleet: Fleet) -> Line:
    """Order the removal of the partition's store at the old source."""
    return fleet.order("rrstartlpar", "-o", "cleanup", *fleet.here)


def whole(fleet: Fleet) -> None:
    """Make a remote restart with no kill but that of the source."""
    with fleet.load() as load:
        lose_source(fleet, load)
        assert order_restart(fleet).ended()[0] == 0
        ends_at_target(fleet, load)


def restart(role: str, point: str) -> Scenario:
    """Return a scenario: in a remote restart, `role` dies at a point and is started again."""

    def scenario(fleet: Fleet) -> None:
        victim = process_of(fleet, role)
        fleet.start_again(victim, point)
        fleet.settled()
        with fleet.load() as load:
            lose_source(fleet, load)
            order_restart(fleet)
            fleet.died(victim)
            fleet.start_again(victim)
            ends_at_target(fleet, load)

    return scenario


def source_is_fenced_and_dies(fleet: Fleet) -> None:
    """The dead source returns, and dies again when it is fenced."""
    with fleet.load() as load:
        lose_source(fleet, load)
        assert order_restart(fleet).ended()[0] == 0
        ends_at_target(fleet, load, "fenced")


def source_is_cleaned_up_and_dies(fleet: Fleet) -> None:
    """The dead source returns, and dies again when its store is removed."""
    source = fleet.source
    with fleet.load() as load:
        lose_source(fleet, load)
        assert order_restart(fleet).ended()[0] == 0
        serves_alone(fleet, load)
        fleet.start_again(source, "gone")
        is_fenced(fleet)
        clean_up(fleet)
        fleet.died(source)
        fleet.start_again(source)
        assert fleet.settled() is fleet.target


def console_fences_and_dies(fleet: Fleet) -> None:
    """The dead source returns. The console dies after it has sent FENCED to it."""
    console = fleet.console
    with fleet.load() as load:
        lose_source(fleet, load)
        assert order_restart(fleet).ended()[0] == 0
        serves_alone(fleet, load)
        fleet.start_again(console, "told")
        fleet.start_again(fleet.source)
        fleet.died(console)
        fleet.start_again(console)
        ends_at_target(fleet, load)


def barred(role: str, point: str) -> Scenario:
    """Return a scenario: the source dies at FINAL of a live move.

    A process dies when the remote restart bars the target.
    """

    def scenario(fleet: Fleet) -> None:
        source, target, victim = fleet.source, fleet.target, process_of(fleet, role)
        fleet.start_again(victim, point)
        fleet.start_again(source, "final-sent")
        fleet.settled()
        with fleet.load() as load:
            with load.paused():
                copy(fleet)
                fleet.move()
                fleet.died(source)
            fleet.until(lambda: fleet.custody_of(target) == "prepared", "not prepared")
            noticed(fleet)
            line = order_restart(fleet)
            fleet.died(victim)
            fleet.start_again(victim)
            # The target was down and may have the copy. So the order may be refused, and is given again.
            if victim is target and line.ended()[0]:
                assert order_restart(fleet).ended()[0] == 0
            ends_at_target(fleet, load)

    return scenario


RESTARTS: dict[str, Scenario] = {
    "restart": whole,
    "restart-target-taken": restart("target", "taken"),
    "restart-console-forced": restart("console", "forced"),
    "restart-console-done": restart("console", "done"),
    "restart-console-told": console_fences_and_dies,
    "restart-source-fenced": source_is_fenced_and_dies,
    "restart-source-gone": source_is_cleaned_up_and_dies,
    "restart-barred-target-dropped": barred("target", "dropped"),
    "restart-barred-console-aborted": barred("console", "aborted"),
    "restart-barred-console-forced": barred("console", "forced"),
}
"""Each scenario of a remote restart, by name."""
