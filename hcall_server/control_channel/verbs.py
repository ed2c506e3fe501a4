"""The functions of the verbs: each returns the answer of its row in `hcall_abi.control.VERBS`.

A function calls the machine, and returns a struct with the result.  The managed system checks the rules, and
errors become problems.  A function that waits for NVRAM is asynchronous.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar, cast
from uuid import UUID

import msgspec

from hcall_abi.control_bodies import (
    ConsoleAttachment,
    CopyToRestore,
    FaultPlanSetting,
    ForgottenCopies,
    KeptCopy,
    NewPartition,
    NvramFaultSetting,
    PartitionChanges,
    PartitionDeletion,
    RecoveryEnd,
    SystemChanges,
    TraceSetting,
    TrustedKeySetting,
)
from hcall_abi.control_views import (
    ComponentsView,
    CopyView,
    HealthView,
    PartitionView,
    RecoveredView,
    SystemView,
    TraceView,
    TrustedKeyView,
    WritebackView,
)
from hcall_abi.errors import StorageError
from hcall_abi.faults import NvramFault, busy_fault
from hcall_abi.rules import service
from hcall_server.control_channel.migration_verbs import MIGRATION
from hcall_server.control_channel.performing import Call, Performed, Reply, StreamAnswer, Text
from hcall_server.control_channel.snapshot_verbs import SNAPSHOTS
from hcall_server.control_channel.views import (
    components_view,
    copy_view,
    health_view,
    partition_view,
    system_view,
    trace_view,
    trusted_key_view,
    writeback_view,
)
from hcall_server.platform.trusted_key import TrustedSystemKey

if TYPE_CHECKING:
    from hcall_server.machine.machine import Machine

T = TypeVar("T")


def show_system(call: Call) -> SystemView:
    """List the partitions."""
    return system_view(call.machine)


def show_partition(call: Call) -> PartitionView:
    """Show one partition."""
    return _shown(call.machine, call.name)


def create_partition(call: Call) -> PartitionView:
    """Create a partition."""
    body: NewPartition = call.body
    partition = call.machine.changes.create(
        body.name,
        body.keystore_kbytes,
        auto_start=body.auto_start,
        number=_given(body.number),
        further=_numbers(body.attributes),
    )
    return partition_view(call.machine, partition)


async def change_partition(call: Call) -> PartitionView:
    """Change name, start and attributes of a partition, durably."""
    body: PartitionChanges = call.body
    partition = await call.machine.changes.change(
        call.name,
        new_name=_given(body.new_name),
        auto_start=_given(body.auto_start),
        attributes=_numbers(body.attributes),
    )
    return partition_view(call.machine, partition)


async def delete_partition(call: Call) -> SystemView:
    """Delete a partition, durably."""
    body: PartitionDeletion = call.body
    await call.machine.changes.delete(call.name, destroy=body.destroy)
    return system_view(call.machine)


async def set_system(call: Call) -> SystemView:
    """Give the system another name, durably."""
    body: SystemChanges = call.body
    with _reported(call.machine):
        await call.machine.changes.set_name(body.name)
    return system_view(call.machine)


def stop_system(call: Call) -> SystemView:
    """Power the system off.

    All requests that have begun are answered first, and this one too.
    """
    # This only sets an event.  To stop the machine here would cancel the task that sends this answer.
    call.machine.stop_asked.set()
    return system_view(call.machine)


async def power_on(call: Call) -> PartitionView:
    """Count an IPL of a partition, durably, then activate the partition."""
    return partition_view(call.machine, await call.machine.counted_power_on(call.name))


def power_off(call: Call) -> PartitionView:
    """Stop a partition."""
    call.machine.power_off(call.name)
    return _shown(call.machine, call.name)


async def ipl(call: Call) -> PartitionView:
    """Count an IPL of a partition, durably, then restart the partition."""
    return partition_view(call.machine, await call.machine.counted_ipl(call.name))


async def rotate_key(call: Call) -> PartitionView:
    """Give a partition a new access key, durably."""
    return partition_view(call.machine, await call.machine.changes.durable_rotate_key(call.name))


def set_attributes(call: Call) -> PartitionView:
    """Set some of the attributes."""
    call.machine.set_attributes(call.name, msgspec.to_builtins(call.body))
    return _shown(call.machine, call.name)


def set_faults(call: Call) -> PartitionView:
    """Give a partition a fault plan."""
    body: FaultPlanSetting = call.body
    faults = [busy_fault(each.hcall, each.status, each.nth, each.times, each.seconds) for each in body.faults]
    call.machine.set_faults(call.name, faults)
    return _shown(call.machine, call.name)


async def set_trace(call: Call) -> TraceView:
    """Begin or end the trace of a partition."""
    body: TraceSetting = call.body
    machine, partition = call.machine, call.machine.system.find(call.name)
    if machine.traces is None:
        raise StorageError(service.TRACE_STORED, "this system has no state folder")
    if body.trace == "off":
        return trace_view(partition, await machine.traces.end(partition), on=False)
    secrets = body.trace == "secrets"
    return trace_view(partition, await machine.traces.begin(partition, secrets=secrets), on=True)


def load_traces(machine: Machine) -> None:
    """Import the traces, in a thread as well."""
    if machine.traces:
        machine.traces.load()


def set_nvram_fault(call: Call) -> WritebackView:
    """Inject a fault into NVRAM, or end it."""
    body: NvramFaultSetting = call.body
    times = None if body.trouble == "stall" else body.commits or 1
    call.machine.set_nvram_fault(None if body.trouble == "none" else NvramFault(body.trouble, times=times))
    return writeback_view(call.machine)


async def attach_console(call: Call) -> SystemView:
    """Attach a console, durably."""
    body: ConsoleAttachment = call.body
    await call.machine.attachment.attach(bytes.fromhex(body.id), body.name)
    return system_view(call.machine)


async def detach_console(call: Call) -> SystemView:
    """Detach the console, durably."""
    body: ConsoleAttachment = call.body
    await call.machine.attachment.detach(bytes.fromhex(body.id))
    return system_view(call.machine)


def watch_events(call: Call) -> StreamAnswer:
    """Open a stream of events."""
    from hcall_server.control_channel import events

    return StreamAnswer(events.EventStream(call.machine, call.console))


async def show_copy(call: Call) -> CopyView:
    """Make a copy of a store for the console."""
    copy = await call.machine.backups.copy_of(call.name)
    call.machine.attachment.made(call.machine.system.find(call.name).profile, copy.header.time)
    return copy_view(copy)


async def keep_copy(call: Call) -> PartitionView:
    """Store durably that the console has a copy."""
    body: KeptCopy = call.body
    partition = call.machine.system.find(call.name)
    await call.machine.attachment.keep(
        partition,
        UUID(body.uuid),
        restores=body.restores,
        generation=body.generation,
        time=body.time,
    )
    return partition_view(call.machine, partition)


async def forget_copies(call: Call) -> SystemView:
    """Store durably that the console has put copies aside."""
    body: ForgottenCopies = call.body
    await call.machine.attachment.forget(map(UUID, body.uuids))
    return system_view(call.machine)


async def restore_copy(call: Call) -> PartitionView:
    """Put a store back to a copy, durably."""
    body: CopyToRestore = call.body
    seen = body.seen_generation, body.seen_ipl_count, body.seen_restores
    if body.check:
        checked = await call.machine.backups.checked(body.copy, older=body.older, seen=seen)
        return partition_view(call.machine, checked)
    with _reported(call.machine):
        partition = await call.machine.backups.restore(body.copy, older=body.older, seen=seen)
        return partition_view(call.machine, partition)


def show_components(call: Call) -> ComponentsView:
    """Show the replaceable parts."""
    return components_view(call.machine)


async def show_trusted_key(call: Call) -> TrustedKeyView:
    """Show the id of the trusted system key.

    If a keystore needs a key and the system has none, a key is made now.
    """
    await call.machine.backups.provide_key()
    return trusted_key_view(call.machine)


async def set_trusted_key(call: Call) -> TrustedKeyView:
    """Set the trusted system key, durably."""
    body: TrustedKeySetting = call.body
    backups = call.machine.backups
    if body.sealed is not None:
        await backups.return_key(body.sealed)
    elif body.key is not None:
        old = None if body.old_key is None else TrustedSystemKey.of_file(body.old_key)
        take = backups.change_key if body.operation == "change" else backups.restore_key
        await take(TrustedSystemKey.of_file(body.key), old)
        # Copies under the old key can't be used any more.  So new ones are requested.
        call.machine.attachment.look()
    return trusted_key_view(call.machine)


async def begin_recovery(call: Call) -> SystemView:
    """Put an empty system into the state Recovery, durably."""
    with _reported(call.machine):
        await call.machine.recovery.begin()
    return system_view(call.machine)


async def end_recovery(call: Call) -> RecoveredView:
    """End the state Recovery."""
    body: RecoveryEnd = call.body
    with _reported(call.machine):
        done = await call.machine.recovery.end(give_up=body.give_up)
    return RecoveredView(restored=done.restored, given_up=done.given_up)


def show_health(call: Call) -> HealthView | Reply:
    """Return the health, with status 503 if there is a problem."""
    view = health_view(call.machine)
    return view if view.ok else Reply(503, view)


def show_metrics(call: Call) -> Text:
    """Return the figures for Prometheus."""
    from hcall_server.control_channel import metrics

    return Text(metrics.MEDIA_TYPE, metrics.exposition(call.machine))


def load_metrics(_: Machine) -> None:
    """Import Prometheus' library; runs in a thread, so that the data channel goes on meanwhile."""
    import hcall_server.control_channel.metrics  # noqa: F401


