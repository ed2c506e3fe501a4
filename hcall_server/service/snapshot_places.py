"""The snapshots of a state, for a start and for an erase: both load none of the modules that read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hcall_server.files import destroy
from hcall_server.service.layout import SNAPSHOTS

if TYPE_CHECKING:
    from hcall_server.machine.machine import Machine
    from hcall_server.machine.snapshots import SnapshotSeam


def snapshots_of(machine: Machine, state: Path) -> Callable[[], SnapshotSeam]:
    """Return the function for `Machine.snapshots`, over the folder in a state."""

    def opened() -> SnapshotSeam:
        from hcall_server.snapshots import answers, shelf_files  # a start does not load them

        return answers.SnapshotAnswers(machine, shelf_files.SnapshotFiles(state / SNAPSHOTS))

    return opened


def destroy_snapshots(state: Path) -> None:
    """Destroy all snapshots of a state, also portable ones (spec/erase.md)."""
    if (state / SNAPSHOTS).exists():
        destroy(state / SNAPSHOTS)


def kept_snapshots(state: Path) -> Iterator[str]:
    """Yield a text about the snapshots that an erase destroys, if there are any."""
    if (state / SNAPSHOTS).exists():
        yield f"the snapshots in {state / SNAPSHOTS}, also portable ones: copy those first that you need"
