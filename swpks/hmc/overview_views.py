"""The overview of a console: its systems, partitions and jobs (spec/console.md#overview).

The page and `swpks hmc status --watch` show the same overview.  Times are in seconds since 1970 (UTC).  Ages
are in full minutes: an age in seconds would be a change in every second.
"""

from __future__ import annotations

import msgspec

from hcall_abi.control_views import ComponentView, View


class PartitionOverview(View):
    """A partition: its last known facts.

    `state` is one or two words.  A fact that is not known is null, such as all facts of a partition whose
    system was not reached since the start of the console.  `used_bytes` to `flushed` are null if the keystore
    is off.  `copied` is the time of the newest copy at the console, `copy_minutes` its age.  `copy_behind`:
    the store has changed since this copy.  `trouble` is the reason for which it is not served.
    """

    name: str
    uuid: str
    state: str
    number: int | None = None
    secure_boot: str | None = None
    total_bytes: int | None = None
    used_bytes: int | None = None
    objects: int | None = None
    passwords: list[str] | None = None
    generation: int | None = None
    flushed: int | None = None
    copied: int | None = None
    copy_minutes: int | None = None
    copy_behind: bool = False
    trouble: str = ""


class SystemOverview(View):
    """A system with its partitions.

    `state` is the last known state, "" if none is known.  `since` is the time since which it has been
    connected or away.  If it is away, `trouble` is the reason, `advice` the remedy, and all other facts are
    those of the last contact.  `silent`: it is connected, and did not answer the last question, so its facts
    are those of its last answer.  `components` is null until the system has shown them.  `attention` has a
    sentence for each finding that needs a person.  `copied` and `copy_minutes` are about the oldest one of
    the newest copies of its stores; null without any copy.
    """

    name: str
    type_model_serial: str
    where: str
    state: str
    connected: bool
    since: float
    trouble: str = ""
    advice: str = ""
    silent: bool = False
    components: list[ComponentView] | None = None
    partitions: list[PartitionOverview] = []
    attention: list[str] = []
    copied: int | None = None
    copy_minutes: int | None = None
    without_copy: list[str] = []


class JobOverview(View):
    """A job: its progress, its last line, and the row of the state table that its partition has reached.

    `partition` and `row` are "" for a job that moves no partition.  `waiting` is the reason for which it
    waits.
    """

    number: int
    kind: str
    system: str
    state: str
    done: int
    total: int
    line: str = ""
    waiting: str = ""
    partition: str = ""
    row: str = ""


class Overview(View):
    """All that a console shows.

    `console` is its name.  `run` is random, and the same as long as the process runs: another value means
    that the console was restarted.  `ok`: no system needs a person.
    """

    console: str
    run: str
    ok: bool
    systems: list[SystemOverview]
    jobs: list[JobOverview]


def of_one(overview: Overview, system: str) -> Overview:
    """Return the overview of one system, by its name or its serial number, with the jobs about it."""
    systems = [each for each in overview.systems if system in (each.name, each.type_model_serial)]
    names = {each.name for each in systems}
    jobs = [each for each in overview.jobs if each.system in names]
    ok = all(not each.attention for each in systems)
    return msgspec.structs.replace(overview, systems=systems, jobs=jobs, ok=ok)
