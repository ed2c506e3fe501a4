"""The functions of the verbs: each returns the answer of its row in `hcall_abi.control.VERBS`.

A function returns a struct, or raises an error that becomes a problem.  The managed system checks the
rules.  A function here calls the machine, and shows the partition afterwards.  One that waits for NVRAM is
asynchronous.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from hcall_abi.control_bodies import (
    Answered,
    ComponentsView,
    CopyToRestore,
    CopyView,
    FaultPlanSetting,
    HealthView,
    NewPartition,
    NvramFaultSetting,
    PartitionView,
    RecoveredView,
    RecoveryEnd,
    SystemView,
    TrustedKeySetting,
    TrustedKeyView,
    WritebackView,
)
from hcall_abi.faults import NvramFault, busy_fault
from hcall_server.control_channel.views import (
    components_view,
    copy_view,
    health_view,
    partition_view,
    system_view,
    trusted_key_view,
    writeback_view,
)
from hcall_server.machine.machine import Machine
from hcall_server.platform.trusted_key import TrustedSystemKey


class Call(NamedTuple):
    """One request, checked against its row.

    `name` is that of an existing partition, "" if the path has none; `body` has the struct of the row.
    """

    machine: Machine
    name: str
    body: Any


class Text(NamedTuple):
    """An answer that is no struct."""

    media_type: str
    content: bytes


class Reply(NamedTuple):
    """An answer with another status than the row's first."""

    status: int
    body: Answered


Answer = Answered | Text | Reply


def show_system(call: Call) -> SystemView:
    """List the partitions."""
    return system_view(call.machine)


def show_partition(call: Call) -> PartitionView:
    """Show one partition."""
    return _shown(call.machine, call.name)


def create_partition(call: Call) -> PartitionView:
    """Create a partition."""
    body: NewPartition = call.body
    call.machine.create(body.name, body.keystore_kbytes, auto_start=body.auto_start)
    return _shown(call.machine, body.name)


async def power_on(call: Call) -> PartitionView:
    """Activate a partition; its IPL is counted durably before."""
    await call.machine.counted_power_on(call.name)
    return _shown(call.machine, call.name)


def power_off(call: Call) -> PartitionView:
    """Stop a partition."""
    call.machine.power_off(call.name)
    return _shown(call.machine, call.name)


async def ipl(call: Call) -> PartitionView:
    """Restart a partition; its IPL is counted durably before."""
    await call.machine.counted_ipl(call.name)
    return _shown(call.machine, call.name)


async def rotate_key(call: Call) -> PartitionView:
    """Give a partition a new access key, durably."""
    await call.machine.durable_rotate_key(call.name)
    return _shown(call.machine, call.name)


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


def set_nvram_fault(call: Call) -> WritebackView:
    """Trouble NVRAM, or end it."""
    body: NvramFaultSetting = call.body
    times = None if body.trouble == "stall" else body.commits or 1
    call.machine.set_nvram_fault(None if body.trouble == "none" else NvramFault(body.trouble, times=times))
    return writeback_view(call.machine)


async def show_copy(call: Call) -> CopyView:
    """Make a copy of a store for the console."""
    return copy_view(await call.machine.backups.copy_of(call.name))


async def restore_copy(call: Call) -> PartitionView:
    """Put a store back to a copy, durably."""
    body: CopyToRestore = call.body
    return partition_view(call.machine, await call.machine.backups.restore(body.copy))


def show_components(call: Call) -> ComponentsView:
    """Show the replaceable parts."""
    return components_view(call.machine)


async def show_trusted_key(call: Call) -> TrustedKeyView:
    """Show the id of the trusted system key; it is made now, if a keystore needs one and there is none."""
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
    return trusted_key_view(call.machine)


async def begin_recovery(call: Call) -> SystemView:
    """Put an empty system into the state Recovery, durably."""
    await call.machine.recovery.begin()
    return system_view(call.machine)


async def end_recovery(call: Call) -> RecoveredView:
    """End the state Recovery."""
    body: RecoveryEnd = call.body
    done = await call.machine.recovery.end(give_up=body.give_up)
    return RecoveredView(restored=done.restored, given_up=done.given_up)


def show_health(call: Call) -> HealthView | Reply:
    """Return the health, with status 503 if there is a problem."""
    view = health_view(call.machine)
    return view if view.ok else Reply(503, view)


def show_metrics(call: Call) -> Text:
    """Return the figures for Prometheus; `load_metrics` has loaded their modules."""
    from hcall_server.control_channel import metrics

    return Text(metrics.MEDIA_TYPE, metrics.exposition(call.machine))


def load_metrics() -> None:
    """Import Prometheus' library; in a thread, so that the data channel goes on meanwhile."""
    import hcall_server.control_channel.metrics  # noqa: F401


def load_backups() -> None:
    """Import the formats of copies and of keys, in a thread as well: a start does not need them."""
    import hcall_server.machine.recovery  # noqa: F401


def _shown(machine: Machine, name: str) -> PartitionView:
    return partition_view(machine, machine.system.find(name))


class Performed(NamedTuple):
    """How a verb is performed; `load` imports the modules of `perform`, in a thread and once."""

    perform: Callable[[Call], Answer | Awaitable[Answer]]
    load: Callable[[], object] | None = None


PERFORMED: Mapping[str, Performed] = {
    "showSystem": Performed(show_system),
    "createPartition": Performed(create_partition),
    "showPartition": Performed(show_partition),
    "powerOn": Performed(power_on),
    "powerOff": Performed(power_off),
    "ipl": Performed(ipl),
    "rotateKey": Performed(rotate_key),
    "setAttributes": Performed(set_attributes),
    "setFaults": Performed(set_faults),
    "showCopy": Performed(show_copy, load_backups),
    "restoreCopy": Performed(restore_copy, load_backups),
    "showComponents": Performed(show_components),
    "showTrustedKey": Performed(show_trusted_key, load_backups),
    "setTrustedKey": Performed(set_trusted_key, load_backups),
    "beginRecovery": Performed(begin_recovery, load_backups),
    "endRecovery": Performed(end_recovery, load_backups),
    "setNvramFault": Performed(set_nvram_fault),
    "showHealth": Performed(show_health),
    "showMetrics": Performed(show_metrics, load_metrics),
}
"""By the operation of the verb."""
