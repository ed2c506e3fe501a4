"""Busy answers on demand: a plan of which calls of a partition are answered "busy", and for how long (R-75).

Nothing is ever busy on its own.  A partition with a plan gets its calls from `FaultyCalls`, all
others from `HypervisorCalls` itself, so that a plan that is not there costs nothing.  What a guest
sees: spec/faults.md#busy-answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from hcall_abi.calls import CALLS, Opcode
from hcall_abi.errors import OperatorError
from hcall_abi.frames import HCall, HReturn
from hcall_abi.statuses import Status
from hcall_server.hcalls.dispatch import Caller, HypervisorCalls, OnRefusal
from hcall_server.hcalls.handlers import served_calls
from hcall_server.keystore.refusal import Refusal
from hcall_server.keystore.store import Keystore

SECTION = "spec/faults.md#busy-answers"
MAX_FAULTS = 64
"""Faults in one plan."""
MAX_COUNT = 1_000_000
MAX_SECONDS = 3600.0

_LONG_BUSY = frozenset(status for status in Status if status.name.startswith("H_LONG_BUSY_ORDER"))
_TOKEN_AT = {
    opcode: spec.arg("token").register - 4
    for opcode, spec in CALLS.items()
    if spec.outputs and spec.outputs[0].name == "token"
}
"""Calls that go on with a continue token, and the place of its argument."""

_TEXT = re.compile(
    r"(?P<hcall>\w+)=(?P<status>\w+)(,nth=(?P<nth>\d{1,7}))?"
    r"(,times=(?P<times>\d{1,7})|,seconds=(?P<seconds>\d{1,4}(\.\d{1,6})?))?",
    re.ASCII,
)


class Calls(Protocol):
    """What answers h-calls."""

    def execute(self, call: HCall) -> HReturn:
        """Run one call and return its answer."""


@dataclass(frozen=True)
class BusyFault:
    """Answer `call` with `status` from its `nth` time on, counted from when the plan was set.

    `times` in a row, or as long as `seconds`; exactly one of them is given.  A status is H_BUSY or one
    of the call's H_LONG_BUSY_ORDER_*; H_BUSY is allowed to every call, so to CONFIRM too, whose row of
    the table does not have it (spec/faults.md#busy-answers).  OperatorError for any other status, and
    for counts and times out of range.
    """

    call: Opcode
    status: Status
    nth: int = 1
    times: int | None = 1
    seconds: float | None = None

    def __post_init__(self) -> None:
        allowed = (CALLS[self.call].statuses & _LONG_BUSY) | {Status.H_BUSY}
        if self.status not in allowed:
            names = ", ".join(status.name for status in sorted(allowed))
            raise _refused(f"{self.call.name} never answers {self.status.name}", f"its busy answers: {names}")
        if (self.times is None) == (self.seconds is None):
            raise _refused("how long?", "a fault lasts a number of times or of seconds, not both")
        if not 1 <= self.nth <= MAX_COUNT or (self.times is not None and not 1 <= self.times <= MAX_COUNT):
            raise _refused("a count is out of range", f"nth and times are 1 to {MAX_COUNT}")
        if self.seconds is not None and not 0 < self.seconds <= MAX_SECONDS:
            rule = f"seconds are above 0 and at most {MAX_SECONDS:g}: no guest waits for ever"
            raise _refused("a time is out of range", rule)

    def __str__(self) -> str:
        lasting = f"seconds={self.seconds:g}" if self.times is None else f"times={self.times}"
        return f"{self.call.name}={self.status.name},nth={self.nth},{lasting}"


def busy_fault(
    hcall: str, status: str, nth: int = 1, times: int | None = None, seconds: float | None = None
) -> BusyFault:
    """Return the fault with these names, once unless it says how long; OperatorError if there is none."""
    if hcall not in Opcode.__members__:
        raise _refused(f"no h-call {hcall!r}", f"the h-calls are {', '.join(Opcode.__members__)}")
    if status not in Status.__members__:
        raise _refused(f"no status {status!r}", "a busy status is H_BUSY or one of H_LONG_BUSY_ORDER_*")
    if times is None and seconds is None:
        times = 1
    return BusyFault(Opcode[hcall], Status[status], nth, times, seconds)


def parse_fault(text: str) -> BusyFault:
    """Return the fault in "HCALL=STATUS[,nth=N][,times=K|,seconds=S]"; OperatorError if it is none."""
    match = _TEXT.fullmatch(text)
    if match is None:
        raise _refused(f"{text!r} is no fault", "a fault is HCALL=STATUS[,nth=N][,times=K|,seconds=S]")
    times, seconds = match["times"], match["seconds"]
    return busy_fault(
        match["hcall"],
        match["status"],
        int(match["nth"] or 1),
        int(times) if times else None,
        float(seconds) if seconds else None,
    )


@dataclass
class Planned:
    """A fault and how it goes: calls `seen`, calls `answered` busy, and when it ends if it has begun."""

    fault: BusyFault
    seen: int = 0
    answered: int = 0
    until: float | None = None
    spent: bool = False

    def meets(self, now: Callable[[], float]) -> bool:
        """Count a call, and say whether this fault answers it."""
        self.seen += 1
        fault = self.fault
        if self.seen < fault.nth or self.spent:
            return False
        if fault.times is not None:
            self.spent = self.seen + 1 >= fault.nth + fault.times
            return True
        if self.until is None:
            self.until = now() + (fault.seconds or 0.0)
        self.spent = now() >= self.until
        return not self.spent


class FaultPlan:
    """The faults of one partition, in order; the first that meets a call answers it.

    `clock` returns seconds.  Every fault counts every call of its sort, also those that another
    answers.
    """

    def __init__(self, faults: Iterable[BusyFault], clock: Callable[[], float]) -> None:
        self.planned = [Planned(fault) for fault in faults]
        self._clock = clock
        if len(self.planned) > MAX_FAULTS:
            raise _refused(f"{len(self.planned)} faults", f"a plan has at most {MAX_FAULTS} faults")

    def __repr__(self) -> str:
        return f"FaultPlan({[str(planned.fault) for planned in self.planned]})"

    def met_by(self, opcode: int) -> BusyFault | None:
        """Count a call and return the fault that answers it, if one does."""
        met = None
        for planned in self.planned:
            if planned.fault.call == opcode and planned.meets(self._clock) and met is None:
                planned.answered += 1
                met = planned.fault
        return met


class FaultyCalls:
    """The h-calls of a partition that has a plan; else as `HypervisorCalls`."""

    def __init__(self, partition: Caller, plan: FaultPlan, on_refusal: OnRefusal) -> None:
        self._partition = partition
        self._plan = plan
        self._on_refusal = on_refusal
        self._calls = HypervisorCalls(partition, on_refusal)

    def execute(self, call: HCall) -> HReturn:
        """Run one call, unless the plan has it busy, and return its answer."""
        keystore = self._partition.keystore
        if keystore is None or not self._partition.running or not self._may_be_busy(keystore, call):
            return self._calls.execute(call)
        fault = self._plan.met_by(call.opcode)
        if fault is None:
            return self._calls.execute(call)
        self._on_refusal(_busy(fault), call)
        return HReturn(call.tag, int(fault.status), (_token(keystore, call), 0, 0, 0, 0, 0, 0, 0, 0), ())

    def _may_be_busy(self, keystore: Keystore, call: HCall) -> bool:
        """Whether the partition has this call, and its continue token, if there is one, is good."""
        if call.opcode not in served_calls(self._partition.level):
            return False
        place = _TOKEN_AT.get(Opcode(call.opcode))
        token = 0 if place is None else call.registers[place]
        return not token or (Opcode(call.opcode), token) in keystore.continuations


def executor_of(partition: Caller, plan: FaultPlan | None, on_refusal: OnRefusal) -> Calls:
    """Return what answers the calls of a partition with or without a plan."""
    return FaultyCalls(partition, plan, on_refusal) if plan else HypervisorCalls(partition, on_refusal)


def _token(keystore: Keystore, call: HCall) -> int:
    """Return the token for r4: the one that the call came with, a new one, or 0 where it has none."""
    opcode = Opcode(call.opcode)
    place = _TOKEN_AT.get(opcode)
    if place is None:
        return 0
    return call.registers[place] or keystore.continuations.issue(opcode)


def _busy(fault: BusyFault) -> Refusal:
    message = f"busy by plan: {fault}"
    return Refusal(
        fault.status, message, rule="the partition's fault plan answers this call", section=SECTION
    )


def _refused(message: str, rule: str) -> OperatorError:
    return OperatorError(message, rule=rule, section=SECTION)
