"""What `swpks hmc` prints about the systems of a console."""

from __future__ import annotations

from typing import Any

from hcall_abi.control_views import CustodyView, SystemView
from swpks.cli import hmc_console_output as output
from swpks.cli import hmc_output
from swpks.cli.hmc_console import names_of
from swpks.hmc.views import KnownSystemView

SINCE = 1_800_000_000.0


def known(**facts: Any) -> KnownSystemView:
    """Return a connected system with copies."""
    whole: dict[str, Any] = {
        "name": "sys1",
        "type_model_serial": "9105-22A*0123ABC",
        "system_id": "5" * 32,
        "where": "/sys1",
        "connected": True,
        "since": SINCE,
        "trouble": "",
        "state": "Operating",
        "partitions": 2,
        "copied": 1_799_999_000,
        "age": 300.0,
        "without_copy": [],
    }
    return KnownSystemView(**(whole | facts))


def cells(view: KnownSystemView) -> list[str]:
    """Return the row of a system in the table."""
    return [each.strip() for each in output.systems([view]).splitlines()[1].split("  ") if each.strip()]


def test_the_age_of_copies_is_shown() -> None:
    """The table and the line about the link show the age of the oldest copy, and stores without a copy."""
    assert cells(known())[-2:] == ["5 min", "/sys1"]
    link = output.link(known())
    assert link.startswith("console: connected since 2027-01-15 08:00:00 UTC; ")
    assert link.endswith("; oldest copy 5 min old, from 2027-01-15 07:43:20 UTC")
    bare = known(without_copy=["lpar2"])
    assert output.systems([bare]).splitlines()[-1] == "sys1: lpar2 has no copy"
    assert output.link(bare).endswith("UTC; lpar2 has no copy")
    none = known(copied=None, age=None, without_copy=["lpar1", "lpar2"])
    assert cells(none)[-2:] == ["none", "/sys1"]
    assert output.link(none).endswith("; no copies; lpar1, lpar2 have no copy")


def test_a_system_that_is_away_has_its_last_state() -> None:
    """For an absent system, the last state follows `No Connection`, if the console has one."""
    away = known(connected=False, trouble="no server")
    assert cells(away)[2:5] == ["No Connection (Operating)", "2", "away"]
    assert output.systems([away]).splitlines()[-1] == "sys1 is away: no server"
    advised = known(connected=False, trouble="no server", advice="start it")
    assert output.systems([advised]).splitlines()[-1] == "sys1 is away: no server; start it"
    assert "UTC: no server; start it; oldest copy" in output.link(advised)
    never = known(connected=False, trouble="no server", state=None, partitions=None)
    assert cells(never)[2:5] == ["No Connection", "-", "away"]
    assert output.link(never).startswith("console: away since 2027-01-15 08:00:00 UTC: no server; ")


def test_a_partition_that_waits_says_why() -> None:
    """The reason why a partition waits is in its system's status and in the list of systems."""
    waits = "lpar1 waits: sys2 shows its store; delete one of the two"
    view = known(waiting=[waits])
    assert output.systems([view]).splitlines()[-1] == f"sys1: {waits}"
    assert output.link(view).splitlines()[1:] == [waits]


def test_the_other_system_of_a_move_has_its_name() -> None:
    """A system in a view is shown by its name, if the console knows the name of its id."""
    peers = {"lpar1": "5" * 32, "lpar2": "6" * 32}
    moves = [CustodyView("u", name, "gone", "settled", 3, 0, peer) for name, peer in peers.items()]
    view = SystemView("s", "t", "Operating", None, [], [], "7" * 32, "FW1110", 1, 0, [], moves)
    names = names_of([known(name="sys2")])
    assert hmc_output.system(hmc_output.with_names(view, names)).splitlines()[-2:] == [
        "lpar1 has left (attempt 3, other system sys2)",
        f"lpar2 has left (attempt 3, other system {'6' * 32})",
    ]
