"""The write-behind encryptor: seals dirty partitions, commits them, and marks them flushed."""

# Write-behind: when a change counts as durable, and who waits for it
#
# A guest's WRITE changes memory only.  The encryptor makes it durable later.  CONFIRM_OBJECT_FLUSHED
# reports whether that has happened; with `--confirm-wait` it waits for that.  This must hold:
#
#   1. Nothing counts as flushed before the commit that contains it has returned.
#   2. After a crash, NVRAM holds a state that each partition really had.  It is not older than the last
#      confirmed one.  So there is one flight at a time, and a failed one is never repeated: the next
#      attempt seals anew.  Otherwise a slow disk could complete an old commit late, and undo a newer one.
#   3. No change is forgotten, whatever NVRAM, the host or a bug does.
#   4. Each waiter is called exactly once, by a landing or by its patience; or it is dropped, and never
#      called.
#
# Generations: how a store knows which of its changes are durable.  Each keystore counts its changes
# (`Contents.generation`), and an object has the count of its last change.  A snapshot has the count at which
# it was taken.  When its commit has returned, the keystore stores that number as `flushed`.  A change is
# pending while its number is larger than `flushed`.  So guarantee 1 is one comparison of two integers.  A
# change that comes during a flight has a larger number than the snapshot.  So it stays pending.
#
#   - A removed object cannot have a number.  So a table has the removals that are not flushed.
#   - A failed commit flushes nothing.  Its partitions become dirty again, and the next flight takes new
#     snapshots.  The commit may still have taken effect, so no later commit gets its number.
#   - A store that replaces another one goes on counting: no generation names two images of a partition.  A
#     snapshot refers to the keystore that it was taken of.  So a landing after a replacement marks the old
#     keystore, and flushes nothing of the new one.
#   - A restored store has the largest known generation plus 1, and its image counts as flushed.  That is
#     right because its partition is powered off until the restored record is committed: no guest can ask.
#   - An empty store in the place of an old one is not durable yet.  A crash could still bring the old objects
#     back.  So even the absence of a label is pending.
#
# A flight is one commit with all that is dirty when it starts.  Its states (`schedule.TABLE`):
#
#     IDLE     No flight is under way.  A waiter starts one if the company (see below) is complete; else a
#              deadline does.
#     FLYING   The worker has the commit.  All waiters wait for its landing.  If a change came too late for
#              it, its waiter asks again, and waits for the next one.
#     LANDED   The outcome is stored, and the waiters are called.  A waiter may wait again in its call.  Then
#              it waits for the next flight, which starts when all have been called.
#     RESTING  The last flight failed.  Waiters start no flight; they wait for the retry.  `flush` starts one.
#
# The callers: the data channel calls `changed` after a batch, and `wait_landing` for a CONFIRM that
# would answer "not yet".  The start of a flight is synchronous: take, seal, hand to the worker.  So it
# happens in the CONFIRM's own turn of the loop.  The worker calls the landing back on the loop.  At its end,
# `after_waiters` lets the data channel run the held CONFIRMs again.  `Flights` does all this without a loop.
# Its times come from the clock seam.  `Encryptor` adds the functions that wait: `flush`, `durable`, and one
# task, `run`.  The task sleeps until the first of these deadlines:
#
#     a change that no CONFIRM asks for      `delay` after it came: others may share its commit
#     a CONFIRM that was answered "not yet"  at once: its guest polls
#     waiting CONFIRMs                       when the company is complete, GATHERING at most
#     a failed flight                        its retry, later and later
#     a waiter                               its patience
#
# If `run` is not running, a machine has none of these deadlines.  Then a change waits for `flush` or for a
# complete company, and a waiter waits for a landing without any bound.  `Machine.run` runs the task, so
# servers and `emulated_partition` have it.
#
# Group commit by company: clients that one landing has served write again at about the same time.  So a
# flight waits for as many waiters as the last one served, but at most GATHERING.  Then 64 clients share one
# commit, and a client that is alone waits for no other one.
#
# Alternatives that we dropped:
#
#   - A lock around an asynchronous flush.  From CONFIRM to commit it cost three passes of the loop.  A
#     caller that was cancelled took the outcome of its commit with it.  Now no caller owns a flight, and
#     every landing counts.
#   - An event that wakes the task.  Each start replaced the event, and a waiter with the old one slept on.
#     Now the task's cancel scope has the deadline, and nothing is replaced.
#   - The commit on the loop.  A client that is alone would be served about 90 us earlier, but a disk that
#     stalls would stop every partition.

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from hcall_server.nvram.names import CUSTODY, SYSTEM, records_of
from hcall_server.sealing import SystemRecord, seal_system
from hcall_server.writeback.flights import Flights
from hcall_server.writeback.schedule import Schedule

