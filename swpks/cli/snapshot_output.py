"""Answers about snapshots as text."""

from __future__ import annotations

from collections.abc import Iterable

from hcall_abi.counts import counted
from hcall_abi.snapshot_views import (
    ChangedObjectView,
    ChangedPartitionView,
    LeftOutView,
    LoadedSnapshotView,
    SavedSnapshotView,
    SnapshotDiffView,
    SnapshotFactsView,
    SnapshotPartitionView,
    SnapshotsView,
    SnapshotView,
)
from hcall_client.guests.labels import describe_label
from swpks.cli.hmc_output import moment, table

_SIGNS = {"added": "+", "removed": "-", "changed": "~"}


def listed(answer: SnapshotsView) -> str:
    """Return a table of snapshots."""
    rows = [("NAME", "KIND", "TIME", "PARTITIONS", "BYTES")]
    for each in answer.snapshots:
        if each.problem:
            rows.append((each.name, "unknown", each.problem, "", ""))
        else:
            rows.append((each.name, each.kind, moment(each.time), str(each.partitions), str(each.size)))
    return "\n".join(table(rows)) if answer.snapshots else "no snapshots"


def saved(answer: SavedSnapshotView) -> str:
    """Return the file of a new snapshot, and the partitions that are not in it."""
    place = "" if "/" in answer.file else f" in snapshots/{answer.file}"
    return "\n".join([f"saved {_head(answer.facts)}{place}", *_left(answer.left_out)])


def loaded(answer: LoadedSnapshotView) -> str:
    """Return the partitions that a load has changed, left out, and not touched."""
    lines = [f"loaded {_head(answer.facts)}"]
    for each in answer.loaded:
        made = ", made again" if each.made else ""
        lines.append(f"  {each.name}: off{made}; generation {each.generation}, restores {each.restores}")
    untouched = [f"  not in the snapshot, left as they are: {', '.join(answer.untouched)}"]
    return "\n".join([*lines, *_left(answer.left_out), *(untouched if answer.untouched else [])])


def shown(answer: SnapshotView) -> str:
    """Return the contents of a snapshot."""
    head = f"{_head(answer.facts)}; system {answer.facts.system_id}, {answer.facts.firmware_level}"
    if not answer.opened:
        return f"{head}\nnot checked: --passphrase-file F opens it"
    name = answer.system_name
    settings = f"checked; name {name or '(none)'}, PKS total {answer.total_kbytes} KiB"
    return "\n".join([head, settings, *(line for each in answer.partitions for line in _partition(each))])


def compared(answer: SnapshotDiffView) -> str:
    """Return the differences, one line each."""
    ends = f"{answer.before} -> {answer.after or 'the present system'}"
    lines = [f"~ system {each.name}: {each.before} -> {each.after}" for each in answer.values]
    lines += [line for each in answer.partitions for line in _changed(each)]
    same = f"the same: {', '.join(answer.same)}" if answer.same else ""
    return "\n".join(filter(None, [ends, *(lines or ["no difference"]), same]))


def _head(facts: SnapshotFactsView) -> str:
    count = f"{facts.partitions} partition{'' if facts.partitions == 1 else 's'}"
    return f"{facts.name} ({facts.kind}, {moment(facts.time)}, {count}, {facts.size} bytes)"


def _left(found: Iterable[LeftOutView]) -> list[str]:
    return [f"  left out: {each.name}: {each.reason}" for each in found]


def _partition(each: SnapshotPartitionView) -> list[str]:
    size = each.attributes["keystore_kbytes"]
    lines = [f"{each.name} (id {each.number}): {size} KiB, {counted(len(each.objects), 'object')}"]
    for found in each.objects:
        label = describe_label(bytes.fromhex(found.label))
        lines.append(f"  {found.consumer} {label}: {found.size} bytes, policy 0x{found.policy:08x}")
    return lines


def _changed(each: ChangedPartitionView) -> list[str]:
    lines = [f"{_SIGNS[each.change]} {each.name}"]
    lines += [f"  ~ {value.name}: {value.before} -> {value.after}" for value in each.values]
    return [*lines, *(f"  {_object(found)}" for found in each.objects)]


def _object(found: ChangedObjectView) -> str:
    sizes = [str(size) for size in (found.before, found.after) if size is not None]
    label = describe_label(bytes.fromhex(found.label))
    return f"{_SIGNS[found.change]} {found.consumer} {label}: {' -> '.join(sizes)} bytes"
