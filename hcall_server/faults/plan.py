"""The progress of a fault plan: it finds the fault that answers the next operation.

H-calls and NVRAM use the same plan.  `hcall_abi.faults` has the grammar of faults.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from hcall_abi.faults import BusyFault, NvramFault

F = TypeVar("F", BusyFault, NvramFault)


@dataclass
class FaultProgress(Generic[F]):
    """The progress of one fault.

    `seen` counts the operations of its kind.  `answered` counts those that it has answered.  Its first answer
    sets `until` if the fault has a duration: the end, in seconds of the caller's clock.  If it is `spent`, it
    answers no more operations.
    """

    fault: F
    seen: int = 0
    answered: int = 0
    until: float | None = None
    spent: bool = False

    def would_meet(self, now: float) -> bool:
        """Return whether this fault answers the next operation; `now` is in seconds."""
        if self.seen + 1 < self.fault.nth or self.spent:
            return False
        return self.until is None or now < self.until

    def meets(self, now: float) -> bool:
        """Count an operation, and return whether this fault answers it; `now` is in seconds."""
        met, fault = self.would_meet(now), self.fault
        self.seen += 1
        # A duration counts from the first answer, because the guest decides when it calls.
        if self.until is not None:
            self.spent = not met
        elif met and fault.seconds is not None:
            self.until = now + fault.seconds
        elif met:
            self.spent = fault.times is not None and self.seen + 1 >= fault.nth + fault.times
        return met


class Plan(Generic[F]):
    """The faults of one partition or of NVRAM, in order; the first fault that fits answers an operation.

    Every fault counts all operations of its kind, even those that another fault answers.
    """

    def __init__(self, faults: Iterable[F] = ()) -> None:
        self.planned: list[FaultProgress[F]] = [FaultProgress(fault) for fault in faults]

    def __repr__(self) -> str:
        return f"Plan({[str(planned.fault) for planned in self.planned]})"

    def would_meet(self, kind: object, now: float = 0.0) -> bool:
        """Return whether a fault answers the next operation of a kind; count nothing."""
        return any(each.fault.kind == kind and each.would_meet(now) for each in self.planned)

    def met_by(self, kind: object, now: float = 0.0) -> F | None:
        """Count an operation of a kind, and return the fault that answers it, None if no fault does."""
        met = None
        # The loop has no early return, because each fault counts all operations of its kind.
        for planned in self.planned:
            if planned.fault.kind == kind and planned.meets(now) and met is None:
                planned.answered += 1
                met = planned.fault
        return met
