"""Overviews for tests of the page and of `status --watch`."""

from __future__ import annotations

from typing import Any

from hcall_abi.control_views import ComponentView
from swpks.hmc.overview_views import JobOverview, Overview, PartitionOverview, SystemOverview

NOW = 1_800_000_330
"""The time at which an overview is shown: 2027-01-15 08:05:30 UTC."""

MARKUP = "<script>alert(1)</script>"


def partition(name: str, **facts: Any) -> PartitionOverview:
    """Return a running partition with a copy."""
    whole: dict[str, Any] = {
        "uuid": name,
        "state": "running",
        "number": 1,
        "secure_boot": "enforce",
        "total_bytes": 65536,
        "used_bytes": 4096,
        "objects": 3,
        "passwords": ["os"],
        "generation": 9,
        "flushed": 7,
        "copied": NOW - 330,
    }
    whole |= facts
    return PartitionOverview(name=name, **({"copy_minutes": minutes(whole["copied"])} | whole))


def minutes(copied: int | None) -> int | None:
    """Return the age of a copy."""
    return None if copied is None else (NOW - copied) // 60


def system(name: str, *partitions: PartitionOverview, **facts: Any) -> SystemOverview:
    """Return a connected system; its copies are those of its partitions."""
    copied = min((each.copied for each in partitions if each.copied is not None), default=None)
    parts = {"anchor-card": "agrees", "service-processor": "present", "tpm": "agrees", "tpm-2": "agrees"}
    whole: dict[str, Any] = {
        "type_model_serial": "9105-22A*0123ABC",
        "where": "/run/s",
        "state": "Operating",
        "connected": True,
        "since": NOW - 10_000.0,
        "copied": copied,
        "copy_minutes": minutes(copied),
        "without_copy": [each.name for each in partitions if each.copied is None],
        "components": [
            ComponentView(name=each, kind="k", copy=copy, detail="", ok=True) for each, copy in parts.items()
        ],
        "partitions": list(partitions),
    }
    return SystemOverview(name=name, **(whole | facts))


def job(number: int, **facts: Any) -> JobOverview:
    """Return a running migration."""
    whole: dict[str, Any] = {
        "kind": "migrate",
        "system": "a",
        "state": "running",
        "done": 1,
        "total": 5,
        "partition": "lpar1",
        "row": "row 6: RELEASED(7) at a",
    }
    return JobOverview(number=number, **(whole | facts))


def overview(*systems: SystemOverview, jobs: tuple[JobOverview, ...] = (), run: str = "one") -> Overview:
    """Return an overview."""
    ok = all(not each.attention for each in systems)
    return Overview(console="lab", run=run, ok=ok, systems=list(systems), jobs=list(jobs))


_TROUBLE = "nothing serves this system"
_DB: dict[str, Any] = {
    "state": "off, migrating",
    "number": 4,
    "used_bytes": 60_900,
    "passwords": [],
    "generation": 77,
    "flushed": 77,
}


def pictured() -> Overview:
    """Return the overview of docs/page.png: sys2 was stopped while db moved to it from sys1.

    The facts about db and its job are those of a real console at this point.
    """
    row, waiting = "row 6: RELEASED(7) at sys1", f"sys2: {_TROUBLE}"
    move = job(7, system="sys1", partition="db", done=4, total=6, row=row, waiting=waiting)
    return overview(_source(), _target(), jobs=(move,))


def _source() -> SystemOverview:
    changed: dict[str, Any] = {"number": 2, "secure_boot": "audit", "used_bytes": 9_800, "copy_behind": True}
    return system(
        "sys1",
        partition("lpar1", used_bytes=41_200, generation=218, flushed=218),
        partition("lpar2", generation=31, flushed=29, copied=NOW - 40, **changed),
        partition("db", copied=NOW - 190, **_DB),
    )


def _target() -> SystemOverview:
    return system(
        "sys2",
        partition("web", used_bytes=22_300, generation=112, flushed=112, copied=NOW - 250),
        partition("db", copied=None, **_DB),
        type_model_serial="9105-22A*0456DEF",
        connected=False,
        since=NOW - 150.0,
        trouble=_TROUBLE,
        advice="start that system (`swpks serve --state DIR`)",
        attention=[f"sys2 is away: {_TROUBLE}"],
    )
