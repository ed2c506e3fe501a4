"""The error for a partition that its system does not serve: its state, and the remedy."""

from __future__ import annotations

import shlex

from hcall_abi.control_views import CustodyView, PartitionView, SystemView
from hcall_abi.errors import OperatorError
from hcall_abi.rules.console import SYSTEM_OPERATING
from hcall_abi.standstills import KnownConsole, not_operating, standstill
from swpks.cli.hmc_output import attempt


def unserved(system: SystemView, name: str) -> OperatorError | None:
    """Return the error for a partition that is not served although it is powered on.

    Returns None for a partition that is served, powered off or refused, and for one that was never on this
    system.
    """
    if system.state != "Operating":
        lost = f" ({', '.join(system.lost)}: known and not restored)" if system.lost else ""
        message = f"{name!r} is not served{lost}: {not_operating(system.state)}"
        return OperatorError(SYSTEM_OPERATING, message)
    partition = next((each for each in system.partitions if each.name == name), None)
    if partition is not None and partition.refused:
        return None
    return _standing(system, partition, name)


def _standing(system: SystemView, partition: PartitionView | None, name: str) -> OperatorError | None:
    facts = _custody(system, partition, name)
    state = partition or facts
    if state is None:
        return None
    link = system.console
    console = KnownConsole(link.name, link.id, link.connected) if link else None
    found = standstill(state.custody, state.mode, name, console)
    if found is None or found.rule is None:
        return None
    history = attempt(facts) if facts and facts.epoch else ""
    # The command lines of the remedy are for this system, but the table does not know its name.
    remedy = found.remedy.replace("-m SYSTEM", f"-m {shlex.quote(system.name)}")
    return OperatorError(found.rule, f"{name} {found.words}{history}: {remedy}")


def _custody(system: SystemView, partition: PartitionView | None, name: str) -> CustodyView | None:
    """Return the custody of a partition.

    If the partition has left, return the newest custody record with its name.
    """
    if partition is not None:
        return next((each for each in system.custody if each.uuid == partition.uuid), None)
    # A name may be reused after a partition has left.  The highest epoch is the newest attempt.
    left = [each for each in system.custody if each.name == name]
    return max(left, key=lambda each: each.epoch, default=None)
