"""The functions of the verbs of migration, and their rows in `verbs.PERFORMED` (spec/migration.md)."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

import msgspec
import trio

from hcall_abi.control_bodies import (
    ArrivalCheck,
    ArrivingCopy,
    CustodyMessage,
    ExpectedPartition,
    MigrationOrder,
    PartitionRelease,
)
from hcall_abi.control_views import (
    ArrivalView,
    CopyView,
    ExpectationView,
    NeedsView,
    PartitionView,
    SystemView,
)
from hcall_abi.errors import OperatorError, StorageError
from hcall_abi.rules import migration as rules
from hcall_server.control_channel.performing import Call, Performed
from hcall_server.control_channel.views import copy_view, partition_view, system_view
from hcall_server.machine.patience import PATIENCE
from hcall_server.platform.custody import Word
from hcall_server.platform.partition import Partition

if TYPE_CHECKING:
    from hcall_server.machine.machine import Machine
    from hcall_server.machine.mobility import Mobility

T = TypeVar("T")


def show_needs(call: Call) -> NeedsView:
    """Show what a partition needs at another system."""
    from hcall_server.machine import arrivals

    needs = arrivals.needs_of(call.machine.system, call.machine.system.find(call.name))
    return NeedsView(**needs._asdict() | {"uuid": str(needs.uuid), "attributes": dict(needs.attributes)})


def check_arrival(call: Call) -> ArrivalView:
    """Check whether a partition fits on this system."""
    from hcall_server.machine import arrivals
    from hcall_server.platform.arrival import Needs

    body: ArrivalCheck = call.body
    facts = {name: getattr(body, name) for name in body.__struct_fields__}
    facts |= {"uuid": UUID(body.uuid), "attributes": msgspec.to_builtins(body.attributes)}
    arrivals.demand_fit(call.machine.system, Needs(**facts))
    return ArrivalView(name=body.name)


async def expect_partition(call: Call) -> ExpectationView:
    """Permit another system to send a partition; show the address for that system."""
    body: ExpectedPartition = call.body
    return ExpectationView(address=await call.machine.migrations.expect(body))


async def begin_migration(call: Call) -> PartitionView:
    """Begin a live migration at its source."""
    body: MigrationOrder = call.body
    _named(call, body.uuid)
    await call.machine.migrations.begin(call.name, body)
    return partition_view(call.machine, call.machine.system.find(call.name))


async def take_partition(call: Call) -> PartitionView:
    """Take over a partition from its console copy; with `check`, only check the copy."""
    from hcall_server.machine import arrivals

    body: ArrivingCopy = call.body
    machine, seen = call.machine, (body.seen_generation, body.seen_ipl_count, body.seen_restores)
    arrival = arrivals.ArrivingStore(body.copy, body.epoch, bytes.fromhex(body.source_id), seen)
    if body.check:
        return partition_view(machine, arrivals.checked(machine.custodian, machine.backups, arrival))
    taken = arrivals.take(machine.custodian, machine.backups, arrival)
    return partition_view(machine, await _in_time(taken, "the partition of the copy"))


async def release_partition(call: Call) -> CopyView:
    """Release a powered-off partition, and make its copy for the target."""
    from hcall_server.machine import arrivals

    body: PartitionRelease = call.body
    partition, target = _named(call, body.uuid), bytes.fromhex(body.target_id)
    released = arrivals.release(call.machine.custodian, partition, body.epoch, target)
    await _in_time(released, f"the release of {call.name}")
    return copy_view(await call.machine.backups.copy_of(call.name, released=True))


async def tell_custody(call: Call) -> SystemView:
    """Perform a word of the migration protocol.

    A word that has no effect in this state is no error.
    """
    body: CustodyMessage = call.body
    call.machine.system.demand_not_pending()
    uuid, word = UUID(body.uuid), Word(body.word)
    # A driver of the attempt, if there is one, must end its connection.  So ABORT goes to the driver, and not
    # directly to the custodian.
    if word is Word.ABORT:
        step: Awaitable[object] = call.machine.migrations.abort(uuid, body.epoch)
    else:
        peer = b"" if isinstance(body.peer_id, msgspec.UnsetType) else bytes.fromhex(body.peer_id)
        step = call.machine.custodian.take(uuid, word, body.epoch, generation=body.generation, peer=peer)
    await _in_time(step, f"the custody of {uuid}")
    return system_view(call.machine)


def load_custody(_: Machine) -> None:
    """Import the modules of custody.

    This runs in a thread at the first request, because a start does not need them.
    """
    import hcall_server.machine.arrivals
    import hcall_server.machine.attachment
    import hcall_server.machine.backups
    import hcall_server.machine.custodian  # noqa: F401


def load_mobility(machine: Machine) -> Mobility:
    """Have the machine make its part for live migrations, which imports the modules for them."""
    load_custody(machine)
    return machine.migrations


async def _in_time(step: Awaitable[T], what: str) -> T:
    """Wait for a step; StorageError if NVRAM does not store it in time.

    The step itself goes on after the error.
    """
    # A request must end in a bounded time.  The step must not be cut off, because its commit may have begun.
    # So only the wait is cancelled.  The console repeats the word, which is always permitted.
    with trio.move_on_after(PATIENCE):
        return await step
    message = f"NVRAM has not stored {what} within {PATIENCE:g} seconds: it is retried, so repeat the request"
    raise StorageError(rules.CUSTODY_STORED, message)


def _named(call: Call, uuid: str) -> Partition:
    """Return the partition of a path; OperatorError unless it has the UUID of the body."""
    partition = call.machine.system.find(call.name)
    if str(partition.profile.uuid) != uuid:
        message = f"{call.name} has the UUID {partition.profile.uuid}, and the request is about {uuid}"
        raise OperatorError(rules.CUSTODY_UUID, message)
    return partition


MIGRATION: Mapping[str, Performed] = {
    "showNeeds": Performed(show_needs, load_custody),
    "checkArrival": Performed(check_arrival, load_custody),
    "expectPartition": Performed(expect_partition, load_mobility),
    "beginMigration": Performed(begin_migration, load_mobility),
    "takePartition": Performed(take_partition, load_custody),
    "releasePartition": Performed(release_partition, load_custody),
    "tellCustody": Performed(tell_custody, load_custody),
}
"""By the operation of the verb."""