def load_backups(_: Machine) -> None:
    """Import the formats of copies and keys, before the first request that needs them.

    Runs in a thread, so that the data channel goes on meanwhile.
    """
    import hcall_server.machine.recovery  # noqa: F401


def load_events(_: Machine) -> None:
    """Import the stream of events."""
    import hcall_server.control_channel.events  # noqa: F401


def load_changes(_: Machine) -> None:
    """Import the changes of whole partitions; runs in a thread."""
    import hcall_server.machine.attachment
    import hcall_server.machine.changes  # noqa: F401


@contextmanager
def _reported(machine: Machine) -> Iterator[None]:
    """Send the events of a change of the system, even if the change is not durable yet."""
    try:
        yield
    finally:
        # The events are sent even after an error.  If NVRAM does not store the change in time, memory has
        # still changed, and views show the change.
        machine.notify_watchers()


def _shown(machine: Machine, name: str) -> PartitionView:
    return partition_view(machine, machine.system.find(name))


def _given(value: T | msgspec.UnsetType) -> T | None:
    """Return the value of an optional field, None if it was left out."""
    return None if isinstance(value, msgspec.UnsetType) else value


def _numbers(attributes: object) -> Mapping[str, int]:
    """Return the attributes of a body by their names, without those that were left out."""
    given = _given(attributes)
    return {} if given is None else cast(Mapping[str, int], msgspec.to_builtins(given))


