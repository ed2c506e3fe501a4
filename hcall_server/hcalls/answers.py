"""The answer of an h-call before it is encoded, and the Protocol of objects that answer h-calls."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import NamedTuple, Protocol

from hcall_abi.calls import CALLS, Opcode
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
NOT_YET = Outcome(SUCCESS, CALLS[Opcode.CONFIRM_OBJECT_FLUSHED].results(flushed=0))
"""The answer to CONFIRM for a change that is not durable.  Callers compare it with `is`."""


PADDING = tuple((0,) * (REGISTERS - n) for n in range(REGISTERS + 1))
"""The zeros that follow n output registers, by n."""


Parts = tuple[bytes, bytes]
"""A frame as its fixed part and the data behind it, so that a join of many frames copies once."""

OTHER_CALL = 0
"""Stands in `Counts` for all unknown opcodes.  With a row for each, a guest could make the table grow."""

Counts = MutableMapping[tuple[int, int], int]
"""Numbers of answered calls, by opcode and status; an absent pair stands for 0."""


class Calls(Protocol):
    """Answers the h-calls of a partition: `HypervisorCalls`, or a fault plan that wraps them."""

    @property
    def costly(self) -> bool:
        """Whether the last call may have taken much longer than a READ."""

    def begin(self) -> None:
        """Read the partition's state before the calls of one turn."""

    def answer(self, tag: int, data: bytes, start: int, end: int, hold: bool = False) -> Parts | None:
        """Run the call whose body is `data[start:end]`; return the frame of its answer, as two parts.

        With `hold`, return None for a CONFIRM whose answer would be "not yet".  The caller then runs the call
        again later.  Raises ProtocolError for a body that is no h-call.
        """

    def execute(self, call: HCall) -> HReturn:
        """Run one call and return its answer.  The call is not counted."""
