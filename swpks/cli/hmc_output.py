"""The output of `swpks hmc`: answers of the control channel as plain text."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from hcall_abi import standstills
from hcall_abi.console import ATTRIBUTES
from hcall_abi.control_views import (
    ComponentsView,
    ConsoleLinkView,
    CopyView,
    CustodyView,
    FaultView,
    HealthView,
    PartitionView,
    RecoveredView,
    SystemView,
    TraceView,
    TrustedKeyView,
    WritebackView,
)
from hcall_abi.counts import counted
from swpks.hmc.line_client import escaped

_IN_TABLE = ("keystore_kbytes", "secure_boot")
"""Attributes that are columns of the table; all others have a line each."""
_UNITS = {"d": 86_400, "h": 3600, "min": 60}
"""Units of an age, in seconds."""
_HEAD = ("PARTITION", "ID", "POWER", "IPLS", "KEYSTORE", "USED", "OBJECTS", "SECURE BOOT")


def plain(answer: Any) -> Any:
    """Return an answer with escapes for control characters in its texts, newlines as well.

    A terminal would execute them, and a newline in a name would look like another row.
    """
    if isinstance(answer, str):
        return escaped(answer)
    if isinstance(answer, list):
        return [plain(each) for each in answer]
    if isinstance(answer, msgspec.Struct):
        fields = answer.__struct_fields__
        return msgspec.structs.replace(answer, **{name: plain(getattr(answer, name)) for name in fields})
    if dataclasses.is_dataclass(answer) and not isinstance(answer, type):
        names = [each.name for each in dataclasses.fields(answer)]
        return dataclasses.replace(answer, **{name: plain(getattr(answer, name)) for name in names})
    return answer


def system(answer: SystemView, age_of: Callable[[float], str] | None = None) -> str:
    """Return the system in one line and its partitions as a table.

    `age_of` returns the text of an age in seconds; the default is `age`.
    """
    head = "\n".join(_system_head(answer))
    partitions = answer.partitions
    moves = [note for each in answer.custody if (note := custody(each))]
    if not partitions:
        return "\n".join([head, "no partitions", *moves])
    notes = [f"{each.name} is REFUSED: {each.refused.detail}" for each in partitions if each.refused]
    notes += moves
    rows = [_HEAD, *map(_row, partitions)]
    # The column is left out for a system without a console, because such a system has no copies.
    if answer.console:
        ages = [_copy_age(each, age_of or age) for each in partitions]
        rows = [(*row, cell) for row, cell in zip(rows, ("COPY", *ages), strict=True)]
    return "\n".join([head, "", *table(rows), *notes])


def with_names(answer: SystemView, names: Mapping[str, str]) -> SystemView:
    """Return a system with the names of other systems in place of their ids."""
    custody = [
        msgspec.structs.replace(each, peer_id=names.get(each.peer_id, each.peer_id))
        for each in answer.custody
    ]
    return msgspec.structs.replace(answer, custody=custody)


def custody(answer: CustodyView) -> str:
    """Return why a partition is not served as usual, "" if it is."""
    moves = _moves(answer)
    if not moves:
        return ""
    trouble = f": {answer.trouble}" if answer.trouble else ""
    return f"{answer.name} {moves}{attempt(answer)}{trouble}"


def attempt(answer: CustodyView) -> str:
    """Return the text about the migration attempt that led to a partition's state."""
    peer = f", other system {answer.peer_id}" if answer.peer_id else ""
    return f" (attempt {answer.epoch}{peer})"


def _moves(answer: CustodyView | PartitionView) -> str:
    """Return an unusual custody state as text.

    Return "" for a usual state, and for a partition that was never here.
    """
    return "" if answer.custody == "none" else standstills.words(answer.custody, answer.mode)


def console(answer: ConsoleLinkView) -> str:
    """Return the text about the attached console: since when it has been connected, or away."""
    state = "connected" if answer.connected else "away"
    return f"console {answer.name} ({answer.id}), {state} since {moment(answer.since)}"


