"""The differences between two snapshots, or between a snapshot and the present system.

Counters are not compared: they differ after every IPL, and a load never puts them back.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from hcall_abi.snapshot_views import (
    ChangedObjectView,
    ChangedPartitionView,
    ChangedValueView,
    ChangeName,
    SnapshotValue,
)
from hcall_server.keystore.image import object_of
from hcall_server.sealing import PartitionRecord
from hcall_server.sealing.snapshots import SnapshotContents

Values = dict[str, SnapshotValue]


class Differences(NamedTuple):
    """The settings and the partitions that differ, and the names of the partitions that are the same."""

    values: list[ChangedValueView]
    partitions: list[ChangedPartitionView]
    same: list[str]


def differences(before: SnapshotContents, after: SnapshotContents) -> Differences:
    """Return the differences.  Partitions are compared by UUID, and without a common UUID by name."""
    values = _values(_system(before), _system(after))
    left = list(after.records)
    partitions, same = [], []
    for record in before.records:
        other = _counterpart(record, left)
        if other is not None:
            left.remove(other)
        found = _partition(record, other)
        if found is None:
            same.append(record.profile.name)
        else:
            partitions.append(found)
    partitions += [found for each in left if (found := _partition(None, each))]
    return Differences(values, partitions, same)


def settings_of(record: PartitionRecord) -> Values:
    """Return the settings in a profile by their names, without identity and counters."""
    profile = record.profile
    attributes: Values = dict(profile.attributes.numbers)
    return {"number": profile.number, "auto_start": profile.auto_start, **attributes}


def _system(contents: SnapshotContents) -> Values:
    return {"name": contents.system_name, "total_kbytes": contents.total_kbytes}


def _counterpart(record: PartitionRecord, others: Iterable[PartitionRecord]) -> PartitionRecord | None:
    """Return the same partition among others; None if there is none."""
    others = list(others)
    by_uuid = (each for each in others if each.profile.uuid == record.profile.uuid)
    by_name = (each for each in others if each.profile.name == record.profile.name)
    return next(by_uuid, None) or next(by_name, None)


def _values(before: Values, after: Values) -> list[ChangedValueView]:
    return [
        ChangedValueView(name=name, before=before[name], after=after[name])
        for name in before
        if before[name] != after[name]
    ]


def _partition(before: PartitionRecord | None, after: PartitionRecord | None) -> ChangedPartitionView | None:
    """Return the difference of one partition, None if there is none."""
    known = after or before
    if known is None:
        return None
    values: list[ChangedValueView] = []
    if before and after:
        names: tuple[Values, Values] = {"name": before.profile.name}, {"name": after.profile.name}
        values = _values({**names[0], **settings_of(before)}, {**names[1], **settings_of(after)})
    objects = _objects(before, after)
    change: ChangeName = "changed" if before and after else "added" if after else "removed"
    if change == "changed" and not values and not objects:
        return None
    profile = known.profile
    return ChangedPartitionView(
        name=profile.name, uuid=str(profile.uuid), change=change, values=values, objects=objects
    )


def _entries(record: PartitionRecord | None) -> dict[tuple[int, bytes], bytes]:
    """Return the entries of a store by consumer and label."""
    entries = record.image.entries if record and record.image else ()
    found = {}
    for entry in entries:
        stored = object_of(entry)
        found[stored.consumer, stored.label] = entry
    return found


def _objects(before: PartitionRecord | None, after: PartitionRecord | None) -> list[ChangedObjectView]:
    old, new = _entries(before), _entries(after)
    found = []
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            change: ChangeName = "added" if key not in old else "removed" if key not in new else "changed"
            sizes = [len(object_of(each[key]).data) if key in each else None for each in (old, new)]
            found.append(
                ChangedObjectView(
                    consumer=key[0], label=key[1].hex(), change=change, before=sizes[0], after=sizes[1]
                )
            )
    return found
