"""Overviews for tests of the page and of `status --watch`."""

from __future__ import annotations

from typing import Any

from hcall_abi.control_views import ComponentView
from swpks.hmc.overview_views import JobOverview, Overview, PartitionOverview, SystemOverview

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
        "copied": 1_800_000_000,
        "copy_minutes": 5,
    }
    return PartitionOverview(name=name, **(whole | facts))


def system(name: str, *partitions: PartitionOverview, **facts: Any) -> SystemOverview:
    """Return a connected system."""
    parts = ("anchor-card", "service-processor", "tpm", "tpm-2")
    whole: dict[str, Any] = {
        "type_model_serial": "9105-22A*0123ABC",
        "where": "/run/s",
        "state": "Operating",
        "connected": True,
        "since": 1_800_000_000.0,
        "copied": 1_800_000_000,
        "copy_minutes": 5,
        "components": [
            ComponentView(name=each, kind="k", copy="agrees", detail="", ok=True) for each in parts
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
