"""An h-call from a frame to its answer: one order of checks for all calls.

This module makes the first checks, in this order: the keystore is on and the call is served, the partition
runs, each argument is right (in register order).  `hcall_server.keystore` makes the later checks: password,
existence of the object, policy, space.
A call waits for nothing and runs to its end, so every h-call is atomic.  No call of a guest raises: a
refusal becomes a status, and `on_refusal` gets the reason.  Only a body that is no h-call raises.
"""

# A call has two ways from a frame to its handler.  The express way serves frequent calls in the plain shape
# (`express.py`).  The ordinary way serves all others, and it alone refuses arguments.  Both end in the same
# handler, so they differ in time only.

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from hcall_abi.calls import CALLS, Opcode
from hcall_abi.codec import HCALL_HEAD_LAYOUT, answer_parts, decode_hcall
from hcall_abi.errors import ScarcityError
from hcall_abi.frames import HCall, HReturn, new_tuple
from hcall_abi.rules import hcalls as rules
from hcall_server.hcalls.answers import NOT_YET, OTHER_CALL, PADDING, Counts, Outcome, Parts
from hcall_server.hcalls.context import Context
from hcall_server.hcalls.express import SERVED, Express, express_of
from hcall_server.hcalls.handlers import HANDLERS, Answer, Handler
from hcall_server.hcalls.refusals import OnRefusal, Refusal, aborted, refusal_of
from hcall_server.keystore.refusals import KeystoreRefusal
from hcall_server.keystore.store import Keystore
from hcall_server.platform.partition import Partition
from hcall_server.platform.power import RUNNING

_REFUSALS = (Refusal, KeystoreRefusal, ScarcityError)


class _Way(NamedTuple):
    """The express way of one h-call."""

    opcode: int
    read: Express
    answer: Answer[tuple[object, ...]]
    costly: bool


def _way_of(handler: Handler) -> _Way:
    opcode, arguments, _, answer = handler
    costly = opcode is Opcode.GET_OBJECTLABELS  # this call visits every object
    return _Way(int(opcode), express_of(CALLS[opcode], arguments), answer, costly)


_OPCODE = HCALL_HEAD_LAYOUT.fields[0].size
"""Bytes of the opcode, the first field of a body."""
# The key is the opcode as bytes.  So the look-up slices the frame, and decodes no number.
_WAYS: Mapping[Opcode, tuple[bytes, _Way]] = {
    opcode: (int(opcode).to_bytes(_OPCODE, "big"), _way_of(HANDLERS[opcode])) for opcode in SERVED
}
"""The express way of each call that has one, with the first bytes of its bodies."""
_NO_WAYS: Mapping[bytes, _Way] = {}


def _ignore(refusal: Refusal, opcode: int) -> None:
    """The default for `on_refusal`: do nothing."""


