"""kill -9 of source, target and console at each of their fail points in a live move, and the result.

Each function is one attempt from `fleet.source` to `fleet.target` under load. `fleet.load` checks it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Literal, Self

from hcall_abi.control_views import WritebackView
from hcall_client.console import set_nvram_fault, show_health
from swpks.testing import ServerProcess
from swpks.testing.own_process import OwnProcess
from tests.migration_processes.client import Load
from tests.migration_processes.fleet import Fleet

Scenario = Callable[[Fleet], None]
TroubleName = Literal["none", "full", "io", "stall"]
TROUBLES: tuple[TroubleName, ...] = ("io", "full", "stall")


def process_of(fleet: Fleet, role: str) -> OwnProcess:
    """Return the process of the source, the target or the console."""
    found: OwnProcess = {"source": fleet.source, "target": fleet.target, "console": fleet.console}[role]
    return found


def live(role: str, point: str) -> Scenario:
    """Return a scenario: in a live move, `role` dies at a point and is started again.

    The move ends by itself.
    """

    def scenario(fleet: Fleet) -> None:
        victim = process_of(fleet, role)
        fleet.start_again(victim, point)
        with fleet.load() as load:
            fleet.move()
            fleet.died(victim)
            fleet.start_again(victim)
            _went_on(fleet, load)

    return scenario


def _went_on(fleet: Fleet, load: Load) -> None:
    """Wait until the attempt has ended and the client goes on.

    The command line is not checked: it may have failed together with the console.
    """
    fleet.settled()
    load.goes_on()


def stopped(role: str, point: str) -> Scenario:
    """Return a scenario: the target hangs, the operator stops the attempt, then `role` dies at a point."""

    def scenario(fleet: Fleet) -> None:
        victim = process_of(fleet, role)
        fleet.start_again(victim, point)
        with fleet.load() as load:
            _stopped_at_a_stall(fleet, victim)
            fleet.start_again(victim)
            _went_on(fleet, load)
            # If the victim is the console, PREPARED may have arrived before the stop. Then the move goes on,
            # and the target may be the owner.
            assert role == "console" or fleet.settled() is fleet.source

    return scenario


def _stopped_at_a_stall(fleet: Fleet, victim: OwnProcess) -> None:
    """Stop an attempt while NVRAM of the target hangs, until `victim` is dead."""
    stall(fleet.target, "stall")
    fleet.move()
    fleet.until(lambda: fleet.custody(fleet.source), "not frozen")
    fleet.until(lambda: _mode(fleet) in ("waiting", "in-doubt"), "not frozen")
    fleet.order("migrlpar", "-o", "s", *fleet.here)
    if victim is fleet.target:
        fleet.until(lambda: _mode(fleet) == "serving", "it has not resumed")
    else:
        fleet.died(victim)
    stall(fleet.target, "none")
    fleet.died(victim)


def _mode(fleet: Fleet) -> str:
    shown = fleet.partition(fleet.source)
    return shown.mode if shown else ""


def stall(system: ServerProcess, trouble: TroubleName, commits: int | None = None) -> WritebackView:
    """Begin or end a fault of a system's NVRAM."""
    return system.console.call(set_nvram_fault(trouble, commits))


def console_forces_and_dies(fleet: Fleet) -> None:
    """The source is dead at PREPARED, and the operator forces the move.

    The console dies after its decision.
    """
    source, target, console = fleet.source, fleet.target, fleet.console
    fleet.start_again(source, "final-sent")
    fleet.start_again(console, "forced")
    with fleet.load() as load:
        fleet.move()
        fleet.died(source)
        _prepared(fleet)
        fleet.order("migrlpar", "-o", "r", "--force", *fleet.here)
        fleet.died(console)
        fleet.start_again(console)
        fleet.until(lambda: fleet.serves(target), "the target does not serve")
        load.goes_on()
        fleet.start_again(source)
        _went_on(fleet, load)
        assert fleet.settled() is target


def _prepared(fleet: Fleet) -> None:
    """Wait until the console has received PREPARED."""
    row = ("lslparmigr", "-r", "lpar", "-m", fleet.source.state.name, "-F", "row")
    fleet.until(lambda: "PREPARED" in fleet.line(*row), "PREPARED is not heard")


def console_tells_and_dies(fleet: Fleet) -> None:
    """The source dies after it has sent FINAL. The console dies after it has sent a word to the source."""
    source, console = fleet.source, fleet.console
    fleet.start_again(source, "final-sent")
    # The restarted source first gets a word that lets it serve. The fail point must not strike at this word.
    fleet.settled()
    fleet.start_again(console, "told")
    with fleet.load() as load:
        fleet.move()
        fleet.died(source)
        fleet.start_again(source)
        fleet.died(console)
        fleet.start_again(console)
        _went_on(fleet, load)


