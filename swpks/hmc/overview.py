"""Makes the overview of the facts that a console has (spec/console.md#overview).  Pure: it asks no system.

overview = overview_of(console, run, facts, now)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from hcall_abi.control_views import ComponentView, HealthView, PartitionView
from swpks.hmc.overview_views import JobOverview, Overview, PartitionOverview, SystemOverview

if TYPE_CHECKING:
    from hcall_server.console.console import ManagementConsole
    from hcall_server.console.copies import CopyFacts
    from hcall_server.console.jobs import Job
    from hcall_server.console.migration_status import MigrationStatus
    from hcall_server.console.systems import AwaitedSystem, KnownSystem

ENDED_JOBS = 10
"""Ended jobs that the overview shows, the newest; all running ones are shown."""


@dataclass
class AskedFacts:
    """Facts of a system that its last view does not have.

    `copies` are those of the console.  `silent` is the reason why a connected system did not answer the last
    question, "" if it did.
    """

    copies: Sequence[CopyFacts] = ()
    components: list[ComponentView] | None = None
    health: HealthView | None = None
    silent: str = ""


class _Words(NamedTuple):
    """Words of the console about a partition: whether it moves, and why it is not served."""

    moving: bool = False
    waits: str = ""


def overview_of(
    console: ManagementConsole, run: str, facts: Mapping[int, AskedFacts], now: float
) -> Overview:
    """Return the overview of a console; `facts` are by the key of each system, and `now` is the date."""
    systems = [_system(console, each, facts.get(each.key, AskedFacts()), now) for each in console.systems]
    systems += map(_awaited, console.awaited.values())
    moves = {each.job: each for each in console.migrations.status() if each.job}
    jobs = [_job(each, moves.get(each.number)) for each in _shown(console.jobs.all)]
    ok = not any(each.attention for each in systems)
    return Overview(console=console.name, run=run, ok=ok, systems=systems, jobs=jobs)


def _shown(jobs: Sequence[Job]) -> list[Job]:
    """Return the running jobs and the newest ended ones, in the order of their numbers."""
    ended = [each.number for each in jobs if each.state != "running"][-ENDED_JOBS:]
    return [each for each in jobs if each.state == "running" or each.number in ended]


def _job(job: Job, move: MigrationStatus | None) -> JobOverview:
    return JobOverview(
        number=job.number,
        kind=job.kind,
        system=job.system,
        state=job.state,
        done=job.done,
        total=job.total,
        line=job.lines[-1] if job.lines else "",
        waiting=job.waiting,
        partition=move.name if move else "",
        row=move.row if move else "",
    )


def _awaited(system: AwaitedSystem) -> SystemOverview:
    named = system.name or f"the system at {system.where}"
    return SystemOverview(
        name=system.name,
        type_model_serial="",
        where=system.where,
        state="",
        connected=False,
        since=system.since,
        trouble=system.trouble,
        advice=system.advice,
        attention=[f"{named} was not reached yet: {system.trouble}"],
    )


def _system(console: ManagementConsole, system: KnownSystem, facts: AskedFacts, now: float) -> SystemOverview:
    newest = _newest(facts.copies)
    partitions = [
        _partition(each, newest.get(each.uuid), _words(console, system, each), now)
        for each in (system.view.partitions if system.view else ())
    ]
    if system.view is None and system.last:
        named = system.last.partitions.items()
        partitions = [_unseen(uuid, name, newest.get(uuid), now) for uuid, name in named]
    copied = min((each.copied for each in partitions if each.copied is not None), default=None)
    return SystemOverview(
        name=system.name,
        type_model_serial=system.type_model_serial,
        where=system.where,
        state=system.last.state if system.last else "",
        connected=system.connected,
        since=system.since,
        trouble=system.trouble,
        advice=system.advice,
        silent=system.connected and bool(facts.silent),
        components=facts.components,
        partitions=partitions,
        attention=list(_attention(system, facts, partitions)),
        copied=copied,
        copy_minutes=_minutes(copied, now),
        without_copy=[each.name for each in partitions if each.copied is None],
    )


def _words(console: ManagementConsole, system: KnownSystem, partition: PartitionView) -> _Words:
    return _Words(console.migrations.moving(system, partition), console.waits(system, partition.uuid))


def _newest(copies: Iterable[CopyFacts]) -> dict[str, CopyFacts]:
    """Return the newest copy of each store, by the UUID of the partition."""
    newest: dict[str, CopyFacts] = {}
    for copy in copies:
        if copy.uuid not in newest or copy.rank >= newest[copy.uuid].rank:
            newest[copy.uuid] = copy
    return newest


def _partition(
    partition: PartitionView, copy: CopyFacts | None, words: _Words, now: float
) -> PartitionOverview:
    shown = PartitionOverview(
        name=partition.name,
        uuid=partition.uuid,
        state=_state(partition, words),
        number=partition.number,
        secure_boot=_secure_boot(partition),
        copied=copy.time if copy else None,
        copy_minutes=_minutes(copy.time if copy else None, now),
        copy_behind=copy is not None and copy.rank < (partition.restores, partition.generation),
        trouble=words.waits or (partition.refused.detail if partition.refused else ""),
    )
    if keystore := partition.keystore:
        shown.total_bytes, shown.used_bytes = keystore.total_bytes, keystore.used_bytes
        shown.objects, shown.passwords = keystore.objects, list(keystore.passwords)
        shown.generation, shown.flushed = keystore.generation, keystore.flushed
    return shown


def _unseen(uuid: str, name: str, copy: CopyFacts | None, now: float) -> PartitionOverview:
    """Return a partition that the console knows by its name only: its system was away since the start."""
    copied = copy.time if copy else None
    return PartitionOverview(
        name=name, uuid=uuid, state="unknown", copied=copied, copy_minutes=_minutes(copied, now)
    )


def _state(partition: PartitionView, words: _Words) -> str:
    if partition.refused:
        return "refused"
    power = "running" if partition.power == "running" else "off"
    return f"{power}, migrating" if words.moving else power


def _secure_boot(partition: PartitionView) -> str:
    current, following = partition.curr_secure_boot, str(partition.secure_boot)
    return current if current == following else f"{current}, next {following}"


def _minutes(copied: int | None, now: float) -> int | None:
    # A system's clock may be ahead of the console's, and no copy has a negative age.
    return None if copied is None else int(max(0.0, now - copied) // 60)


def _attention(
    system: KnownSystem, facts: AskedFacts, partitions: Iterable[PartitionOverview]
) -> Iterable[str]:
    """Yield a sentence for each finding about a system that needs a person."""
    if not system.connected:
        yield f"{system.name} is away: {system.trouble}"
        return
    if facts.silent:
        yield f"{system.name} does not answer: {facts.silent}"
    reasons = facts.health.reasons if facts.health else []
    yield from reasons
    # The health comes a moment after the view.  It names the state too, so the state is not repeated.
    if not reasons and system.last and system.last.state != "Operating":
        yield f"the system is in the state {system.last.state}"
    for each in partitions:
        if each.trouble and not any(each.name in reason for reason in reasons):
            yield f"partition {each.name}: {each.trouble}"
