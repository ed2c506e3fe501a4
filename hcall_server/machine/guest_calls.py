"""The h-calls of one session, wrapped in its fault plan, its hold and the log.

The calls themselves: `hcall_server.hcalls.answers`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from hcall_abi.faults import BusyFault
from hcall_server.faults.plan import Plan
from hcall_server.hcalls.answers import Calls, Counts
from hcall_server.hcalls.refusals import OnRefusal

if TYPE_CHECKING:
    from hcall_server.machine.call_log import CallLog
    from hcall_server.machine.holds import Holds
    from hcall_server.nvram.seam import Ownership
    from hcall_server.platform.partition import Partition


class Before(NamedTuple):
    """The layers around the calls of a partition: counts, fault plan, hold, the ownership of NVRAM, the log.

    `make` makes the calls inside these layers.
    """

    make: Callable[[Partition, OnRefusal, Counts], Calls]
    counts: Counts
    plan: Plan[BusyFault] | None
    holds: Holds
    clock: Callable[[], float]
    log: CallLog | None
    ownership: Ownership | None


def calls_behind(before: Before, partition: Partition, on_refusal: OnRefusal) -> Calls:
    """Return the h-calls of a session, wrapped only in the layers that its partition needs."""
    # The log is the outermost layer, so that it also has the answers of a fault plan and of a hold.
    if before.log is None:
        return _calls(before, partition, on_refusal)
    return before.log.before(partition, lambda note: _calls(before, partition, note), on_refusal)


def _calls(before: Before, partition: Partition, on_refusal: OnRefusal) -> Calls:
    make, counts, plan, holds, clock, _, ownership = before
    calls = make(partition, on_refusal, counts)
    if plan is not None:
        from hcall_server.faults.busy import BusyCalls

        calls = BusyCalls(calls, partition, plan, clock, on_refusal, counts)
    if ownership is not None:
        from hcall_server.machine.owned_calls import OwnedCalls

        calls = OwnedCalls(calls, ownership, on_refusal, counts)
    # A held call does not reach the fault plan.  The plan counts the call when it runs.
    return holds.before(partition, calls, on_refusal, counts)
