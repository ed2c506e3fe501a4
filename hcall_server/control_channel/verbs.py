"""What each verb does: from a call to the answer that its row in the table promises.

A function returns a struct, or raises what becomes a problem.  The rules themselves are the managed
system's; here a call only finds its partition and shows what has become of it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import trio

from hcall_server.control_channel.bodies import (
    Body,
    FaultPlanSetting,
    HealthView,
    KeystoreSize,
    NewPartition,
    NvramFaultSetting,
    PartitionView,
    SecureBootSetting,
    SystemView,
    WritebackView,
    mode_of,
)
from hcall_server.control_channel.controlled import ControlledMachine
from hcall_server.control_channel.loading import beside_the_loop
from hcall_server.control_channel.views import health_view, partition_view, system_view, writeback_view
from hcall_server.faults.busy import busy_fault
from hcall_server.machine.machine import NvramFault


class Call(NamedTuple):
    """One request, checked against its row.

    `name` is that of an existing partition, "" if the path has none; `body` is what the row says.
    """

    machine: ControlledMachine
    name: str
    body: Any


class Text(NamedTuple):
    """An answer that is no struct."""

    media_type: str
    content: bytes


class Reply(NamedTuple):
    """An answer with another status than the row's first."""

    status: int
    body: Body


Answer = Body | Text | Reply


async def show_system(call: Call) -> SystemView:
    """List the partitions."""
    return system_view(call.machine)


async def show_partition(call: Call) -> PartitionView:
    """Show one partition."""
    return _shown(call.machine, call.name)


async def create_partition(call: Call) -> PartitionView:
    """Create a partition."""
    body: NewPartition = call.body
    await call.machine.create(body.name, body.keystore_kbytes, auto_start=body.auto_start)
    return _shown(call.machine, body.name)


async def power_on(call: Call) -> PartitionView:
    """Activate a partition."""
    await call.machine.power_on(call.name)
    return _shown(call.machine, call.name)


async def power_off(call: Call) -> PartitionView:
    """Stop a partition."""
    await call.machine.power_off(call.name)
    return _shown(call.machine, call.name)


async def ipl(call: Call) -> PartitionView:
    """Restart a partition."""
    await call.machine.ipl(call.name)
    return _shown(call.machine, call.name)


async def set_secure_boot(call: Call) -> PartitionView:
    """Set the secure-boot mode of the next IPL."""
    body: SecureBootSetting = call.body
    await call.machine.set_secure_boot(call.name, mode_of(body.mode))
    return _shown(call.machine, call.name)


async def set_keystore_size(call: Call) -> PartitionView:
    """Set the size of a keystore."""
    body: KeystoreSize = call.body
    await call.machine.resize(call.name, body.kbytes)
    return _shown(call.machine, call.name)


async def set_attributes(call: Call) -> PartitionView:
    """Set some of the attributes."""
    await call.machine.set_attributes(call.name, msgspec.to_builtins(call.body))
    return _shown(call.machine, call.name)


async def set_faults(call: Call) -> PartitionView:
    """Give a partition a fault plan."""
    body: FaultPlanSetting = call.body
    faults = [busy_fault(each.hcall, each.status, each.nth, each.times, each.seconds) for each in body.faults]
    await call.machine.set_faults(call.name, faults)
    return _shown(call.machine, call.name)


async def set_nvram_fault(call: Call) -> WritebackView:
    """Trouble NVRAM, or end it."""
    body: NvramFaultSetting = call.body
    fault = None if body.trouble == "none" else NvramFault(body.trouble, body.commits or 1)
    await call.machine.set_nvram_fault(fault)
    return writeback_view(call.machine)


async def show_health(call: Call) -> HealthView | Reply:
    """Tell whether all is well."""
    view = health_view(call.machine)
    return view if view.ok else Reply(503, view)


async def show_metrics(call: Call) -> Text:
    """Return the figures for Prometheus; its library is loaded by the first such call."""
    module = await trio.to_thread.run_sync(_load_metrics)
    return Text(module.MEDIA_TYPE, module.exposition(call.machine))


def _load_metrics() -> Any:
    """Import in a thread, so that the data channel goes on meanwhile."""
    with beside_the_loop():
        from hcall_server.control_channel import metrics
    return metrics


def _shown(machine: ControlledMachine, name: str) -> PartitionView:
    return partition_view(machine, machine.system.find(name))
