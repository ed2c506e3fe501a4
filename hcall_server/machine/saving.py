"""Returns a running partition to a state that it had before, for tests; its sessions go on.

A snapshot is in memory, with the passwords of its IPL.
"""

# How a restore differs from a restored copy
#
# A copy is a sealed record of NVRAM, so it has no passwords, and a partition that runs must stop first.  A
# snapshot is the memory of a running partition, so the partition goes on without an IPL.  Both keep one rule
# (`hcall_server.sealing.restoring`): contents go back, counters never.  The latch is the exception: here it
# is an attribute like others, so that a test can use it again in each case.
#
#   1. The generation counts on.  The next flush stores the restored contents as a new generation.  Until then
#      CONFIRM answers "not yet" for each label, also for those that were durable when the snapshot was taken:
#      NVRAM has the contents that the restore left.
#   2. A commit that is in flight during a restore has an older generation.  Its end leaves the partition
#      dirty.
#   3. The IPL count stays, so sessions of the present IPL go on.  A snapshot of an earlier IPL gives its
#      passwords and secure-boot mode to the present one.
#
# A restore is one step between two turns, so each call has run before it or runs after it.

from __future__ import annotations

from typing import TYPE_CHECKING

from hcall_abi.errors import OperatorError
from hcall_abi.rules import console, migration

if TYPE_CHECKING:
    from hcall_server.machine.machine import Machine
    from hcall_server.platform.partition import Partition
    from hcall_server.platform.saved import PartitionSnapshot


def save(machine: Machine, partition: Partition) -> PartitionSnapshot:
    """Return the state of a running partition; OperatorError if it is off, or if it moves."""
    _demand_here(machine, partition)
    return partition.saved()


def restore(machine: Machine, partition: Partition, snapshot: PartitionSnapshot) -> None:
    """Return a running partition to a snapshot of its own; OperatorError if it is off, or if it moves."""
    _demand_here(machine, partition)
    partition.restore(snapshot)
    # The level may have changed with the attributes, and the calls of a session belong to a level.
    machine.renew_calls(partition)
    machine.encryptor.changed(partition)
    machine.notify_watchers(partition)


def _demand_here(machine: Machine, partition: Partition) -> None:
    partition.demand_owned()
    # The other system has the state of a held partition already, or is about to get it.
    if machine.holds.held(partition):
        raise OperatorError(migration.CUSTODY_IDLE, f"{partition.name} takes part in a migration")
    if not partition.running:
        raise OperatorError(console.POWER_RUNNING, f"{partition.name} is powered off")
