"""Moves between real processes: both directions, with dead systems, powered-off partitions, and refusals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hcall_abi.control_views import ConsoleLinkView
from hcall_abi.messages import OWN, PUBLIC
from hcall_client.console import (
    create_partition,
    power_on,
    show_health,
    show_partition,
    show_system,
)
from swpks.cli.main import main
from swpks.testing import ServerProcess
from tests.migration_processes.client import Watch
from tests.migration_processes.fleet import NAME, Fleet

# Other tests cover this code, so coverage is not measured here.
pytestmark = [pytest.mark.process, pytest.mark.usefixtures("not_measured")]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Two systems and a console."""
    with running(tmp_path) as made:
        yield made


@contextmanager
def running(folder: Path, *options: str, target: tuple[str, ...] = ()) -> Iterator[Fleet]:
    """Run a fleet during a block."""
    made = Fleet(folder, options, target)
    try:
        yield made.start()
    finally:
        made.end()


def state(fleet: Fleet, system: ServerProcess, columns: str) -> str:
    """Return columns that the console shows about the partition at a system."""
    filtered = f"lpar_names={NAME}"
    output = fleet.line(
        "lssyscfg", "-r", "lpar", "-m", system.state.name, "--filter", filtered, "-F", columns
    )
    return output.removesuffix("\n")


def test_there_and_back_over_tcp(tmp_path: Path) -> None:
    """R-51, R-55: after two live moves, the settings do not make the partition again.

    A new partition may then take its name at the system that it has left.
    """
    with running(tmp_path, "--mobility", "tcp:127.0.0.1:0") as fleet:
        east, west = fleet.systems
        assert fleet.view(west).mobility.startswith("tcp:127.0.0.1:")
        fleet.line("migrlpar", "-o", "v", *fleet.way)
        for _ in range(2):
            with fleet.load() as load:
                status, output = fleet.move().ended()
                assert (status, "row 7: ARRIVED" in output) == (0, True), output
                load.goes_on()
            assert load.moves == 1
        assert fleet.ledger.ends == []
        with fleet.load():
            fleet.move().ended()
        west_id = fleet.view(west).system_id
        moved = east.log_lines("partition.moved")[-1]
        assert NAME in moved
        assert west_id in moved
        east.hmc("create", NAME, "64")
        made = east.console.call(show_partition(NAME))
        assert made.uuid != west.console.call(show_partition(NAME)).uuid
        assert rule(fleet.refused("migrlpar", "-o", "m", *fleet.way)) == "arrival.name"


def rule(output: str) -> str:
    """Return the rule whose message number begins a refusal."""
    return {number: each for each, number in {**PUBLIC, **OWN}.items()}[output.split(maxsplit=1)[0]]


def test_a_remote_restart_from_a_dead_system(fleet: Fleet) -> None:
    """R-52, R-54: the target serves from the copy. When the source returns, it asks, and serves nothing."""
    east, west = fleet.systems
    with fleet.load():
        pass
    restart = ("rrstartlpar", "-o", "restart", *fleet.way)
    assert rule(fleet.refused("rrstartlpar", "-o", "validate", *fleet.way)) == "restart.source"
    fleet.console.hmc("backup", "-m", east.state.name)
    east.kill()
    fleet.until(lambda: not fleet.known(east), "the console has not noticed")
    fleet.line("rrstartlpar", "-o", "validate", *fleet.way)
    fleet.line(*restart)
    with west.connect_blocking(NAME) as channel:
        fleet.ledger.demand(channel)
    with Watch(east.socket(NAME)) as watch:
        fleet.start_again(east)
        fleet.until(lambda: state(fleet, east, "state") == "Not Activated", "it has not asked")
        assert state(fleet, east, "remote_restart_status") == "Remote Restarted"
        fleet.line("rrstartlpar", "-o", "cleanup", "-m", east.state.name, "-p", NAME)
    assert watch.answers == 0
    assert fleet.is_gone(east)
    fleet.source, fleet.target = west, east
    fleet.demand()
    # A live move brings the partition back to the first system.
    with fleet.load():
        assert fleet.move().ended()[0] == 0


