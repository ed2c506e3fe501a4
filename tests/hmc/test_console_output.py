"""What `swpks hmc` tells about the systems of a console."""

from __future__ import annotations

from typing import Any

from swpks.cli import hmc_console_output as output
from swpks.hmc.views import KnownSystemView

SINCE = 1_800_000_000.0


def known(**facts: Any) -> KnownSystemView:
    """A connected system with copies."""
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
    """The row of a system in the table."""
    return [each.strip() for each in output.systems([view]).splitlines()[1].split("  ") if each.strip()]


def test_the_age_of_copies_is_shown() -> None:
    """In the table and in the line about the link; a store without a copy counts."""
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
    """With `No Connection` before it, as lssyscfg says; without a first contact there is none."""
    away = known(connected=False, trouble="no server")
    assert cells(away)[2:5] == ["No Connection (Operating)", "2", "away"]
    assert output.systems([away]).splitlines()[-1] == "sys1 is away: no server"
    never = known(connected=False, trouble="no server", state=None, partitions=None)
    assert cells(never)[2:5] == ["No Connection", "-", "away"]
    assert output.link(never).startswith("console: away since 2027-01-15 08:00:00 UTC: no server; ")
