"""The output of `swpks hmc` about a console: its systems, copies and jobs as plain text."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from swpks.cli.hmc_output import age, moment, table
from swpks.hmc.views import JobView, KnownSystemView, RemovedSystemView, StoredCopyView


def no_systems(store: str) -> str:
    """Return the answer of a console that knows no system.

    The text has the command that adds a system to the console's store.
    """
    return f"no systems; add one: `swpks hmc --store {shlex.quote(store)} add-system [NAME=]WHERE`"


def systems(answer: Sequence[KnownSystemView]) -> str:
    """Return the systems as a table.

    Below the table are the reason for each system that is away, and the partitions without a copy.
    """
    rows: list[Sequence[str]] = [
        ("SYSTEM", "TYPE-MODEL*SERIAL", "STATE", "PARTITIONS", "LINK", "SINCE", "OLDEST COPY", "WHERE")
    ]
    rows += [_system(each) for each in answer]
    away = [_away(each) for each in answer if not each.connected]
    bare = [f"{each.name}: {_bare(each)}" for each in answer if each.without_copy]
    waiting = [f"{each.name}: {line}" for each in answer for line in each.waiting]
    return "\n".join([*table(rows), *away, *bare, *waiting])


def link(answer: KnownSystemView) -> str:
    """Return the connection of a system, the age of its copies, and a line for each unserved partition."""
    state = f"connected since {moment(answer.since)}"
    if not answer.connected:
        state = f"away since {moment(answer.since)}: {_reason(answer)}"
    copied = "no copies"
    if answer.copied is not None and answer.age is not None:
        copied = f"oldest copy {age(answer.age)} old, from {moment(answer.copied)}"
    first = f"console: {state}; " + "; ".join([copied, *([_bare(answer)] if answer.without_copy else [])])
    return "\n".join([first, *answer.waiting])


def added(answer: KnownSystemView) -> str:
    """Return the text about a system that was added."""
    return f"{answer.name} ({answer.type_model_serial}) at {answer.where}"


def removed(answer: RemovedSystemView) -> str:
    """Return the text about a removed system.

    If the system still has the console's id, the text has the reason.
    """
    text = f"{answer.name} is removed; its copies stay in the store"
    return f"{text}\n{answer.trouble}" if answer.trouble else text


def jobs(answer: Sequence[JobView]) -> str:
    """Return the jobs as a table."""
    if not answer:
        return "no jobs"
    rows = [("JOB", "KIND", "SYSTEM", "STATE", "STEPS", "LAST")]
    return "\n".join(table([*rows, *map(_job, answer)]))


def copies(answer: Sequence[StoredCopyView]) -> str:
    """Return the copies as a table, the newest of each store first."""
    if not answer:
        return "no copies"
    rows = [("SYSTEM", "PARTITION", "FROM", "AGE", "RESTORES", "GENERATION", "KEYSTORE", "KEY ID")]
    return "\n".join(table([*rows, *map(_copy, answer)]))


def _system(each: KnownSystemView) -> tuple[str, ...]:
    partitions = "-" if each.partitions is None else str(each.partitions)
    linked = "connected" if each.connected else "away"
    copied = "none" if each.age is None else age(each.age)
    link = (linked, moment(each.since))
    return (
        each.name or "-",
        each.type_model_serial or "-",
        _state(each),
        partitions,
        *link,
        copied,
        each.where,
    )


def _state(each: KnownSystemView) -> str:
    """Return the state of a system; if it is not connected, the last known state."""
    if each.connected:
        return each.state or "-"
    return f"No Connection ({each.state})" if each.state else "No Connection"


def _away(each: KnownSystemView) -> str:
    """Return why a system is not connected.

    A system that was never reached may have no name.
    """
    named = each.name or f"the system at {each.where}"
    return f"{named} {'is away' if each.system_id else 'was not reached yet'}: {_reason(each)}"


def _reason(each: KnownSystemView) -> str:
    return f"{each.trouble}; {each.advice}" if each.advice else each.trouble


def _bare(each: KnownSystemView) -> str:
    """Return the text about partitions without a copy."""
    has = "has" if len(each.without_copy) == 1 else "have"
    return f"{', '.join(each.without_copy)} {has} no copy"


def _job(each: JobView) -> tuple[str, ...]:
    # A job that waits shows the reason, because the operator may have to act.
    last = each.waiting and f"waits: {each.waiting}"
    last = last or (each.lines[-1] if each.lines else "")
    return (str(each.number), each.kind, each.system, each.state, f"{each.done}/{each.total}", last)


def _copy(each: StoredCopyView) -> tuple[str, ...]:
    numbers = (str(each.restores), str(each.generation), f"{each.keystore_kbytes} KiB")
    return (each.system, each.partition, moment(each.time), age(each.age), *numbers, each.trusted_key_id)
