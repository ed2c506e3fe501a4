"""The words of the overview that the page and the terminal share.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from hcall_abi.control_views import ComponentView
from hcall_abi.counts import counted
from swpks.hmc.overview_views import JobOverview, Overview, PartitionOverview, SystemOverview

_UNITS = ((24 * 60, "d"), (60, "h"), (1, "min"))
UNKNOWN = "-"


def age(minutes: int | None) -> str:
    """Return an age in the largest unit that gives at least 2; "none" if there is no copy."""
    if minutes is None:
        return "none"
    for size, unit in _UNITS:
        if minutes >= 2 * size:
            return f"{minutes // size} {unit}"
    return "1 min" if minutes >= 1 else "under 1 min"


def moment(seconds: float) -> str:
    """Return a time as UTC; "an unknown time" for a number that is no time."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, OSError, ValueError):
        return "an unknown time"


def health(overview: Overview) -> str:
    """Return the sentence that begins the page: the number of systems that need a person."""
    if not overview.systems:
        return "No system yet"
    poor = sum(bool(each.attention) for each in overview.systems)
    if not poor:
        total = len(overview.systems)
        return f"All {total} systems are well" if total > 1 else "The system is well"
    has = "needs" if poor == 1 else "need"
    return f"{poor} of {counted(len(overview.systems), 'system')} {has} attention"


def last_copy(overview: Overview) -> str:
    """Return the age of the oldest last copy of all systems.

    A store that does not change gets no new copy, so an old copy alone is no loss; see `since_copy`.
    """
    ages = [each.copy_minutes for each in overview.systems if each.copy_minutes is not None]
    bare = sum(len(each.without_copy) for each in overview.systems)
    if not ages:
        return "no copies" if bare else "no stores"
    return age(max(ages))


def since_copy(overview: Overview) -> str:
    """Return whether stores have changed since their last copy; "" if no store has a copy.

    A disaster would lose these changes.  A system that is away or silent may have changes that are not known.
    """
    if all(each.copy_minutes is None for each in overview.systems):
        return ""
    behind = sum(part.copy_behind for each in overview.systems for part in each.partitions)
    if behind:
        return f"{counted(behind, 'store')} changed since {'its copy' if behind == 1 else 'their copies'}"
    if not all(each.connected and not each.silent for each in overview.systems):
        return "no known change since"
    return f"all {'other ' if bare(overview) else ''}stores as copied"


def bare(overview: Overview) -> str:
    """Return the number of partitions without a copy, "" if each has one."""
    count = sum(len(each.without_copy) for each in overview.systems)
    return f"{counted(count, 'partition')} without a copy" if count else ""


def link(system: SystemOverview) -> str:
    """Return the connection of a system in words."""
    if system.connected:
        return f"connected since {moment(system.since)}"
    if not system.type_model_serial:
        return f"not reached since {moment(system.since)}"
    return f"away since {moment(system.since)}"


def reason(system: SystemOverview) -> str:
    """Return the reason for which a system is away, with the remedy; "" while it is connected."""
    if system.connected:
        return ""
    return f"{system.trouble}; {system.advice}" if system.advice else system.trouble


def state(system: SystemOverview) -> str:
    """Return the state of a system; of one that is away, the last known state."""
    if system.connected:
        return system.state or UNKNOWN
    return f"No connection (last known: {system.state})" if system.state else "No connection"


def role(component: ComponentView) -> str:
    """Return the state of a component in two or three words."""
    return component.copy if component.ok else f"{component.copy}: not redundant"


def space(partition: PartitionOverview) -> str:
    """Return used and total bytes of a keystore."""
    if partition.used_bytes is None or partition.total_bytes is None:
        return UNKNOWN
    return f"{partition.used_bytes} of {partition.total_bytes} B"


def passwords(partition: PartitionOverview) -> str:
    """Return the consumers whose password is set."""
    if partition.passwords is None:
        return UNKNOWN
    return ", ".join(partition.passwords) or "none set"


def durable(partition: PartitionOverview) -> str:
    """Return the flushed generation, and the dirty one if changes are not durable yet."""
    if partition.generation is None or partition.flushed is None:
        return UNKNOWN
    if partition.flushed == partition.generation:
        return f"{partition.flushed}"
    return f"{partition.flushed}, dirty {partition.generation}"


def copy(partition: PartitionOverview) -> str:
    """Return the age of a partition's last copy, and whether the store has changed since."""
    found = age(partition.copy_minutes)
    return f"{found}, changed since" if partition.copy_behind else found


def steps(job: JobOverview) -> str:
    """Return the progress of a job."""
    return f"{job.done} of {job.total}" if job.total else UNKNOWN


def outcome(job: JobOverview) -> str:
    """Return the row of the state table, or the reason of a wait, or the last line of a job."""
    told = f"waits: {job.waiting}" if job.waiting else "" if job.row and job.state == "running" else job.line
    return "; ".join(filter(None, (job.row, told)))


def jobs_first(jobs: Iterable[JobOverview]) -> Sequence[JobOverview]:
    """Return the jobs, the running ones first, then the newest."""
    return sorted(jobs, key=lambda job: (job.state != "running", -job.number))
