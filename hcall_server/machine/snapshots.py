"""The seam of named snapshots: the verbs call it, and `hcall_server.snapshots` implements it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from hcall_abi.snapshot_bodies import (
        NamedSnapshot,
        SnapshotComparison,
        SnapshotLoading,
        SnapshotSaving,
    )
    from hcall_abi.snapshot_views import (
        LoadedSnapshotView,
        SavedSnapshotView,
        SnapshotDiffView,
        SnapshotsView,
        SnapshotView,
    )


class SnapshotSeam(Protocol):
    """The named snapshots of one machine.  All functions raise SwpksError."""

    async def listed(self) -> SnapshotsView:
        """List the snapshots; none of them is opened."""

    async def saved(self, body: SnapshotSaving) -> SavedSnapshotView:
        """Save a snapshot."""

    async def loaded(self, body: SnapshotLoading) -> LoadedSnapshotView:
        """Load a snapshot, durably."""

    async def shown(self, body: NamedSnapshot) -> SnapshotView:
        """Show a snapshot."""

    async def compared(self, body: SnapshotComparison) -> SnapshotDiffView:
        """Compare a snapshot with another one, or with the present system."""

    async def removed(self, body: NamedSnapshot) -> SnapshotsView:
        """Remove a snapshot, and list the others."""
