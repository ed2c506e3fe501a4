"""An h-call from a frame to its answer: the order of checks, for every call the same.

    PKS enabled and call served -> partition state -> arguments in register order   (here)
    -> password -> existence -> policy -> space                                     (keystore.store)

`execute` is pure and runs to its end, so every h-call is atomic.  It never raises for what a
guest sends: a refusal becomes a status, and `on_refusal` is told why.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hcall_abi.calls import CALLS, Opcode
from hcall_abi.frames import HCall, HReturn, new_tuple
from hcall_abi.statuses import Status
from hcall_server.hcalls.arguments import Checker, checkers
from hcall_server.hcalls.handlers import HANDLERS, served_calls
from hcall_server.hcalls.outcome import Handler
from hcall_server.hcalls.rules import Context, Values
from hcall_server.keystore.refusal import Refusal
from hcall_server.keystore.store import Keystore
from hcall_server.platform.partition import Partition

OnRefusal = Callable[[Refusal, HCall], None]

_ROWS: dict[Opcode, tuple[tuple[Checker, ...], Handler]] = {
    opcode: (checkers(CALLS[opcode]), handler) for opcode, handler in HANDLERS.items()
}
_PADDING = tuple((0,) * (9 - n) for n in range(10))


def _ignore(refusal: Refusal, call: HCall) -> None:
    """The default for `on_refusal`: nobody wants to know."""


class Calls(Protocol):
    """What answers the h-calls of a partition: `HypervisorCalls`, or a fault plan before them."""

    def execute(self, call: HCall) -> HReturn:
        """Run one call and return its answer."""


class HypervisorCalls:
    """The h-calls of one partition.

    `on_refusal` is told of every refusal, with the call, for the log; it must not raise.
    """

    def __init__(self, partition: Partition, on_refusal: OnRefusal = _ignore) -> None:
        self._partition = partition
        self._on_refusal = on_refusal
        served = served_calls(partition.level)
        self._context: Context | None = None
        self._rows = {int(opcode): row for opcode, row in _ROWS.items() if opcode in served}

    def execute(self, call: HCall) -> HReturn:
        """Run one call and return its answer."""
        tag, opcode, registers, segments = call
        partition = self._partition
        keystore = partition.keystore
        row = self._rows.get(opcode)
        try:
            if keystore is None or row is None:
                raise _no_function(keystore)
            if not partition.running:
                raise _not_activated()
            checks, handler = row
            context, strict = self._context, partition.strict_memory
            if context is None or context.limits is not keystore.limits or context.strict is not strict:
                context = self._context = Context(
                    keystore.limits,
                    keystore.listings,
                    strict,
                    strict and partition.strict_wrapping,
                    keystore.continuations,
                )
            values: Values = []
            for check in checks:
                check(registers, segments, context, values)
            status, outputs, writes = handler(keystore, partition.level, *values)
        except Refusal as refusal:
            self._on_refusal(refusal, call)
            status, outputs, writes = int(refusal.status), refusal.outputs, ()
        return new_tuple(HReturn, (tag, status, outputs + _PADDING[len(outputs)], writes))


def _no_function(keystore: Keystore | None) -> Refusal:
    if keystore is None:
        message, rule = "the keystore is off", "calls are answered where the keystore has a size above 0"
    else:
        message, rule = "no such h-call", "the firmware level has the call and this emulator answers it"
    return Refusal(Status.H_FUNCTION, message, rule=rule, section="spec/hcalls/index.md#order-of-checks")


def _not_activated() -> Refusal:
    return Refusal(
        Status.H_STATE,
        "the partition is not activated",
        rule="calls are answered while the partition runs",
        section="spec/hcalls/index.md#order-of-checks",
    )
