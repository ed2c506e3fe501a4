"""The log of all h-calls: `swpks serve --log-calls` (spec/service.md#log-of-the-calls).

Without the option this module is not loaded, and costs no call anything.  With the option, `LoggedCalls` is
the outermost layer around the calls of each session.  So the answers of a fault plan and of a hold are logged
too.
"""

from __future__ import annotations

from collections.abc import Callable

from hcall_abi.codec import answered, decode_hcall
from hcall_abi.frames import HCall, HReturn
from hcall_server.hcalls.answers import Calls, Parts
from hcall_server.hcalls.call_fields import call_fields
from hcall_server.hcalls.refusals import OnRefusal, Refusal
from hcall_server.machine import logs
from hcall_server.machine.noise import LinePace, Noise, PeerLog, left_out
from hcall_server.platform.partition import Partition

EVENT = "hcall.answered"
PACE = LinePace(burst=4096, per_second=64.0)
"""A kernel's boot makes some hundred calls: all are written.  A flood writes 64 lines of 1 KiB a second."""

MakeCalls = Callable[[OnRefusal], Calls]
"""Makes the calls of a session; they report their refusals to the argument."""


class CallLog:
    """Logs the h-calls of all partitions of a machine."""

    def __init__(self, noise: Noise) -> None:
        self._noise = noise

    def before(self, partition: Partition, make: MakeCalls, on_refusal: OnRefusal) -> Calls:
        """Return the calls of a session, wrapped so that each call is logged with its answer."""
        allowance = self._noise.of(f"h-calls of {partition.name}", PACE)
        log = PeerLog(allowance, logs.Log(partition=partition.name))
        return LoggedCalls(make, on_refusal, log, partition)


class LoggedCalls:
    """The h-calls of a session, each of which is logged with its answer.

    A call that is held is logged once, when it is answered.
    """

    costly = True

    def __init__(self, make: MakeCalls, on_refusal: OnRefusal, log: PeerLog, partition: Partition) -> None:
        self._inner = make(self._note)
        self._on_refusal = on_refusal
        self._log = log
        self._partition = partition
        self._rule: str | None = None

    def begin(self) -> None:
        """Begin a turn of the wrapped calls: they read the state of the partition."""
        self._inner.begin()

    def answer(self, tag: int, data: bytes, start: int, end: int, hold: bool = False) -> Parts | None:
        """Answer the call in `data[start:end]` as a frame, and log it (see `Calls`)."""
        self._rule = None
        parts = self._inner.answer(tag, data, start, end, hold)
        if parts is not None:
            self._log_call(lambda: (decode_hcall(tag, data, start, end), answered(parts)))
        return parts

    def execute(self, call: HCall) -> HReturn:
        """Run one call, log it, and return its answer."""
        self._rule = None
        answer = self._inner.execute(call)
        self._log_call(lambda: (call, answer))
        return answer

    def _passwords(self) -> list[bytes]:
        """Return the passwords that are set now: the log must not have one, in any field."""
        # A guest that confuses its registers may send a password as a label, and labels are logged.
        keystore = self._partition.keystore
        return [password for _, password in keystore.access.passwords.items()] if keystore else []

    def _note(self, refusal: Refusal, opcode: int) -> None:
        self._rule = refusal.rule.id
        self._on_refusal(refusal, opcode)

    def _log_call(self, read: Callable[[], tuple[HCall, HReturn]]) -> None:
        """Write the line of a call, if log level and pace allow it.  Never raise: the call has run."""
        # The allowance is checked before the frame is decoded.  In a flood, most lines are left out, and
        # their frames are not decoded.
        missing = self._log.missing("info", EVENT)
        if missing is None:
            return
        try:
            fields = call_fields(*read(), self._passwords())
        except MemoryError:
            logs.drop()
            return
        rule = {"rule_id": self._rule} if self._rule else {}
        self._log.log.info(EVENT, **fields, **rule, **left_out(missing))
