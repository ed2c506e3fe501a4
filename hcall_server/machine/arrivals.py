"""Moves of powered-off partitions: release one, or own one from its console copy.

These are rows 15 and 16 of the custody table.  This module also has the checks before any migration.

Page: spec/migration.md#inactive-migration.  A start does not load this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from hcall_abi.errors import OperatorError
from hcall_abi.rules import migration as rules
from hcall_server.platform import arrival as arrival_rules
from hcall_server.platform import custody
from hcall_server.platform.custody import OWNING, Custody, Mode, Standing, Word
from hcall_server.sealing.copies import read_copy
from hcall_server.sealing.traveller import FORMATS, Traveller

if TYPE_CHECKING:
    from hcall_server.machine.backups import Backups, Counters
    from hcall_server.machine.custodian import Custodian
    from hcall_server.platform.arrival import Needs
    from hcall_server.platform.partition import Partition
    from hcall_server.platform.system import ManagedSystem


class ArrivingStore(NamedTuple):
    """The console copy by which this system is to own a partition.

    `epoch` is the number of the attempt, and `source` the id of the source.  `seen` are the largest counters
    of the store that the console knows.
    """

    copy: bytes
    epoch: int
    source: bytes
    seen: Counters

    def __repr__(self) -> str:
        return f"ArrivingStore(epoch {self.epoch}, <{len(self.copy)} bytes>)"


def needs_of(system: ManagedSystem, partition: Partition) -> Needs:
    """Return what a partition needs at another system.

    If it runs, it also needs a format of the transfer that both systems know.
    """
    return arrival_rules.needs_of(partition, system.level, FORMATS if partition.running else ())


def demand_fit(system: ManagedSystem, wanted: Needs) -> None:
    """OperatorError if a partition does not fit on a system.

    If the needs list formats, the move is a live migration.
    """
    arrival_rules.demand_fit(system, wanted, FORMATS, live=bool(wanted.formats))


async def take(custodian: Custodian, backups: Backups, arrival: ArrivingStore) -> Partition:
    """Make this system the durable owner of a copy's partition; return the partition, powered off.

    A repeated order has no further effect if the first one succeeded.

    CopyError if the copy does not open.  OperatorError if this system owns the partition already, has seen
    a later attempt, or has no room.
    """
    uuid = read_copy(arrival.copy).uuid
    # The console repeats an order if the answer was lost.  The step of the first order may still run.
    await custodian.settled(uuid)
    present = custodian.partition(uuid)
    if present is not None and _is_done(present, Custody.ARRIVED, arrival.epoch, arrival.source):
        return present
    record = backups.arriving(arrival.copy, arrival.epoch, arrival.seen)
    _demand_step(custodian, uuid, arrival.epoch)
    traveller = Traveller(record, None)
    await custodian.take(uuid, Word.COPY, arrival.epoch, peer=arrival.source, traveller=traveller)
    taken = custodian.partition(uuid)
    if taken is None:
        raise OperatorError(rules.ARRIVAL_CUSTODY, f"the partition {uuid} was deleted meanwhile")
    return taken


def checked(custodian: Custodian, backups: Backups, arrival: ArrivingStore) -> Partition:
    """Return the partition as `take` would make it, and change nothing.  Raises the same errors as `take`."""
    record = backups.arriving(arrival.copy, arrival.epoch, arrival.seen)
    _demand_step(custodian, record.profile.uuid, arrival.epoch)
    return backups.shown(record)


async def release(custodian: Custodian, partition: Partition, epoch: int, target: bytes) -> None:
    """Release a powered-off partition to another system, durably; a repeated order has no further effect."""
    uuid = partition.profile.uuid
    await custodian.settled(uuid)
    if _is_done(partition, Custody.RELEASED, epoch, target):
        return
    if await custodian.take(uuid, Word.RELEASE, epoch, peer=target) is None:
        partition.demand_owned()
        if partition.mode is not Mode.SERVING:
            raise OperatorError(rules.CUSTODY_IDLE, f"{partition.name} is {partition.mode.value}")
        raise _old(custodian.standing(uuid), epoch)


def _is_done(partition: Partition, state: Custody, epoch: int, peer: bytes) -> bool:
    profile = partition.profile
    return (profile.custody, profile.epoch, profile.peer) == (state, epoch, peer)


def _demand_step(custodian: Custodian, uuid: UUID, epoch: int) -> None:
    """OperatorError unless the custody table lets this attempt own the partition from a copy."""
    standing = custodian.standing(uuid)
    if custody.step(standing, Word.COPY, epoch) is None:
        if standing.custody not in OWNING | {Custody.FROZEN}:
            raise _old(standing, epoch)
        message = f"the partition {uuid} is {standing.custody.name} here, since attempt {standing.epoch}"
        raise OperatorError(rules.ARRIVAL_CUSTODY, message)


def _old(standing: Standing, epoch: int) -> OperatorError:
    return OperatorError(
        rules.CUSTODY_EPOCH, f"the last attempt is {standing.epoch}, and this one is {epoch}"
    )