def test_a_source_that_is_restarted_remotely_at_prepared(fleet: Fleet) -> None:
    """R-51, R-54: a remote restart bars the target of the attempt. When the source returns, it is fenced."""
    east, west = fleet.systems
    with fleet.load():
        pass
    fleet.console.hmc("backup", "-m", east.state.name)
    fleet.start_again(east, "final-sent")
    fleet.until(lambda: (found := fleet.partition(east)) and found.power == "running", "it does not run")
    fleet.move()
    fleet.died(east)
    fleet.until(lambda: (found := fleet.partition(west)) and found.custody == "prepared", "not prepared")
    fleet.until(lambda: not fleet.known(east), "the console has not noticed")
    fleet.line("rrstartlpar", "-o", "restart", *fleet.way)
    with west.connect_blocking(NAME) as channel:
        fleet.ledger.demand(channel)
    fleet.start_again(east)
    fleet.until(lambda: fleet.custody_of(east) in ("released", "gone"), "it was not fenced")
    assert not east.socket(NAME).exists()


def demand_told(east: ServerProcess, link: ConsoleLinkView, capsys: pytest.CaptureFixture[str]) -> None:
    """Assert that the ready line, `lpar` and `power on` name the console and both remedies."""
    console = {"name": link.name, "id": link.id}
    asking = {"custody": "own", "mode": "asking", "epoch": 0, "peer_id": "", "console": console}
    assert east.ready["unserved"] == {NAME: asking}
    (ready,) = east.log_lines("is ready: no partition runs; ")
    assert f"; {NAME} waits until the console {link.name!r} ({link.id}) agrees to its start: " in ready
    assert "start that console, if it does not run: swpks hmc serve --store DIR" in ready
    assert "swpks serve --without-console: if another one has it, two systems serve it" in ready
    for words, status in ((["lpar", NAME, "config"], 3), (["hmc", "power", NAME, "on"], 1)):
        assert main([*words, "--state", str(east.state)]) == status
        output = capsys.readouterr().err
        assert "rule custody.confirmed: " in output
        assert "powered off" not in output
        assert "swpks hmc serve --store DIR" in output
        assert "swpks serve --without-console" in output


def test_a_start_without_the_console(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    """R-54: a system with a console asks it. With `--without-console` it starts, and health shows that."""
    east = fleet.source
    with fleet.load():
        pass
    link = fleet.view(east).console
    fleet.console.kill()
    fleet.start_again(east)
    found = fleet.partition(east)
    assert found is not None
    assert (found.power, found.mode, east.socket(NAME).exists()) == ("off", "asking", False)
    assert link
    demand_told(east, link, capsys)
    east.options.append("--without-console")
    fleet.start_again(east)
    with east.connect_blocking(NAME) as channel:
        fleet.ledger.demand(channel)
    assert any("--without-console" in each for each in east.console.call(show_health()).reasons)
    assert east.log_lines("partition.unconfirmed")
    del east.options[-1]
    with Watch(east.socket(NAME)):
        fleet.start_again(east)
        fleet.console.start()
        fleet.connected(east)
        fleet.until(lambda: fleet.serves(east), "it got no SERVE")


def test_an_inactive_migration(fleet: Fleet) -> None:
    """R-52: a powered-off partition moves as a copy, there and back. Nothing stays at the source."""
    with fleet.load():
        pass
    for _ in range(2):
        fleet.power_off()
        status, output = fleet.move().ended()
        assert (status, "row 16: ARRIVED" in output) == (0, True), output
        fleet.until(lambda: fleet.is_gone(fleet.source), "the source keeps it")
        fleet.source, fleet.target = fleet.target, fleet.source
        assert not fleet.target.socket(NAME).exists()
        fleet.power_on(fleet.source)
        fleet.demand()
    with fleet.load():
        pass


def test_a_level_without_a_keystore(tmp_path: Path) -> None:
    """R-50: a partition moves to FW940, which has no keystore, only if its keystore is off."""
    with running(tmp_path, target=("--firmware", "FW940")) as fleet:
        east, west = fleet.systems
        assert rule(fleet.refused("migrlpar", "-o", "v", *fleet.way)) == "arrival.level"
        assert rule(fleet.refused("migrlpar", "-o", "m", *fleet.way)) == "arrival.level"
        assert fleet.serves(east)
        east.console.call(create_partition("empty", 0))
        east.console.call(power_on("empty"))
        line = ("-m", east.state.name, "-t", west.state.name, "-p", "empty")
        fleet.line("migrlpar", "-o", "m", *line)
        assert [each.name for each in west.console.call(show_system()).partitions] == ["empty"]
        with west.connect_blocking("empty") as channel:
            assert channel.level == "FW940"
