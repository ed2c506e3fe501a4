"""Snapshots of emulated partitions: a test sets a partition up once, and returns to that state.

The same functions serve the plain and the asynchronous fixture; `ipl` is the call that powers it on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hcall_abi.errors import OperatorError
from hcall_abi.mistakes import Mistake, WrongValue, check_kind
from hcall_abi.rules import console, migration
from hcall_client.errors import with_remedy

if TYPE_CHECKING:
    from hcall_server.machine.machine import Machine
    from hcall_server.platform.partition import Partition
    from hcall_server.platform.saved import PartitionSnapshot


class NoSnapshot(Mistake, RuntimeError):
    """`restore()` without an argument, and no snapshot has been taken."""

    def __init__(self) -> None:
        super().__init__("there is no snapshot to restore: write snapshot() before it")


class PartitionSnapshots:
    """The snapshots of one emulated partition; `ipl` is the Python call that powers it on."""

    def __init__(self, machine: Machine, partition: Partition, ipl: str) -> None:
        self._machine = machine
        self._partition = partition
        self._ipl = ipl
        self._last: PartitionSnapshot | None = None

    def save(self) -> PartitionSnapshot:
        """Return a snapshot of the partition; OperatorError if it is off, or if it moves."""
        from hcall_server.machine import saving

        try:
            self._last = saving.save(self._machine, self._partition)
        except OperatorError as error:
            raise self._advised(error) from None
        return self._last

    def restore(self, snapshot: PartitionSnapshot | None) -> None:
        """Return the partition to a snapshot, None for the last one.

        WrongType if the argument is no snapshot, WrongValue for one of another partition.  NoSnapshot if
        there is none.  OperatorError if the partition is off, or if it moves.
        """
        from hcall_server.machine import saving
        from hcall_server.platform.saved import PartitionSnapshot

        snapshot = self._last if snapshot is None else snapshot
        if snapshot is None:
            raise NoSnapshot
        check_kind(PartitionSnapshot, "the argument of restore", snapshot, "restore(snapshot)")
        if snapshot.uuid != self._partition.profile.uuid:
            name = self._partition.name
            raise WrongValue(f"the snapshot is of another partition than {name}: write snapshot() of {name}")
        try:
            saving.restore(self._machine, self._partition, snapshot)
        except OperatorError as error:
            raise self._advised(error) from None

    def _advised(self, error: OperatorError) -> OperatorError:
        if error.rule is console.POWER_RUNNING:
            return with_remedy(error, f"write {self._ipl} first")
        if error.rule is migration.CUSTODY_IDLE:
            return with_remedy(error, "wait for the end of its job, and ask for the partition again")
        return error