def moment(seconds: float) -> str:
    """Return a time in seconds since 1970 as UTC."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
    # The time may come from a damaged or a foreign copy, so it may be any number.
    except (OverflowError, OSError, ValueError):
        return f"{seconds:.0f} s since 1970"


def age(seconds: float) -> str:
    """Return an age in the largest unit that gives at least 2: 59 s, 3 min, 47 h, 12 d."""
    for unit, size in _UNITS.items():
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _copy_age(answer: PartitionView, age_of: Callable[[float], str] = age) -> str:
    return age_of(time.time() - answer.copy.time) if answer.copy else "none"


def _system_head(answer: SystemView) -> list[str]:
    """Return the lines about the system itself."""
    lines = [
        f"system {answer.name}, {answer.type_model_serial}, state {answer.state}",
        f"{answer.system_id}, {answer.firmware_level}, "
        f"{answer.assigned_kbytes} of {answer.total_kbytes} KiB assigned",
    ]
    if answer.console:
        lines.append(console(answer.console))
    if answer.restored:
        lines.append(f"restored: {', '.join(answer.restored)}")
    if answer.lost:
        lines.append(f"known and not restored: {', '.join(answer.lost)}")
    return lines


def deleted(name: str) -> Callable[[SystemView], str]:
    """Return a function that makes the text about a deleted partition from the answer."""
    return lambda answer: f"{name} is deleted\n{system(answer)}"


def stopping(answer: SystemView) -> str:
    """Return the text that the system powers off."""
    return f"system {answer.name} powers off"


def components(answer: ComponentsView) -> str:
    """Return the parts as a table, and the steps of the start."""
    rows = [("PART", "KIND", "HEALTH", "COPY", "DETAIL")]
    rows += [
        (each.name, each.kind, "ok" if each.ok else "NOT ok", each.copy, each.detail)
        for each in answer.components
    ]
    steps = [f"  {each.step}. {each.finding}" for each in answer.steps]
    return "\n".join([*table(rows), "", f"the last start: {answer.decision}", *steps])


def trusted_key(answer: TrustedKeyView) -> str:
    """Return the id of the trusted system key."""
    return f"trusted system key {answer.id}" if answer.id else "no trusted system key yet"


def copy(name: str, answer: CopyView) -> str:
    """Return the unencrypted facts of a copy of a partition."""
    restores = f" after {counted(answer.restores, 'restore')}" if answer.restores else ""
    return (
        f"copy of {name}: generation {answer.generation}{restores}, {answer.keystore_kbytes} KiB, "
        f"trusted system key {answer.trusted_key_id}"
    )


def recovered(answer: RecoveredView) -> str:
    """Return the result of a recovery: restored stores, and those given up."""
    lines = [f"the state is Operating; restored: {', '.join(answer.restored) or 'none'}"]
    if answer.given_up:
        lines.append(f"given up: {', '.join(answer.given_up)}")
    return "\n".join(lines)


def partition(answer: PartitionView) -> str:
    """Return one partition as a table of one row, its further attributes, and why it was refused."""
    # The loop is over the contract's table, so a new attribute is shown without a change here.
    others = [name for name in ATTRIBUTES if name not in _IN_TABLE]
    lines = table([_HEAD, _row(answer)]) + [f"{name}={getattr(answer, name)}" for name in others]
    lines += map(fault, answer.faults)
    if kept := answer.copy:
        lines.append(f"copy on the console: generation {kept.generation}, {_copy_age(answer)} old")
    if moves := _moves(answer):
        lines.append(f"{answer.name} {moves}")
    if refused := answer.refused:
        lines += [
            f"REFUSED: {refused.detail}",
            f"  rule: {refused.rule} ({refused.rule_id})",
            f"  see: {refused.section}",
        ]
    return "\n".join(lines)


def health(answer: HealthView) -> str:
    """Return the health, with the reasons if it is not good."""
    lines = ["healthy"] if answer.ok else ["NOT healthy", *(f"  {reason}" for reason in answer.reasons)]
    lines.append(
        f"swpks {answer.version}, {answer.running} of {counted(answer.partitions, 'partition')} running"
    )
    if answer.console:
        lines.append(console(answer.console))
    lines.append(writeback(answer.writeback))
    return "\n".join(lines)


def trace(answer: TraceView) -> str:
    """Return where a trace is, or how it ended."""
    place = f"traces/{answer.file} of the state"
    if answer.on:
        kind = "with all SECRETS" if answer.secrets else "without secrets"
        note = "" if answer.running else "; it is powered off: the trace begins with its first session"
        return f"{answer.partition} is traced to {place}, {kind}{note}"
    lost = f", {counted(answer.lost, 'frame')} lost" if answer.lost else ""
    ended = f"; it had ended before: {answer.ended}" if answer.ended else ""
    frames = f"{counted(answer.frames, 'frame')}{lost}, {answer.bytes} bytes"
    return f"the trace of {answer.partition} is in {place}: {frames}{ended}"


def writeback(answer: WritebackView) -> str:
    """Return the state of the writes to NVRAM, and the fault that was set."""
    fault = f"; fault: {answer.fault}" if answer.fault else ""
    return (
        f"NVRAM {answer.state}: {counted(answer.commits, 'commit')}, {counted(answer.failures, 'failure')}, "
        f"{counted(answer.pending, 'partition')} to be written{fault}"
    )


def fault(answer: FaultView) -> str:
    """Return one fault of a plan, with its progress."""
    lasting = f"for {answer.seconds:g} s" if answer.times is None else f"{answer.times} times"
    state = "spent" if answer.spent else f"{answer.answered} so far"
    what = f"{answer.hcall} answers {answer.status}"
    return f"fault: {what} from call {answer.nth} on, {lasting}: {state}"


def _row(answer: PartitionView) -> tuple[str, ...]:
    keystore = answer.keystore
    size = f"{answer.keystore_kbytes} KiB" if answer.keystore_kbytes else "off"
    used, objects = (str(keystore.used_bytes), str(keystore.objects)) if keystore else ("-", "-")
    number, ipls = str(answer.number), str(answer.ipl_count)
    return (answer.name, number, answer.power, ipls, size, used, objects, _secure_boot(answer))


def _secure_boot(answer: PartitionView) -> str:
    current, following = answer.curr_secure_boot, answer.secure_boot
    return current if current == following else f"{current}, {following} at the next IPL"


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
