"""An h-call from a frame to its answer: one order of checks for all calls.

    keystore on and call served -> partition runs -> arguments in register order   (here)
    -> password -> existence -> policy -> space                                    (hcall_server.keystore)

`execute` is pure and runs to its end, so every h-call is atomic.  No input of a guest makes it raise: a
refusal becomes a status, and `on_refusal` gets the reason.
"""

from __future__ import annotations

from hcall_abi.calls import Opcode
from hcall_abi.errors import ScarcityError
from hcall_abi.frames import HCall, HReturn, new_tuple
from hcall_abi.rules import hcalls as rules
from hcall_server.hcalls.answers import PADDING
from hcall_server.hcalls.context import Context
from hcall_server.hcalls.handlers import HANDLERS
from hcall_server.hcalls.refusals import OnRefusal, Refusal, aborted, refusal_of
from hcall_server.keystore.refusals import KeystoreRefusal
from hcall_server.keystore.store import Keystore
from hcall_server.platform.partition import Partition
from hcall_server.platform.power import RUNNING


def _ignore(refusal: Refusal, call: HCall) -> None:
    """The default for `on_refusal`: do nothing."""


class HypervisorCalls:
    """The h-calls of one partition.

    `on_refusal` is called with every refusal and its call, for the log; it must not raise.
    """

    def __init__(self, partition: Partition, on_refusal: OnRefusal = _ignore) -> None:
        self._partition = partition
        self._on_refusal = on_refusal
        self._context: Context | None = None
        self._handlers = {int(opcode): HANDLERS[opcode] for opcode in partition.level.calls}

    def execute(self, call: HCall) -> HReturn:
        """Run one call and return its answer."""
        tag, opcode, registers, segments = call
        partition = self._partition
        keystore = partition.keystore
        handler = self._handlers.get(opcode)
        try:
            if keystore is None or handler is None:
                raise _no_function(keystore)
            if partition.state is not RUNNING:
                raise Refusal(rules.CALL_POWER, "the partition is not activated")
            context = self._context
            if (
                context is None
                or context.limits is not keystore.contents.limits
                or context.strict is not partition.strict_memory
            ):
                context = self._context = _context(keystore, partition)
            _, arguments, collect, answer = handler
            args = new_tuple(arguments, collect(registers, segments, context))
            status, outputs, writes = answer(keystore, partition.level, args)
        except Refusal as refusal:
            status, outputs, writes = self._refused(refusal, call)
        except KeystoreRefusal as error:
            status, outputs, writes = self._refused(refusal_of(Opcode(opcode), error), call)
        except ScarcityError as error:
            status, outputs, writes = self._refused(aborted(error), call)
        return new_tuple(HReturn, (tag, status, outputs + PADDING[len(outputs)], writes))

    def _refused(self, refusal: Refusal, call: HCall) -> tuple[int, tuple[int, ...], tuple[()]]:
        self._on_refusal(refusal, call)
        return int(refusal.status), refusal.outputs, ()


def _context(keystore: Keystore, partition: Partition) -> Context:
    return Context(
        limits=keystore.contents.limits,
        listings=keystore.listings,
        continuations=keystore.continuations,
        strict=partition.strict_memory,
        page_aligned=partition.strict_memory and partition.strict_wrapping,
    )


def _no_function(keystore: Keystore | None) -> Refusal:
    if keystore is None:
        return Refusal(rules.CALL_KEYSTORE, "the keystore is off")
    return Refusal(rules.CALL_SERVED, "no such h-call")
