"""The h-calls of a system whose NVRAM other servers may take over: no call runs after the ownership."""

# The new owner has the newest records, and its guests change them.  An answer from the memory of the former
# owner could be old.  So each call asks whether the ownership is over.  A server that was paused finds that
# before its first call: the time of its lease ran on.
#
# "Busy" is the right answer.  Every driver makes the call again, and after some time it gets GOODBYE
# (`ownership`), and connects to the new owner.  Nothing was changed and nothing was confirmed.

from __future__ import annotations

from typing import TYPE_CHECKING

from hcall_abi.codec import answer_parts, decode_hcall
from hcall_abi.frames import HCall, HReturn
from hcall_abi.rules import storage as rules
from hcall_abi.statuses import Status
from hcall_server.hcalls.answers import PADDING, Calls, Counts, Parts
from hcall_server.hcalls.refusals import OnRefusal, Refusal

if TYPE_CHECKING:
    from hcall_server.nvram.seam import Ownership


class OwnedCalls:
    """The h-calls `inner`, while `ownership` lasts; afterwards each call is answered with H_BUSY."""

    def __init__(self, inner: Calls, ownership: Ownership, on_refusal: OnRefusal, counts: Counts) -> None:
        self._inner = inner
        self._ownership = ownership
        self._on_refusal = on_refusal
        self._counts = counts

    @property
    def costly(self) -> bool:
        """Whether the last inner call may have taken much longer than a READ."""
        return self._inner.costly

    def begin(self) -> None:
        """Begin a turn of the inner calls."""
        self._inner.begin()

    def answer(self, tag: int, data: bytes, start: int, end: int, hold: bool = False) -> Parts | None:
        """Return the inner answer to a call, or a busy answer."""
        if not self._ownership.over:
            return self._inner.answer(tag, data, start, end, hold)
        answer = self._busy(decode_hcall(tag, data, start, end))
        return answer_parts(*answer)

    def execute(self, call: HCall) -> HReturn:
        """Run one call, or answer "busy"."""
        return self._busy(call) if self._ownership.over else self._inner.execute(call)

    def _busy(self, call: HCall) -> HReturn:
        message = "another server may own this system's NVRAM"
        self._on_refusal(Refusal(rules.NVRAM_OWNER, message, status=Status.H_BUSY), call.opcode)
        self._counts[call.opcode, int(Status.H_BUSY)] += 1
        return HReturn(call.tag, int(Status.H_BUSY), PADDING[0], ())
