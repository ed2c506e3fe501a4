"""The plan of a load: which partition of a snapshot takes which place, or the refusal of the whole load.

A plan changes nothing.  The caller carries it out in the same turn of the event loop.
"""

# All or nothing
#
# A load puts several partitions back.  Half of them would be a state that the system never had.  So each
# reason to refuse is found before the first change:
#
#   - A partition that runs.  Its guest has keys in memory that the older store does not have.  All of them
#     are named at once, because a tester would otherwise need an attempt for each.
#   - A name that another partition has now.  Neither is renamed: clients find a partition by its name.
#   - Sizes and h-calls that do not fit the firmware level, and the sum of all sizes.  The sum is that after
#     the load.  A check of one partition after the other would refuse a load that first shrinks a store.
#
# A partition that this system does not own is no reason to refuse.  Another system serves it, so its store is
# left out, and named.  Otherwise one migration would make every older snapshot useless.
#
# A partition that exists now keeps its name, number, access key and custody, as in each restore
# (`backups.restored_over`).  Numbers of the others are chosen here for all of them together: one that has to
# take a free number must not take that of a later one.

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from hcall_abi.console import LARGEST_PARTITION_ID
from hcall_abi.errors import OperatorError
from hcall_abi.rules import console
from hcall_abi.rules import snapshot as rules
from hcall_server.machine.backups import restored_over
from hcall_server.platform import names
from hcall_server.platform.demands import check
from hcall_server.platform.names import NewName
from hcall_server.sealing import PartitionRecord
from hcall_server.sealing.restoring import restored

if TYPE_CHECKING:
    from hcall_server.machine.backups import ClientKeys
    from hcall_server.platform.partition import Partition
    from hcall_server.platform.system import ManagedSystem


class LeftOut(NamedTuple):
    """A partition that a save or a load leaves out, and the reason."""

    name: str
    reason: str


class LoadPlace(NamedTuple):
    """The record to store, and the present partition that it replaces, None for a new one."""

    record: PartitionRecord
    before: Partition | None


class LoadPlan(NamedTuple):
    """The places of a load, the partitions that it leaves out, and the names that it does not touch."""

    places: tuple[LoadPlace, ...]
    left_out: tuple[LeftOut, ...]
    untouched: tuple[str, ...]


def planned(
    system: ManagedSystem,
    records: Sequence[PartitionRecord],
    keys: ClientKeys,
    *,
    waits: Callable[[Partition], bool],
    total: int,
    fresh: bool = False,
) -> LoadPlan:
    """Return the plan of a load; OperatorError if the load is refused.

    `waits` says whether a partition is about to start.  `total` is the PKS total after the load, in KiB.
    `fresh`: the partitions have new UUIDs and access keys, so none of them exists.
    """
    system.demand_operating()
    reasons = {record.profile.uuid: _foreign(system, record) for record in records}
    left_out = tuple(each for each in reasons.values() if each)
    own = [record for record in records if not reasons[record.profile.uuid]]
    wanted = [(record, system.by_uuid(record.profile.uuid)) for record in own]
    _demand_idle([before for _, before in wanted if before and (before.running or waits(before))])
    new = [record for record, before in wanted if before is None]
    _demand_names(system, new, fresh=fresh)
    _demand_sizes(system, wanted, total)
    numbers = _numbers(system, new)
    places = []
    for record, before in wanted:
        if fresh:
            found = restored(_numbered(record, numbers), 0, 0)
        else:
            found = restored_over(_numbered(record, numbers), before, system, keys)
        places.append(LoadPlace(found, before))
    touched = {before.name for _, before in wanted if before} | {each.name for each in left_out}
    return LoadPlan(tuple(places), left_out, tuple(name for name in system.places if name not in touched))


def _foreign(system: ManagedSystem, record: PartitionRecord) -> LeftOut | None:
    """Return why this system does not own the partition of a record, None if it does."""
    profile = record.profile
    before = system.by_uuid(profile.uuid)
    try:
        system.demand_not_left(profile.uuid)
        if before is not None:
            before.demand_owned()
    except OperatorError as error:
        return LeftOut(before.name if before else profile.name, error.message)
    return None


def _numbered(record: PartitionRecord, numbers: Mapping[UUID, int]) -> PartitionRecord:
    """Return a record with the number that was chosen for its partition."""
    number = numbers.get(record.profile.uuid, record.profile.number)
    return record._replace(profile=record.profile._replace(number=number))


def _demand_idle(busy: Iterable[Partition]) -> None:
    """OperatorError that names all partitions that run."""
    found = sorted(each.name for each in busy)
    if found:
        commands = "; ".join(f"`swpks hmc power {name} off`" for name in found)
        message = f"running: {', '.join(found)}; power each of them off first: {commands}"
        raise OperatorError(rules.SNAPSHOT_IDLE, message, advised=True)


def _demand_names(system: ManagedSystem, new: Iterable[PartitionRecord], *, fresh: bool) -> None:
    """OperatorError if another partition has the name of one that the load makes."""
    unreadable = fresh and any(each.name_unknown for each in system.places.values())
    taken = [each.profile.name for each in new if each.profile.name in system.places]
    if taken:
        advice = "rename or delete them first"
        if fresh:
            advice += "; or, on the system that made the snapshot, use --keep-uuid to put them back"
        message = f"other partitions have these names now: {', '.join(taken)}: {advice}"
        raise OperatorError(console.NAME_NEW, message, advised=True)
    for each in new:
        name, reserving = each.profile.name, system.reserving(each.profile.name)
        reserved = reserving is not None and reserving.uuid != each.profile.uuid
        check(names.RULES, NewName(name, False, unreadable, reserved))


def _demand_sizes(
    system: ManagedSystem, wanted: Sequence[tuple[PartitionRecord, Partition | None]], total: int
) -> None:
    """OperatorError if a keystore does not fit the level, or if all of them do not fit the total."""
    taken = system.assigned_kbytes
    for record, before in wanted:
        system.demand_level(record.profile)
        taken += record.profile.attributes.keystore_kbytes - (before.kbytes if before else 0)
    if taken > total:
        message = f"after the load all keystores have {taken} KiB, and the total of the system is {total} KiB"
        raise OperatorError(console.SIZE_TOTAL, message)


def _numbers(system: ManagedSystem, new: Iterable[PartitionRecord]) -> dict[UUID, int]:
    """Return the partition id of each new partition by its UUID: its own if that is free, else the least."""
    taken = {each.number for each in system.places.values()}
    found: dict[UUID, int] = {}
    homeless = []
    for each in new:
        uuid, number = each.profile.uuid, each.profile.number
        if number in taken:
            homeless.append(uuid)
        else:
            found[uuid] = number
            taken.add(number)
    free = (number for number in range(1, LARGEST_PARTITION_ID + 1) if number not in taken)
    for uuid in homeless:
        number = next(free, 0)
        if not number:
            raise OperatorError(console.PARTITION_ID, "no partition id is left")
        found[uuid] = number
    return found
