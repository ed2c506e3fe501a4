"""The functions of the verbs about named snapshots (spec/snapshots.md), as in `verbs`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hcall_abi.errors import StorageError
from hcall_abi.rules import snapshot as rules
from hcall_server.control_channel.performing import Call, Performed, Reply

if TYPE_CHECKING:
    from hcall_abi.snapshot_views import LoadedSnapshotView, SnapshotDiffView, SnapshotsView, SnapshotView
    from hcall_server.machine.machine import Machine
    from hcall_server.machine.snapshots import SnapshotSeam


def _of(machine: Machine) -> SnapshotSeam:
    """Return the snapshots of a machine; StorageError if it has no state folder."""
    if machine.snapshots is None:
        raise StorageError(rules.SNAPSHOT_STORED, "this system has no state folder")
    return machine.snapshots()


def load_snapshots(machine: Machine) -> None:
    """Import the modules of snapshots, in a thread."""
    if machine.snapshots:
        machine.snapshots()


async def list_snapshots(call: Call) -> SnapshotsView:
    """List the snapshots."""
    return await _of(call.machine).listed()


async def save_snapshot(call: Call) -> Reply:
    """Save a snapshot."""
    return Reply(201, await _of(call.machine).saved(call.body))


async def load_snapshot(call: Call) -> LoadedSnapshotView:
    """Load a snapshot, durably; send the events of the change even if it is not durable in time."""
    try:
        return await _of(call.machine).loaded(call.body)
    finally:
        call.machine.notify_watchers()


async def show_snapshot(call: Call) -> SnapshotView:
    """Show a snapshot."""
    return await _of(call.machine).shown(call.body)


async def diff_snapshot(call: Call) -> SnapshotDiffView:
    """Compare a snapshot."""
    return await _of(call.machine).compared(call.body)


async def remove_snapshot(call: Call) -> SnapshotsView:
    """Remove a snapshot."""
    return await _of(call.machine).removed(call.body)


SNAPSHOTS: Mapping[str, Performed] = {
    "listSnapshots": Performed(list_snapshots, load_snapshots, always=True),
    "saveSnapshot": Performed(save_snapshot, load_snapshots),
    "loadSnapshot": Performed(load_snapshot, load_snapshots),
    "showSnapshot": Performed(show_snapshot, load_snapshots, always=True),
    "diffSnapshot": Performed(diff_snapshot, load_snapshots),
    "removeSnapshot": Performed(remove_snapshot, load_snapshots),
}
"""By the operation of the verb."""
