"""Faults on demand: the grammar of fault plans, for server, clients and command line (spec/faults.md).

A fault answers operations of its kind, from the `nth` one on. It answers `times` operations in a row, or
all of them for `seconds`. The count begins when the plan is set. Busy answers count the calls of one
h-call; NVRAM faults count commits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from hcall_abi.bounds import MAX_COUNT, MAX_FAULTS, MAX_SECONDS
from hcall_abi.calls import CALLS, Opcode
from hcall_abi.errors import OperatorError
from hcall_abi.mistakes import check_text, of_caller
from hcall_abi.near import near_names, near_question
from hcall_abi.rules import console as rules
from hcall_abi.statuses import Status

__tracebackhide__ = of_caller
NvramTrouble = Literal["full", "io", "busy", "corrupt", "stall"]
"""The troubles of NVRAM: a commit is refused (no space, I/O error, lock, damage), or hangs."""
NvramOperation = Literal["load", "commit"]

ConsoleTrouble = Literal["full", "io", "stall"]
"""The troubles that the console can ask for; the others are for simulations."""
COUNTED_TROUBLES = ("full", "io")
"""The troubles that last for a number of commits."""

_LONG_BUSY = frozenset(status for status in Status if status.name.startswith("H_LONG_BUSY_ORDER"))
# The pattern bounds the number of digits, because `int` becomes very slow for many digits.
_TEXT = re.compile(
    r"(?P<hcall>\w+)=(?P<status>\w+)(,nth=(?P<nth>\d{1,7}))?"
    r"(,times=(?P<times>\d{1,7})|,seconds=(?P<seconds>\d{1,4}(\.\d{1,6})?))?",
    re.ASCII,
)

_FIELDS = ("nth", "times", "seconds")


def _allowed(call: Opcode) -> frozenset[Status]:
    """Return the busy statuses that a fault of a call may have."""
    return (CALLS[call].statuses & _LONG_BUSY) | {Status.H_BUSY}


@dataclass(frozen=True)
class BusyFault:
    """A fault that answers `call` with `status`, from the `nth` call after the plan was set.

    The fault answers `times` calls in a row, or all calls for `seconds`; exactly one of the two is given.
    `status` is H_BUSY or one of the call's H_LONG_BUSY_ORDER_*. H_BUSY is allowed for every call. This
    includes CONFIRM, although its row of the table lacks H_BUSY (spec/faults.md#busy-answers).
    OperatorError for any other status, and for counts and times out of range.
    """

    call: Opcode
    status: Status
    nth: int = 1
    times: int | None = 1
    seconds: float | None = None

    def __post_init__(self) -> None:
        allowed = _allowed(self.call)
        if self.status not in allowed:
            names = ", ".join(status.name for status in sorted(allowed))
            message = f"{self.call.name} never answers {self.status.name}; its busy answers are {names}"
            raise OperatorError(rules.FAULT_STATUS, message)
        # Exactly one of the two must be given. With both, the end of the fault would be unclear. With
        # neither, it would never end.
        if (self.times is None) == (self.seconds is None):
            raise OperatorError(rules.FAULT_LASTING, "a fault with both times and seconds, or neither")
        if not 1 <= self.nth <= MAX_COUNT or (self.times is not None and not 1 <= self.times <= MAX_COUNT):
            raise OperatorError(rules.FAULT_COUNT, f"nth={self.nth} and times={self.times}")
        if self.seconds is not None and not 0 < self.seconds <= MAX_SECONDS:
            raise OperatorError(rules.FAULT_SECONDS, f"{self.seconds:g} seconds")

    def __str__(self) -> str:
        lasting = f"seconds={self.seconds:g}" if self.times is None else f"times={self.times}"
        return f"{self.call.name}={self.status.name},nth={self.nth},{lasting}"

    @property
    def kind(self) -> Opcode:
        """The operations that this fault counts: the calls of one h-call."""
        return self.call


@dataclass(frozen=True)
class NvramFault:
    """A fault that makes commits of NVRAM fail with `trouble`, from the `nth` commit after it was set.

    The fault affects `times` commits in a row.  If `times` is None, it lasts until it is ended.  A stall
    always lasts until it is ended.  With `after`, the commit takes effect, and only its answer is lost.

    `operation` says whether the fault affects commits or loads.  `after` and `operation` are for
    simulations.
    """

    trouble: NvramTrouble
    nth: int = 1
    times: int | None = 1
    after: bool = False
    operation: NvramOperation = "commit"

    seconds: ClassVar[float | None] = None
    """NVRAM faults are counted, never timed."""

    def __post_init__(self) -> None:
        if self.trouble not in get_args(NvramTrouble):
            raise OperatorError(rules.TROUBLE_KNOWN, f"no trouble {self.trouble!r}")
        # A commit that hangs does not return. So there is no second one to count, and no answer that could be
        # lost after an effect.
        if self.trouble == "stall" and (self.times is not None or self.after):
            raise OperatorError(rules.TROUBLE_STALL, "a stall with a number or an effect")
        if self.nth < 1 or (self.times is not None and self.times < 1):
            raise OperatorError(rules.TROUBLE_COUNT, f"nth={self.nth} and times={self.times}")

    @property
    def kind(self) -> NvramOperation:
        """The operations that this fault counts: commits, or loads."""
        return self.operation


def busy_fault(
    hcall: str, status: str, nth: int = 1, times: int | None = None, seconds: float | None = None
) -> BusyFault:
    """Return the fault for an h-call and a status by name; by default it answers one call."""
    if hcall not in Opcode.__members__:
        names = ", ".join(Opcode.__members__)
        near = near_question(hcall.removeprefix("H_PKS_"), Opcode.__members__)
        raise OperatorError(rules.FAULT_CALL, f"no h-call {hcall!r}{near}; the h-calls are {names}")
    if status not in Status.__members__:
        # Another status would be refused too.
        allowed = (each.name for each in _allowed(Opcode[hcall]))
        near = near_question(status, allowed)
        raise OperatorError(rules.FAULT_STATUS, f"no status {status!r}{near}")
    if times is None and seconds is None:
        times = 1
    return BusyFault(Opcode[hcall], Status[status], nth, times, seconds)


def parse_fault(text: str) -> BusyFault:
    """Return the fault for "HCALL=STATUS[,nth=N][,times=K|,seconds=S]"; OperatorError for any other text."""
    check_text("a fault", text)
    match = _TEXT.fullmatch(text)
    if match is None:
        reason = _near_field(text) or f" ({_wrong_part(text)})"
        raise OperatorError(rules.FAULT_FORM, f"{text!r} is no fault{reason}")
    times, seconds = match["times"], match["seconds"]
    return busy_fault(
        match["hcall"],
        match["status"],
        int(match["nth"] or 1),
        int(times) if times else None,
        float(seconds) if seconds else None,
    )


def _near_field(text: str) -> str:
    """Return "; did you mean X?" for a wrong field name in a fault, "" if all names are right."""
    names = (each.partition("=")[0].strip() for each in text.split(",")[1:5])
    return next((near_question(name, _FIELDS) for name in names if name not in _FIELDS), "")


def _wrong_part(text: str) -> str:
    """Return the wrong part of a text that is no fault, and the right form of this part."""
    head, *fields = text.split(",")[:5]
    hcall, _, status = head.partition("=")
    if not status:
        known = near_names(hcall.removeprefix("H_PKS_"), Opcode.__members__, 1)
        return f"a status follows the h-call, such as {known[0] if known else 'WRITE_OBJECT'}=H_BUSY"
    if any(each.isspace() for each in text):
        return "it has no blanks, such as WRITE_OBJECT=H_BUSY,nth=2"
    names = [each.partition("=")[0] for each in fields]
    unknown = next((name for name in names if name not in _FIELDS), None)
    return _wrong_fields(names) if unknown is None else f"it has no field {unknown[:20]!r}"


def _wrong_fields(names: Sequence[str]) -> str:
    """Return the reason why fields with known names make no fault."""
    if {"times", "seconds"} <= set(names):
        return "times and seconds exclude each other"
    if list(names) != [name for name in _FIELDS if name in names]:
        return "each field stands once, and nth comes first, such as WRITE_OBJECT=H_BUSY,nth=2,times=3"
    return f"nth and times are 1 to {MAX_COUNT}, and seconds is above 0, up to {MAX_SECONDS:g}"


def checked_plan(faults: Iterable[BusyFault]) -> tuple[BusyFault, ...]:
    """Return a partition's plan; OperatorError when it has more than `MAX_FAULTS` faults."""
    plan = tuple(faults)
    if len(plan) > MAX_FAULTS:
        raise OperatorError(rules.FAULT_PLAN, f"{len(plan)} faults")
    return plan