PERFORMED: Mapping[str, Performed] = {
    "showSystem": Performed(show_system, always=True),
    "setSystem": Performed(set_system, load_changes),
    "stopSystem": Performed(stop_system, always=True),
    "watchEvents": Performed(watch_events, load_events, always=True),
    "attachConsole": Performed(attach_console),
    "detachConsole": Performed(detach_console),
    "createPartition": Performed(create_partition, load_changes),
    "showPartition": Performed(show_partition, always=True),
    "changePartition": Performed(change_partition, load_changes),
    "deletePartition": Performed(delete_partition, load_changes),
    "powerOn": Performed(power_on),
    "powerOff": Performed(power_off),
    "ipl": Performed(ipl),
    "rotateKey": Performed(rotate_key, load_changes),
    "setAttributes": Performed(set_attributes),
    "setFaults": Performed(set_faults),
    "setTrace": Performed(set_trace, load_traces),
    "showCopy": Performed(show_copy, load_backups),
    "keepCopy": Performed(keep_copy),
    "forgetCopies": Performed(forget_copies),
    "restoreCopy": Performed(restore_copy, load_backups),
    "showComponents": Performed(show_components, always=True),
    "showTrustedKey": Performed(show_trusted_key, load_backups),
    "setTrustedKey": Performed(set_trusted_key, load_backups),
    "beginRecovery": Performed(begin_recovery, load_backups),
    "endRecovery": Performed(end_recovery, load_backups),
    "setNvramFault": Performed(set_nvram_fault),
    "showHealth": Performed(show_health, always=True),
    "showMetrics": Performed(show_metrics, load_metrics, always=True),
    **MIGRATION,
    **SNAPSHOTS,
}
"""By the operation of the verb."""