def _forced(fleet: Fleet, load: Load) -> None:
    """Order a move whose source dies at FINAL; force it, and wait until the target serves."""
    fleet.move()
    fleet.died(fleet.source)
    _prepared(fleet)
    fleet.line("migrlpar", "-o", "r", "--force", *fleet.here)
    load.goes_on()


def force(fleet: Fleet) -> None:
    """The source is dead at PREPARED: `migrlpar -o r --force` moves the partition.

    The source returns and is fenced.
    """
    _force(fleet)


def source_is_fenced_and_dies(fleet: Fleet) -> None:
    """Do the same as `force`, but the source dies again when it is fenced."""
    _force(fleet, "fenced")


def _force(fleet: Fleet, *points: str) -> None:
    """Force a move whose source is dead. The source returns, and dies again at each of `points`."""
    source = fleet.source
    fleet.start_again(source, "final-sent")
    with fleet.load() as load:
        _forced(fleet, load)
        for point in points:
            fleet.start_again(source, point)
            fleet.died(source)
        fleet.start_again(source)
        _went_on(fleet, load)
        assert fleet.settled() is fleet.target


def target_is_dead_for_ever(fleet: Fleet) -> None:
    """The target dies at PREPARED and is not started again. An order to stop lets the source serve."""
    _target_stays_away(fleet, ("migrlpar", "-o", "s", *fleet.here))


def source_gives_up(fleet: Fleet) -> None:
    """The target dies at PREPARED and is not started again. After 10 s the source serves by itself."""
    _target_stays_away(fleet)


def _target_stays_away(fleet: Fleet, *orders: tuple[str, ...]) -> None:
    source, target = fleet.source, fleet.target
    fleet.start_again(target, "prepared")
    with fleet.load() as load:
        line = fleet.move()
        fleet.died(target)
        for order in orders:
            fleet.line(*order)
        assert line.ended()[0] == 1
        fleet.until(lambda: fleet.serves(source), "it does not serve")
        load.goes_on()
        fleet.start_again(target)
        assert fleet.settled() is source


def console_is_dead(fleet: Fleet) -> None:
    """The console dies during the move and is not started again. The systems do not need it."""
    console, target = fleet.console, fleet.target
    with fleet.load() as load:
        fleet.move()
        fleet.until(lambda: _mode(fleet) != "serving", "not begun")
        console.kill()
        fleet.until(lambda: fleet.serves(target) or fleet.serves(fleet.source), "no system serves")
        fleet.start_again(console)
        _went_on(fleet, load)


def troubled(role: str, trouble: TroubleName) -> Scenario:
    """Return a scenario: a live move while commits of one system repeatedly fail or hang."""

    def scenario(fleet: Fleet) -> None:
        victim = process_of(fleet, role)
        assert isinstance(victim, ServerProcess)
        with fleet.load() as load, Trouble(victim, trouble):
            line = fleet.move()
            line.ended()
            load.goes_on()

    return scenario


class Trouble:
    """Makes NVRAM of a system fail repeatedly during a block."""

    def __init__(self, system: ServerProcess, trouble: TroubleName) -> None:
        self._system = system
        self._trouble = trouble
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=trouble)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        stall(self._system, "none")

    def _run(self) -> None:
        """Refuse or delay every second commit."""
        while not self._over.is_set():
            if self._trouble == "stall":
                stall(self._system, "stall")
                self._over.wait(0.08)
                stall(self._system, "none")
                self._over.wait(0.03)
            else:
                commits = stall(self._system, self._trouble, 1).commits
                self._wait_for_commit(commits)

    def _wait_for_commit(self, before: int) -> None:
        """Wait until the refused commit has been repeated, so that NVRAM makes progress."""
        while not self._over.wait(0.01):
            if self._system.console.call(show_health()).writeback.commits > before:
                return


POINTS = {
    "source": ("begun", "frozen", "final-sent", "released", "gone"),
    "target": ("expected", "prepared", "activated"),
    "console": ("opened", "done"),
}
"""Fail points of a live move without any further order."""

LIVE: dict[str, Scenario] = {
    **{f"{role}-{point}": live(role, point) for role, points in POINTS.items() for point in points},
    "source-resumed": stopped("source", "resumed"),
    "source-fenced": source_is_fenced_and_dies,
    "target-dropped": stopped("target", "dropped"),
    "console-aborted": stopped("console", "aborted"),
    "console-forced": console_forces_and_dies,
    "console-told": console_tells_and_dies,
    **{f"{role}-{trouble}": troubled(role, trouble) for role in ("source", "target") for trouble in TROUBLES},
    "force": force,
    "target-dead": target_is_dead_for_ever,
    "target-dead-in-time": source_gives_up,
    "console-dead": console_is_dead,
}
"""Each scenario of a live move, by name."""
