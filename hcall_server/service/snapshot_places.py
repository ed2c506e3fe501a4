"""The snapshots of a state, for a start and for an erase: both load none of the modules that read them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hcall_server.files import destroy
from hcall_server.service.layout import SNAPSHOTS

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
    from hcall_server.machine.machine import Machine
    from hcall_server.snapshots.answers import SnapshotAnswers


class SystemSnapshots:
    """The snapshots of the system whose state is `state`; the first use loads their modules."""

    def __init__(self, machine: Machine, state: Path) -> None:
        self._machine = machine
        self._folder = state / SNAPSHOTS

    def __repr__(self) -> str:
        return f"SystemSnapshots({str(self._folder)!r})"

    def load_modules(self) -> None:
        """Import the modules, in a thread as well."""
        import hcall_server.snapshots.answers
        import hcall_server.snapshots.shelf_files  # noqa: F401

    @property
    def _answers(self) -> SnapshotAnswers:
        from hcall_server.snapshots import answers, shelf_files

        return answers.SnapshotAnswers(self._machine, shelf_files.SnapshotFiles(self._folder))

    async def listed(self) -> SnapshotsView:
        """List the snapshots; none of them is opened."""
        return await self._answers.listed()

    async def saved(self, body: SnapshotSaving) -> SavedSnapshotView:
        """Save a snapshot."""
        return await self._answers.saved(body)

    async def loaded(self, body: SnapshotLoading) -> LoadedSnapshotView:
        """Load a snapshot, durably."""
        return await self._answers.loaded(body)

    async def shown(self, body: NamedSnapshot) -> SnapshotView:
        """Show a snapshot."""
        return await self._answers.shown(body)

    async def compared(self, body: SnapshotComparison) -> SnapshotDiffView:
        """Compare a snapshot with another one, or with the present system."""
        return await self._answers.compared(body)

    async def removed(self, body: NamedSnapshot) -> SnapshotsView:
        """Remove a snapshot, and list the others."""
        return await self._answers.removed(body)


def destroy_snapshots(state: Path) -> None:
    """Destroy all snapshots of a state, also portable ones (spec/erase.md)."""
    if (state / SNAPSHOTS).exists():
        destroy(state / SNAPSHOTS)


def kept_snapshots(state: Path) -> Iterator[str]:
    """Yield a text about the snapshots that an erase destroys, if there are any."""
    if (state / SNAPSHOTS).exists():
        yield f"the snapshots in {state / SNAPSHOTS}, also portable ones: copy those first that you need"
