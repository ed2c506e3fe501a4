"""Busy answers on demand, before the h-calls of one partition (R-75, spec/faults.md#busy-answers).

Without a plan no call is ever busy.  Only the calls of a partition with a plan go through `BusyCalls`, so a
plan costs other partitions nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from hcall_abi.arguments import Kind
from hcall_abi.calls import CALLS, Opcode
from hcall_abi.codec import answer_parts, decode_hcall
from hcall_abi.errors import ScarcityError
from hcall_abi.faults import BusyFault
from hcall_abi.frames import HCall, HReturn
from hcall_abi.rules import hcalls as rules
from hcall_server.faults.plan import Plan
from hcall_server.hcalls.answers import PADDING, Calls, Counts, Parts
from hcall_server.hcalls.refusals import OnRefusal, Refusal, aborted
from hcall_server.keystore.store import Keystore
from hcall_server.platform.partition import Partition

_TOKEN_AT = {
    opcode: arg.place
    for opcode, spec in CALLS.items()
    for arg in spec.args
    if arg.kind is Kind.CONTINUE_TOKEN
}
"""Calls that go on with a continue token, and the place of its argument."""


class BusyCalls:
    """The h-calls of a partition with a fault plan: the plan may answer "busy" instead.

    `clock` returns seconds.
    """

    def __init__(
        self,
        inner: Calls,
        partition: Partition,
        plan: Plan[BusyFault],
        clock: Callable[[], float],
        on_refusal: OnRefusal,
        counts: Counts | None = None,
    ) -> None:
        self.costly = True
        self._inner = inner
        self._partition = partition
        self._plan = plan
        self._clock = clock
        self._on_refusal = on_refusal
        self._counts = defaultdict(int) if counts is None else counts

    def begin(self) -> None:
        """Begin a turn, in which the inner calls read the state of the partition once."""
        self._inner.begin()

    def answer(self, tag: int, data: bytes, start: int, end: int, hold: bool = False) -> Parts | None:
        """Return the frame of the answer to the call in `data[start:end]`; None if the call has to be held.

        If the plan says so, the answer is "busy".  Otherwise the inner calls answer.
        """
        call = decode_hcall(tag, data, start, end)
        if self._planned(call) is None:
            return self._inner.answer(tag, data, start, end, hold)
        # The plan must not count a CONFIRM that is held; it counts the CONFIRM when that is answered.  Only
        # the inner call shows whether a CONFIRM is held.  So `would_meet` asks the plan without a count, and
        # `met_by` counts after the inner call.
        now = self._clock()
        if self._plan.would_meet(call.opcode, now):
            answer = self.execute(call)
            self._counts[call.opcode, answer.status] += 1
            return answer_parts(*answer)
        parts = self._inner.answer(tag, data, start, end, hold)
        if parts is not None:
            self._plan.met_by(call.opcode, now)
        return parts

    def execute(self, call: HCall) -> HReturn:
        """Run one call and return its answer, which is "busy" if the plan says so."""
        keystore = self._planned(call)
        fault = self._plan.met_by(call.opcode, self._clock()) if keystore else None
        if keystore is None or fault is None:
            return self._inner.execute(call)
        # A busy answer may need a random token.  Without entropy the call is aborted, like any other call.
        try:
            outputs, refusal = _outputs(keystore, call), _busy(fault)
        except ScarcityError as error:
            outputs, refusal = (), aborted(error)
        self._on_refusal(refusal, call.opcode)
        return HReturn(call.tag, int(refusal.status), outputs + PADDING[len(outputs)], ())

    def _planned(self, call: HCall) -> Keystore | None:
        """Return the keystore if the plan counts this call, else None.

        The plan counts a call that the partition can serve.  If the call has a continue token, the token has
        to be valid too.
        """
        # A call that can't be served gets H_FUNCTION or H_STATE before "busy" (spec/faults.md).  A wrong
        # token must reach the checks of arguments.  So the inner calls answer both.
        keystore = self._partition.keystore
        if keystore is None or not self._partition.running or call.opcode not in self._partition.level.calls:
            return None
        place = _TOKEN_AT.get(Opcode(call.opcode))
        token = 0 if place is None else call.registers[place]
        return keystore if not token or (Opcode(call.opcode), token) in keystore.continuations else None


def _outputs(keystore: Keystore, call: HCall) -> tuple[int, ...]:
    """Return the output registers of a busy answer: the continue token, if the call has one."""
    opcode = Opcode(call.opcode)
    place = _TOKEN_AT.get(opcode)
    if place is None:
        return ()
    # The guest gets the same token while the fault lasts.  A new token each time would push out tokens of
    # other calls.
    return CALLS[opcode].results(token=call.registers[place] or keystore.continuations.issue(opcode))


def _busy(fault: BusyFault) -> Refusal:
    return Refusal(rules.CALL_BUSY, f"busy by plan: {fault}", status=fault.status)
