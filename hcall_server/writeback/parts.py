"""Splitting the changes of a flight into commits that a back end of NVRAM takes."""

# SQLite takes a commit of any size.  etcd takes 1.5 MiB and 128 operations.  So the changes of a large flight
# become several commits, the parts, each with a commit record of its own.  After a crash between two parts,
# the first ones have taken effect.  That must be a state that the system may have:
#
#   1. The record of a partition is in one part, because it is one record.
#   2. Records of the system are in the last part, all together, with as many removals of partitions as fit.
#      So the departure of a partition (custody record and removal) stays one commit.  If there are more
#      removals than that, the others are in earlier parts, and never behind the custody record.
#   3. Partitions that the last commit did not list are in the last part too, as long as they fit.  So an
#      arrival (record and custody record) usually is one commit.  If it is two, the record comes first: it
#      has a higher epoch than the entry in the custody record, and a start accepts both.
#
# Nothing counts as flushed before the last part has returned.  So a crash between parts loses nothing that
# was confirmed.
#
# Dropped: the records of the system first.  An arrival that is cut would lose the entry of an earlier
# departure, and with it the protection against older attempts.  A departure that is cut would have its entry
# in the custody record while the partition is still stored.  The two contradict each other, so the start of
# the system would be refused.  In the order of guarantee 2 the partition is gone, and its entry is missing.
# A start accepts that.  The other system has reported that it serves the partition, so the partition still
# has one owner.  Only the last epoch and the reserved name are lost, of a departure that was not confirmed.

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from hcall_server.nvram.names import parse_partition
from hcall_server.nvram.seam import CommitLimits

Records = Mapping[str, bytes | None]


def split(
    changes: Records, limits: CommitLimits, reserved: int, known: Callable[[str], bool]
) -> list[Records]:
    """Return the changes in parts that are within the limits, at least one part.

    Each part leaves room for a commit record of `reserved` bytes.  `known` returns whether the last commit
    lists a record.  A record that is larger than the limit has a part of its own.
    """
    room = CommitLimits(limits.size - reserved, limits.records - 1)
    old = [
        name for name, blob in changes.items() if blob is not None and parse_partition(name) and known(name)
    ]
    # From the end: the last part is filled first, so that it takes as many new partitions as fit.
    before = set(old)
    rest = [name for name in changes if name not in before]
    rest.sort(key=lambda name: _rank(name, changes[name]))
    chunks = _chunks([*old, *rest][::-1], changes, room)
    return [{name: changes[name] for name in reversed(chunk)} for chunk in reversed(chunks)]


def _rank(name: str, blob: bytes | None) -> int:
    """Return the place of a change in the order: new partitions, removals of partitions, the system's."""
    if parse_partition(name) is None:
        return 2
    return 1 if blob is None else 0


def _chunks(names: Iterable[str], changes: Records, room: CommitLimits) -> list[list[str]]:
    chunks: list[list[str]] = [[]]
    size = 0
    for name in names:
        added = len(name) + len(changes[name] or b"")
        if chunks[-1] and (size + added > room.size or len(chunks[-1]) >= room.records):
            chunks.append([])
            size = 0
        chunks[-1].append(name)
        size += added
    return chunks