class HypervisorCalls:
    """The h-calls of one partition.

    `on_refusal` is called with every refusal and the opcode of its call, for the log; it must not raise.
    `counts` counts the calls that `answer` has answered.
    """

    def __init__(
        self, partition: Partition, on_refusal: OnRefusal = _ignore, counts: Counts | None = None
    ) -> None:
        self.costly = False
        self._partition = partition
        self._on_refusal = on_refusal
        self._counts = defaultdict(int) if counts is None else counts
        self._context: Context | None = None
        self._handlers = {int(opcode): HANDLERS[opcode] for opcode in partition.level.calls}
        self._ways = dict(_WAYS[opcode] for opcode in _WAYS.keys() & partition.level.calls)
        self._open_ways = _NO_WAYS

    def begin(self) -> None:
        """Read the partition's state before the calls of one turn: only calls change it during the turn."""
        keystore = self._partition.keystore
        if keystore is None or self._partition.state is not RUNNING:
            self._open_ways = _NO_WAYS
            return
        self._open_ways = self._ways
        self._keystore, self._level = keystore, self._partition.level
        self._limits = keystore.contents.limits

    def answer(self, tag: int, data: bytes, start: int, end: int, hold: bool = False) -> Parts | None:
        """Run the call whose body is `data[start:end]`; return the frame of its answer, as two parts.

        If `hold` is true, a CONFIRM with the answer "not yet" returns None, and is not counted.
        ProtocolError for a body that is no h-call.  The caller must call `begin` before the first call of a
        turn.
        """
        way = self._open_ways.get(data[start : start + _OPCODE])
        arguments = None if way is None else way.read(data, start, end, self._limits)
        if way is None or arguments is None:
            call = decode_hcall(tag, data, start, end)
            opcode = call.opcode if call.opcode in CALLS else OTHER_CALL
            outcome = self._outcome(call)
            # This call may be a signed update, which tries several RSA keys.  So the turn has to read its
            # clock.
            self.costly = True
        else:
            opcode, _, answer, self.costly = way
            try:
                outcome = answer(self._keystore, self._level, arguments)
            except _REFUSALS as error:
                outcome = self._refused(error, opcode)
        # A held CONFIRM runs again later.  It is one call, so this run is not counted.
        if hold and outcome is NOT_YET:
            return None
        status, outputs, writes = outcome
        self._counts[opcode, status] += 1
        return answer_parts(tag, status, outputs, writes)

    def execute(self, call: HCall) -> HReturn:
        """Run one call and return its answer."""
        status, outputs, writes = self._outcome(call)
        return new_tuple(HReturn, (call.tag, status, outputs + PADDING[len(outputs)], writes))

    def _outcome(self, call: HCall) -> Outcome:
        """Run one call by the ordinary way."""
        # The order of checks is fixed (spec/hcalls/index.md): call served, power, arguments.  The keystore
        # makes the rest of the checks.
        _, opcode, registers, segments = call
        partition = self._partition
        keystore = partition.keystore
        handler = self._handlers.get(opcode)
        try:
            if keystore is None or handler is None:
                raise _no_function(partition, opcode)
            if partition.state is not RUNNING:
                raise Refusal(rules.CALL_POWER, "the partition is not activated")
            _, arguments, collect, answer = handler
            args = new_tuple(arguments, collect(registers, segments, self._context_of(keystore)))
            return answer(keystore, partition.level, args)
        except _REFUSALS as error:
            return self._refused(error, opcode)

    def _context_of(self, keystore: Keystore) -> Context:
        """Return the context of a call: the last one, if limits and strictness have not changed."""
        # One context serves many calls.  A new one is needed after a change of the store's size or of
        # strictness.
        context, partition = self._context, self._partition
        if (
            context is None
            or context.limits is not keystore.contents.limits
            or context.strict is not partition.strict_memory
        ):
            context = self._context = _context(keystore, partition)
        return context

    def _refused(self, error: Refusal | KeystoreRefusal | ScarcityError, opcode: int) -> Outcome:
        """Report a refusal, and return its answer."""
        if isinstance(error, KeystoreRefusal):
            refusal = refusal_of(Opcode(opcode), error)
        else:
            refusal = aborted(error) if isinstance(error, ScarcityError) else error
        self._on_refusal(refusal, opcode)
        return Outcome(int(refusal.status), refusal.outputs)


def _context(keystore: Keystore, partition: Partition) -> Context:
    return Context(
        limits=keystore.contents.limits,
        listings=keystore.listings,
        continuations=keystore.continuations,
        strict=partition.strict_memory,
        page_aligned=partition.strict_memory and partition.strict_wrapping,
    )


def _no_function(partition: Partition, opcode: int) -> Refusal:
    """Return the refusal of an h-call that the partition does not have, with the reason."""
    if partition.keystore is None:
        return Refusal(rules.CALL_KEYSTORE, "the keystore is off")
    if opcode in partition.switched_off:
        advice = f"power it off, then: swpks hmc set {partition.name} keystore_signed_updates=1"
        return Refusal(rules.CALL_SWITCHED, f"signed updates are off for this partition: {advice}")
    return Refusal(rules.CALL_SERVED, "no such h-call")
