"""The answer of an h-call before it is a frame, and the Protocol of objects that answer h-calls."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from hcall_abi.frames import HCall, HReturn, Write
from hcall_abi.statuses import REGISTERS, Status


class Outcome(NamedTuple):
    """The result of a handler: the status, the values of r4, r5, ..., and the writes to guest memory."""

    status: int
    outputs: tuple[int, ...] = ()
    writes: tuple[Write, ...] = ()

    def __repr__(self) -> str:
        return f"Outcome({self.status}, {self.outputs}, {len(self.writes)} writes)"


SUCCESS = int(Status.H_SUCCESS)
DONE = Outcome(SUCCESS)
"""Success without a result."""


PADDING = tuple((0,) * (REGISTERS - n) for n in range(REGISTERS + 1))
"""The zeros that follow n output registers, by n."""


class Calls(Protocol):
    """Answers the h-calls of a partition: `HypervisorCalls`, or a fault plan before them."""

    def execute(self, call: HCall) -> HReturn:
        """Run one call and return its answer."""
