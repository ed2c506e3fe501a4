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
    bare = words.bare(overview)
    head = [words.health(overview), f"oldest last copy: {words.last_copy(overview)}"]
    lines = ["; ".join([*head, *([bare] if bare else [])])]
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
    else:
        yield from (f"  ! {each}" for each in system.attention)
    if system.components:
        yield "  " + ", ".join(f"{each.name} {words.role(each)}" for each in system.components)
    if not system.partitions:
        yield "  no partitions known"
        return
    yield from (f"  {line}" for line in table([_HEAD, *map(_partition, system.partitions)]))
    yield from (f"  {each.name}: {each.trouble}" for each in system.partitions if each.trouble)


def _partition(each: PartitionOverview) -> tuple[str, ...]:
    facts = (words.copy(each), words.space(each), each.secure_boot or words.UNKNOWN)
    return (each.name, each.state, *facts, words.passwords(each), words.durable(each))


def _job(each: JobOverview) -> tuple[str, ...]:
    kind = f"{each.kind} {each.partition}".rstrip()
    return (str(each.number), kind, each.system, each.state, words.steps(each), words.outcome(each))
