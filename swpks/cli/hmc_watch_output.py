"""The overview of a console as plain text, for `swpks hmc status --watch`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from swpks.cli.hmc_output import table
from swpks.hmc import overview_words as words
from swpks.hmc.overview_views import JobOverview, Overview, PartitionOverview, SystemOverview

_HEAD = ("PARTITION", "POWER", "LAST COPY", "SPACE", "SECURE BOOT", "PASSWORDS", "FLUSHED")
_JOBS = ("JOB", "KIND", "SYSTEM", "STATE", "STEPS", "ROW, OR LAST LINE")


def overview_text(overview: Overview) -> str:
    """Return the overview as lines: health, age of the last copy, jobs, systems."""
    age = ", ".join(filter(None, (words.last_copy(overview), words.since_copy(overview))))
    head = [words.health(overview), f"oldest last copy: {age}", words.bare(overview)]
    lines = ["; ".join(filter(None, head))]
    if overview.jobs:
        rows: list[Sequence[str]] = [_JOBS, *map(_job, words.jobs_first(overview.jobs))]
        lines += ["", *table(rows)]
    for system in overview.systems:
        lines += ["", *_system(system)]
    return "\n".join(lines)


def _system(system: SystemOverview) -> Iterator[str]:
    named = f"{system.name or system.where} {system.type_model_serial}".rstrip()
    yield f"{named}: {words.state(system)}, {words.link(system)}"
    if not system.connected:
        yield f"  ! {words.reason(system)}"
        if system.partitions:
            yield "  last known facts:"
    else:
        yield from (f"  ! {each}" for each in system.attention)
    yield f"  {_copies(system)}"
    if system.components:
        yield "  " + ", ".join(f"{each.name} {words.role(each)}" for each in system.components)
    if not system.partitions:
        yield "  no partitions known"
        return
    yield from (f"  {line}" for line in table([_HEAD, *map(_partition, system.partitions)]))
    yield from (f"  {each.name}: {each.trouble}" for each in system.partitions if each.trouble)


def _copies(system: SystemOverview) -> str:
    """Return age and time of the oldest last copy of a system, and the number of stores without one."""
    at = "" if system.copied is None else f", {words.moment(system.copied)}"
    without = f"; {len(system.without_copy)} without a copy" if system.without_copy else ""
    return f"last copy: {words.age(system.copy_minutes)}{at}{without}"


def _partition(each: PartitionOverview) -> tuple[str, ...]:
    facts = (words.copy(each), words.space(each), each.secure_boot or words.UNKNOWN)
    return (each.name, each.state, *facts, words.passwords(each), words.durable(each))


def _job(each: JobOverview) -> tuple[str, ...]:
    kind = f"{each.kind} {each.partition}".rstrip()
    return (str(each.number), kind, each.system, each.state, words.steps(each), words.outcome(each))
