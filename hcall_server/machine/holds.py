"""The hold of a partition's h-calls while the partition moves: no call runs during the hold.

The custodian begins a hold before it freezes a partition (spec/migration.md).  If the partition is served
here again, the custodian ends the hold.  If the partition leaves, its sessions end with GOODBYE 3.
"""

# A hold, as a client sees it
#
# A call runs in a turn, and a hold begins between two turns.  So each call has run before the hold, or it has
# not run.  Nothing is half done.
#
#     time                        calls that list H_R_STATE     all other calls
#     up to HOLD_SECONDS          wait                          wait
#     later                       answer H_R_STATE, not run     wait
#
# Calls of one connection are answered in their order.  So a call behind one that waits also waits.
#
# A hold sets two fields of a session's link: `Link.hold`, and `HeldCalls` in `Link.calls`.  So a call costs
# nothing more while there is no hold.  `HeldCalls.answer` returns None for a call that waits.  A CONFIRM that
# waits for its flush also returns None.  If a hold begins during that wait, the CONFIRM comes to `HeldCalls`
# after the flush, and waits again.
#
# GOODBYE 3 promises that calls without an answer have not run.  `leave` only ends the sessions.  The
# connection keeps the promise: it sends the answers of all calls that ran before the GOODBYE, or no GOODBYE.

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Never
from uuid import UUID

import trio

from hcall_abi.bounds import HOLD_SECONDS
from hcall_abi.calls import CALLS
from hcall_abi.codec import answer_parts, decode_hcall
from hcall_abi.frames import GoodbyeReason, HCall
from hcall_abi.rules import hcalls as rules
from hcall_abi.statuses import Status
from hcall_server.hcalls.answers import Calls, Counts, Parts
from hcall_server.hcalls.refusals import OnRefusal, Refusal

if TYPE_CHECKING:
    from hcall_server.machine.sessions import Sessions
    from hcall_server.machine.turns import Turns
    from hcall_server.platform.partition import Partition

GoOn = Callable[[], None]
Drop = Callable[[], None]

MODIFYING = frozenset(opcode for opcode, spec in CALLS.items() if Status.H_R_STATE in spec.statuses)
"""The calls that answer H_R_STATE when a hold lasts."""


class Hold:
    """The hold of one partition.

    The end of the hold cancels `over`.  Once `refuses` is true, modifying calls are answered with H_R_STATE.
    """

    def __init__(self) -> None:
        self.refuses = False
        self.over = trio.CancelScope()
        self._waiting: dict[object, GoOn] = {}

    def __repr__(self) -> str:
        return f"Hold({len(self._waiting)} connections wait)"

    def wait(self, go_on: GoOn) -> Drop:
        """Call `go_on` once, when the hold changes.  The returned function cancels this."""
        key = object()
        self._waiting[key] = go_on

        def drop() -> None:
            self._waiting.pop(key, None)

        return drop

    def wake(self) -> None:
        """Call each function that waits now.  A function that waits again meanwhile is not called."""
        # A call that is still held waits again during this loop.  The loop calls only those that waited at
        # its beginning, so it ends.
        waiting = list(self._waiting)
        for each in waiting:
            go_on = self._waiting.pop(each, None)
            if go_on is not None:
                go_on()


class Holds:
    """The holds of a machine, by the UUID of the held partition.

    `renew_calls` gives each session of a partition new calls, which it gets from `before`.  `run_beside`
    runs a task.
    """

    def __init__(
        self,
        sessions: Sessions,
        turns: Turns,
        renew_calls: Callable[[Partition], None],
        run_beside: Callable[[Callable[[], Awaitable[object]]], None],
    ) -> None:
        self._sessions = sessions
        self._turns = turns
        self._renew_calls = renew_calls
        self._run_beside = run_beside
        self._holds: dict[UUID, Hold] = {}

    def __repr__(self) -> str:
        return f"Holds({len(self._holds)})"

    def held(self, partition: Partition) -> bool:
        """Whether a hold of this partition is in force, so that none of its calls runs."""
        return partition.profile.uuid in self._holds

    def begin(self, partition: Partition) -> None:
        """Hold all calls of a partition from now on; no effect if they are held already."""
        if self.held(partition):
            return
        hold = self._holds[partition.profile.uuid] = Hold()
        self._put(partition, hold)
        self._run_beside(partial(self._refuse, hold))

    def end(self, partition: Partition) -> None:
        """Run the calls that wait, and allow all later ones; no effect without a hold."""
        hold = self._take(partition)
        if hold is not None:
            self._put(partition, None)
            hold.wake()
            self._turns.serve()

    def leave(self, partition: Partition) -> None:
        """End the hold of a partition that has left, and all its sessions: GOODBYE 3.

        Calls that wait are dropped.  Works without a hold as well.
        """
        self._take(partition)
        self._sessions.end_partition(
            partition.number, GoodbyeReason.MIGRATED, "the partition is on another system now"
        )

    def before(self, partition: Partition, calls: Calls, on_refusal: OnRefusal, counts: Counts) -> Calls:
        """Return the calls of a partition, wrapped in its hold if it has one."""
        hold = self._holds.get(partition.profile.uuid)
        return HeldCalls(hold, partition, on_refusal, counts) if hold else calls

    def _put(self, partition: Partition, hold: Hold | None) -> None:
        for link in self._sessions.of(partition.number):
            link.hold = hold.wait if hold else None
        self._renew_calls(partition)

    def _take(self, partition: Partition) -> Hold | None:
        hold = self._holds.pop(partition.profile.uuid, None)
        if hold is not None:
            hold.over.cancel()
        return hold

    async def _refuse(self, hold: Hold) -> None:
        """Refuse modifying calls after HOLD_SECONDS."""
        with hold.over:
            await trio.sleep(HOLD_SECONDS)
        if not hold.over.cancel_called:
            hold.refuses = True
            hold.wake()
            self._turns.serve()


class HeldCalls:
    """The h-calls of a partition that is held: none of them runs."""

    costly = True

    def __init__(self, hold: Hold, partition: Partition, on_refusal: OnRefusal, counts: Counts) -> None:
        self._hold = hold
        self._served = partition.level.calls & MODIFYING
        self._on_refusal = on_refusal
        self._counts = counts

    def begin(self) -> None:
        """Do nothing.  The usual calls read the partition's state here, but held calls do not need it."""

    def answer(self, tag: int, data: bytes, start: int, end: int, hold: bool = False) -> Parts | None:
        """Return None, so that the call waits; or H_R_STATE for a modifying call after a long hold."""
        if not self._hold.refuses:
            return None
        call = decode_hcall(tag, data, start, end)
        if call.opcode not in self._served:
            return None
        refusal = Refusal(rules.STATE_MODIFIABLE, "the partition is about to move to another system")
        self._on_refusal(refusal, call.opcode)
        self._counts[call.opcode, int(refusal.status)] += 1
        return answer_parts(tag, int(refusal.status), (), ())

    def execute(self, call: HCall) -> Never:
        """Raise RuntimeError, because none of a partition's calls may run while it is held."""
        raise RuntimeError(f"h-call {call.opcode:#x} of a partition that is held")