if TYPE_CHECKING:
    from hcall_abi.errors import SwpksError
    from hcall_server.platform.partition import Partition
    from hcall_server.platform.system import ManagedSystem
    from hcall_server.sealing import Sealer
    from hcall_server.writeback.book import Seal
    from hcall_server.writeback.commits import Commits
    from hcall_server.writeback.flights import OnTrouble
    from hcall_server.writeback.health import Health
    from hcall_server.writeback.schedule import Clock
    from hcall_server.writeback.waiters import Drop, GoOn
    from hcall_server.writeback.worker import Worker

DEFAULT_DELAY = 0.05
"""Seconds that a change waits for others to share its commit, if no CONFIRM asks for it."""
TICK = 1e-9
"""Least seconds that the task sleeps: rounding may wake it a little before a deadline of the clock seam."""


class _Landing:
    """The next landing; tasks wait for it."""

    def __init__(self) -> None:
        self.come = trio.Event()
        self.flushed = False


class Encryptor:
    """Makes changes durable after the calls that made them.

    `delay` is in seconds.  `on_trouble` is called with each failure, and with None when NVRAM works again.
    If a function that was given to `wait_landing` raises, `on_trouble` gets an error with a rule.  All times
    are those of `clock`.  All functions are called on one event loop.
    """

    def __init__(
        self,
        commits: Commits,
        sealer: Sealer,
        worker: Worker,
        *,
        clock: Clock,
        delay: float = DEFAULT_DELAY,
        on_trouble: OnTrouble = lambda error: None,
    ) -> None:
        self.on_trouble = on_trouble
        self.after_waiters: Callable[[], None] = lambda: None
        """Called after each step on the event loop that may have called waiters; must not raise."""
        self._clock = clock
        self._schedule = Schedule(delay)
        self._flights = Flights(
            commits,
            sealer,
            worker,
            self._schedule,
            clock,
            on_trouble=self._report,
            on_landing=self._landed,
        )
        self._landing: _Landing | None = None
        self._end: BaseException | None = None
        # `run` sleeps in this scope.  It is None while no task runs `run`.  `_alarm_at` is the deadline of
        # the scope as a time of the clock seam: -inf for at once, inf for none.
        self._alarm: trio.CancelScope | None = None
        self._alarm_at = math.inf

    def changed(self, partition: Partition) -> None:
        """Mark a partition dirty.  Cheap: call it after every batch."""
        if self._flights.changed(partition):
            self._set_alarm()

    def system_changed(self, system: ManagedSystem) -> None:
        """Mark the system's own record dirty; the next flight writes the system's state at that time."""
        self.record_changed(SYSTEM, lambda sealer: seal_system(sealer, SystemRecord.of(system)))

    def departed_changed(self, system: ManagedSystem) -> None:
        """Mark the custody record dirty; the next flight removes it if no partition has left."""
        from hcall_server.sealing import custody_record

        def sealed(sealer: Sealer) -> bytes | None:
            return custody_record.seal_custody(sealer, system.departed.values()) if system.departed else None

        self.record_changed(CUSTODY, sealed)

    def removed(self, partition: Partition) -> None:
        """Mark the records of a deleted partition for removal by the next flight.

        The caller has set `gone`: from then on no change of the partition is written any more.
        """
        self._flights.book.drop(partition)
        for name in records_of(partition.profile.uuid):
            self.record_changed(name, lambda _: None)

    def record_changed(self, name: str, seal: Seal) -> None:
        """Mark a record of the system dirty; the next flight seals it."""
        self._flights.record_changed(name, seal)
        self._set_alarm()

    def wait_landing(self, go_on: GoOn, until: float) -> Drop:
        """Call `go_on` once, on the loop: at the next landing or at `until`, whichever is first.

        `until` is a time of the clock.  The caller must have called `changed` before, in the same turn of
        the loop.  If the encryptor is idle and has as many waiters as the last landing served, this call
        starts a flight.  It never calls `go_on` itself.

        The returned function drops the waiter.  Once `go_on` was called, it has no effect.
        """
        drop = self._flights.wait_landing(go_on, until)
        # If `until` is later than the alarm, it is not the next deadline.  Then the alarm stays as it is.
        if until < self._alarm_at or self._alarm_at == -math.inf:
            self._set_alarm()
        return drop

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Start flights, and call waiters whose patience ends, until cancelled.

        A flight that is under way at a cancellation still lands while the loop runs.
        """
        task_status.started()
        try:
            while True:
                self._flights.do_what_is_due()
                self.after_waiters()
                # Each pass needs a new scope: a scope that its deadline has cancelled stays cancelled.
                # There is no await between the work above and the alarm, so no change is missed.
                with trio.CancelScope() as self._alarm:
                    self._alarm_at = math.inf
                    self._set_alarm()
                    await trio.sleep_forever()
                self._raise_end()
        finally:
            self._alarm = None

    async def flush(self) -> bool:
        """Make everything durable that is dirty now.  Return False if that failed; nothing is lost then."""
        await trio.lowlevel.checkpoint_if_cancelled()
        # A flight that is under way may lack changes that are dirty now.  Only a later one counts.
        before = self._schedule.started
        while self._flights.pending:
            if not self._flights.flying:
                self._flights.start()
                self._set_alarm()
            flight = self._schedule.started
            flushed = await self._wait_landing()
            self._raise_end()
            if flight > before:
                return flushed
        # Every path of the function is a checkpoint, as in Trio's own functions.  This checkpoint is
        # shielded: a flush that has happened must not be reported as cancelled.
        await trio.lowlevel.cancel_shielded_checkpoint()
        return True

    async def stored(self) -> None:
        """Return when everything is durable that is dirty now.

        If no flight is under way, this call starts one at once.  If that fails, `run` starts the next one
        after a pause.
        """
        before = self._schedule.started
        while self._flights.pending:
            # `run` starts all further flights.  Otherwise each caller would send further commits to an
            # NVRAM that refuses them.
            if not self._flights.flying and self._schedule.started == before:
                self._flights.start()
                self._set_alarm()
            flight = self._schedule.started
            if await self._wait_landing() and flight > before:
                return

    async def durable(self, partition: Partition) -> None:
        """Return when all changes of a partition are durable; `run` flushes and retries meanwhile."""
        while self._flights.book.holds(partition):
            await self._wait_landing()

    @property
    def pending(self) -> bool:
        """Whether there are changes that are not durable."""
        return self._flights.pending

    @property
    def health(self) -> Health:
        """The present health."""
        return self._flights.health

    async def _wait_landing(self) -> bool:
        """Wait for the next landing; return whether its flight is durable."""
        landing = self._landing = self._landing or _Landing()
        await landing.come.wait()
        return landing.flushed

    def _landed(self, error: BaseException | None) -> None:
        # The worker calls this by `run_sync_soon`, outside of any task.  Trio turns an exception there into
        # a TrioInternalError.  So the next task that wakes raises it instead (`_raise_end`).
        if error is not None and not isinstance(error, Exception):
            self._end = error
        landing, self._landing = self._landing, None
        if landing is not None:
            landing.flushed = error is None
            landing.come.set()
        self._set_alarm()
        self.after_waiters()

    def _raise_end(self) -> None:
        """Raise an exception that ends the process, such as KeyboardInterrupt.

        Only the first caller raises it.
        """
        end, self._end = self._end, None
        if end is not None:
            raise end

    def _report(self, error: SwpksError | None) -> None:
        with suppress(Exception):  # a log that fails must not end the server; health has the same error
            self.on_trouble(error)

    def _set_alarm(self) -> None:
        """Let `run` wake at the next deadline, or earlier.

        An alarm is moved to an earlier deadline.  It is not moved to a later one: `run` wakes early, finds
        nothing due, and sets the alarm again.

        An alarm for "at once" is moved to any deadline.  Otherwise `run` would wake now for nothing, and
        delay the worker's thread.
        """
        deadline = self._flights.next_deadline() if self._end is None else -math.inf
        if self._alarm is not None and (deadline < self._alarm_at or self._alarm_at == -math.inf):
            self._alarm_at = deadline
            self._alarm.deadline = self._loop_time(deadline)

    def _loop_time(self, deadline: float) -> float:
        """Convert a time of the clock seam to a time of Trio's loop; both run at the same pace."""
        if math.isinf(deadline):
            return deadline
        rest = deadline - self._clock()
        return trio.current_time() + max(rest, TICK) if rest > 0 else -math.inf
