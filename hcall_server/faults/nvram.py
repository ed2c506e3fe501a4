"""NVRAM that fails by plan (R-23, R-75, spec/faults.md#nvram).

Real disks fail too seldom for a test.  The management console sets a fault while a server runs.  Simulations
plan faults before they start.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from hcall_abi.faults import NvramFault, NvramOperation
from hcall_server.faults.plan import FaultProgress, Plan
from hcall_server.nvram.seam import Nvram, NvramError, Trouble
from hcall_server.nvram.wrapper import NvramWrapper


class FaultyNvram(NvramWrapper):
    """NVRAM wrapped in the fault injector.

    `load` and `commit` run in the worker thread; `set_faults` and `active` run on the event loop.  A stalled
    operation blocks its thread until `set_faults` is called.  No plan has a fault for `last_commit`.
    """

    def __init__(self, inner: Nvram, faults: Iterable[NvramFault] = ()) -> None:
        super().__init__(inner)
        self.counts: dict[NvramOperation, int] = {"load": 0, "commit": 0}
        """The number of operations of each kind that have begun."""
        self.stalled = threading.Event()
        """Set once an operation hangs."""
        self._plan: Plan[NvramFault] = Plan(faults)
        self._released = threading.Event()
        self._lock = threading.Lock()

    def set_faults(self, *faults: NvramFault) -> None:
        """Replace the faults, and end the stall of an operation that hangs."""
        plan = Plan(faults)
        with self._lock:
            # Each plan has its own event.  A shared event would have to be cleared for the new plan.  A
            # thread of the old plan might begin to wait after that, and would wait for ever.
            self._released.set()
            self._plan, self._released = plan, threading.Event()
            self.stalled.clear()

    def active(self) -> FaultProgress[NvramFault] | None:
        """Return the first fault that is not over."""
        with self._lock:
            return next((planned for planned in self._plan.planned if not planned.spent), None)

    def load(self) -> dict[str, bytes]:
        """Return the inner NVRAM's records, unless the plan has a fault."""
        fault = self._begin("load")
        records = self.inner.load()
        _fail_after(fault)
        return records

    def commit(self, changes: Mapping[str, bytes | None]) -> None:
        """Commit to the inner NVRAM, unless the plan has a fault."""
        fault = self._begin("commit")
        self.inner.commit(changes)
        _fail_after(fault)

    def _begin(self, operation: NvramOperation) -> NvramFault | None:
        """Count an operation; return its planned fault, None if there is none.

        A stall waits here.  A planned error from before the operation is raised here.  `_fail_after` raises
        an error from after the operation.
        """
        with self._lock:
            self.counts[operation] += 1
            fault = self._plan.met_by(operation)
            released = self._released
            # `stalled` is set under the lock.  So `set_faults` either replaces the plan before this, or
            # clears `stalled` after it.
            if fault is not None and fault.trouble == "stall":
                self.stalled.set()
        if fault is None:
            return None
        # The wait is outside of the lock, because `set_faults` needs the lock to end the stall.
        if fault.trouble == "stall":
            released.wait()
        elif not fault.after:
            raise _planned_error(fault.trouble)
        return fault


def _fail_after(fault: NvramFault | None) -> None:
    if fault is not None and fault.after and fault.trouble != "stall":
        raise _planned_error(fault.trouble)


def _planned_error(kind: Trouble) -> NvramError:
    return NvramError(kind, f"NVRAM: {kind} (a planned fault)")
