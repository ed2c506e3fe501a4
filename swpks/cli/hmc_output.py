"""The output of `swpks hmc`: answers of the control channel as plain text."""

from __future__ import annotations

from collections.abc import Sequence

from hcall_abi.console import ATTRIBUTES
from hcall_abi.control_bodies import (
    ComponentsView,
    CopyView,
    FaultView,
    HealthView,
    PartitionView,
    Problem,
    RecoveredView,
    SystemView,
    TrustedKeyView,
    WritebackView,
)
from hcall_abi.errors import SwpksError

_IN_TABLE = ("keystore_kbytes", "secure_boot")
"""Attributes that are columns of the table; all others have a line each."""
_HEAD = ("PARTITION", "ID", "POWER", "IPLS", "KEYSTORE", "USED", "OBJECTS", "SECURE BOOT")


def system(answer: SystemView) -> str:
    """Return the system in one line and its partitions as a table."""
    head = "\n".join(_system_head(answer))
    partitions = answer.partitions
    if not partitions:
        return f"{head}\nno partitions"
    notes = [f"{each.name} is REFUSED: {each.refused.detail}" for each in partitions if each.refused]
    return "\n".join([head, "", *_table([_HEAD, *map(_row, partitions)]), *notes])


def _system_head(answer: SystemView) -> list[str]:
    """Return the lines about the system itself."""
    lines = [
        f"system {answer.name}, {answer.type_model_serial}, state {answer.state}",
        f"{answer.system_id}, {answer.firmware_level}, "
        f"{answer.assigned_kbytes} of {answer.total_kbytes} KiB assigned",
    ]
    if answer.restored:
        lines.append(f"restored: {', '.join(answer.restored)}")
    if answer.lost:
        lines.append(f"known and not restored: {', '.join(answer.lost)}")
    return lines


def components(answer: ComponentsView) -> str:
    """Return the parts as a table, and the steps of the start."""
    rows = [("PART", "KIND", "HEALTH", "COPY", "DETAIL")]
    rows += [
        (each.name, each.kind, "ok" if each.ok else "NOT ok", each.copy, each.detail)
        for each in answer.components
    ]
    steps = [f"  {each.step}. {each.finding}" for each in answer.steps]
    return "\n".join([*_table(rows), "", f"the last start: {answer.decision}", *steps])


def trusted_key(answer: TrustedKeyView) -> str:
    """Return the id of the trusted system key."""
    return f"trusted system key {answer.id}" if answer.id else "no trusted system key yet"


def copy(answer: CopyView) -> str:
    """Return the clear facts of a copy."""
    return (
        f"copy of {answer.uuid}: generation {answer.generation}, {answer.keystore_kbytes} KiB, "
        f"trusted system key {answer.trusted_key_id}"
    )


def recovered(answer: RecoveredView) -> str:
    """Return the end of a recovery: what came back, and what is lost."""
    lines = [f"the state is Operating; restored: {', '.join(answer.restored) or 'none'}"]
    if answer.given_up:
        lines.append(f"given up: {', '.join(answer.given_up)}")
    return "\n".join(lines)


def partition(answer: PartitionView) -> str:
    """Return one partition as a table of one row, its further attributes, and why it was refused."""
    others = [name for name in ATTRIBUTES if name not in _IN_TABLE]
    lines = _table([_HEAD, _row(answer)]) + [f"{name}={getattr(answer, name)}" for name in others]
    lines += map(_fault, answer.faults)
    if refused := answer.refused:
        lines += [
            f"REFUSED: {refused.detail}",
            f"  rule: {refused.rule} ({refused.rule_id})",
            f"  see: {refused.section}",
        ]
    return "\n".join(lines)


def health(answer: HealthView) -> str:
    """Return whether all is well, or each thing that is not."""
    lines = ["healthy"] if answer.ok else ["NOT healthy", *(f"  {reason}" for reason in answer.reasons)]
    lines.append(f"swpks {answer.version}, {answer.running} of {answer.partitions} partitions running")
    lines.append(writeback(answer.writeback))
    return "\n".join(lines)


def writeback(answer: WritebackView) -> str:
    """Return how writing to NVRAM goes, and the trouble that was asked for."""
    fault = f"; fault: {answer.fault}" if answer.fault else ""
    return (
        f"NVRAM {answer.state}: {answer.commits} commits, {answer.failures} failures, "
        f"{answer.pending} partitions to be written{fault}"
    )


def problem(answer: Problem) -> str:
    """Return a refusal with the console's message number, the rule, and where it is written."""
    detail = f"{answer.code}: {answer.detail}" if answer.code else answer.detail
    rule = f"{answer.rule} ({answer.rule_id})"
    return f"{detail}\n  rule: {rule}\n  see: {answer.section} ({answer.fault} fault)"


def failure(error: SwpksError) -> dict[str, str]:
    """Return an error of a command without a system as the fields of a problem."""
    rule = error.rule
    return {
        "detail": error.message,
        "fault": rule.fault.value,
        "rule_id": rule.id,
        "rule": rule.sentence,
        "section": rule.page,
    }


def _fault(answer: FaultView) -> str:
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


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines whose columns are as wide as they need to be."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
