"""The flights of changes to NVRAM, without an event loop.

The essay in `hcall_server.writeback.encryptor` explains them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING

import outcome

from hcall_abi.errors import SwpksError
from hcall_server.writeback.book import Batch, Book, Seal, awaited
from hcall_server.writeback.failures import flush_error, waiter_error
from hcall_server.writeback.health import Tally
from hcall_server.writeback.schedule import FlightState
from hcall_server.writeback.waiters import Drop, GoOn, Waiters

if TYPE_CHECKING:
    from hcall_server.platform.partition import Partition
    from hcall_server.sealing import Sealer
    from hcall_server.writeback.commits import Commit, Commits
    from hcall_server.writeback.health import Health
    from hcall_server.writeback.schedule import Clock, Schedule
    from hcall_server.writeback.worker import Job, Worker

PREPARED = 64
"""Most keys that are made while the disk works: 64 of them hold the loop for about a millisecond."""
FRESH = 1.0
"""Seconds after which a prepared key is dropped instead of used.

A copy of the running machine has its prepared keys too.  If both used one, they would seal two records with
the same key and nonce.  An idle machine has no key young enough for use.
"""

OnTrouble = Callable[[SwpksError | None], None]
OnLanding = Callable[[BaseException | None], None]
"""Takes the exception of a flight that is not durable, None for one that is."""


class Flights:
    """Starts flights and takes their landings.

    Times are those of `clock`.  `on_trouble` must not raise.  The owner calls `do_what_is_due` at
    `next_deadline`; any other call may change that time.
    """

    def __init__(
        self,
        commits: Commits,
        sealer: Sealer,
        worker: Worker,
        schedule: Schedule,
        clock: Clock,
        on_trouble: OnTrouble,
        on_landing: OnLanding,
    ) -> None:
        self.book = Book()
        self._schedule = schedule
        self._commits = commits
        self._sealer = sealer
        self._worker = worker
        self._clock = clock
        self._on_trouble = on_trouble
        self._on_landing = on_landing
        self._tally = Tally()
        self._waiters = Waiters(lambda error: on_trouble(waiter_error(error)))
        self._prepared_at = 0.0
        self._commit: Commit

    # Calls of the encryptor

    def changed(self, partition: Partition) -> bool:
        """Mark a partition dirty; start the flight earlier if a CONFIRM has asked for its changes.

        Returns whether `next_deadline` may have changed.
        """
        # This runs after every batch of h-calls.  If the partition is dirty already, it must cost little:
        # then it does not read the clock.
        if self.book.is_dirty(partition) and (self._schedule.hurried or not awaited(partition.keystore)):
            return False
        now = self._clock()
        if self.book.add(partition, now) and awaited(partition.keystore):
            self._schedule.hurry(now)
        return True

    def record_changed(self, name: str, seal: Seal) -> None:
        """Mark a record of the system dirty."""
        self.book.add_own(name, seal, self._clock())

    def wait_landing(self, go_on: GoOn, until: float) -> Drop:
        """Call `go_on` at the next landing or at `until`; start a flight if the company is complete."""
        drop = self._waiters.add(go_on, until)
        self._start_if_complete()
        return drop

    def do_what_is_due(self) -> None:
        """Call waiters whose patience has ended; start the flight if it is due."""
        now = self._clock()
        self._waiters.expire(now)
        if self._start_at() <= now:
            self.start()

    def next_deadline(self) -> float:
        """Return the time of the next `do_what_is_due`.

        -inf means at once.  inf means that nothing is due before another call.
        """
        return min(self._start_at(), self._waiters.deadline)

    def _start_at(self) -> float:
        if self.book.clean:
            return math.inf
        return self._schedule.start_at(self.book.since, self._waiters.company)

    # A flight

    def start(self) -> None:
        """Start a flight with all that is dirty: take it, seal it, hand it to the worker."""
        now = self._clock()
        # If a flight is under way, the table raises KeyError here, before the book is changed.
        self._schedule.start(now)
        if now - self._prepared_at > FRESH:
            self._sealer.prepare(())
        # There is no await between this line and the worker.  So each record is sealed as it was when the
        # snapshot was taken.
        batch = self.book.take()
        self._worker.start(self._job(batch), self._land)
        # The keys are made after the worker has the commit.  The disk works meanwhile, so they delay no
        # commit.
        self._prepare(batch, now)

    def _start_if_complete(self) -> None:
        idle = self._schedule.state is FlightState.IDLE
        if idle and self._waiters.complete and not self.book.clean:
            self.start()

    def _job(self, batch: Batch) -> Job:
        """Return the commit of a batch.  If sealing fails, the job raises that error like a commit."""
        # A failure to seal is the outcome of the flight, like a failure of the disk.  If `start` raised it,
        # the caller would end, and the flight would never land.
        sealed = outcome.capture(lambda: self._commits.prepared(batch.sealed(self._sealer)))
        if isinstance(sealed, outcome.Error):
            return sealed.unwrap
        self._commit = sealed.value
        return self._commit.run

    def _prepare(self, batch: Batch, now: float) -> None:
        """Make keys for the partitions whose guests are likely to ask again.  The disk works meanwhile.

        One key takes less time than the worker's thread needs to wake up.  If more keys were made, the
        thread would run between them, while entropy is read.
        """
        self._prepared_at = now
        asked = (each.profile.uuid for each in batch.snapshots.values() if awaited(each.keystore))
        with suppress(Exception):  # the next sealing tries again; if it fails, the flush reports it
            self._sealer.prepare(islice(asked, PREPARED))

    def _land(self, result: outcome.Outcome[None]) -> None:
        """Take the outcome of the flight.  The worker calls this on the loop; it raises no Exception."""
        self._schedule.land()
        now = self._clock()
        error = self._settled(result)
        pause = None
        if error is None:
            self._note_success()
        else:
            pause = self._note_failure(error, now)
        # Waiters are called after the outcome is stored, because their CONFIRMs run again and read it.  The
        # state is still LANDED.  So a waiter that waits again starts no flight before all have been called.
        self._waiters.serve()
        self._schedule.finish(now, pause)
        self._start_if_complete()
        self._on_landing(error)

    def _settled(self, result: outcome.Outcome[None]) -> BaseException | None:
        """Mark the flight flushed; return the exception of a failure, or of a bug in this function."""
        try:
            result.unwrap()
            self._commits.done(self._commit)
            self.book.flushed()
        except BaseException as error:
            return error
        return None

    def _note_success(self) -> None:
        if self._tally.succeeded():
            self._on_trouble(None)

    def _note_failure(self, error: BaseException, now: float) -> float | None:
        """Make everything of the flight dirty again; return the pause before the next one.

        An exception that ends the process, such as KeyboardInterrupt, is no failure of NVRAM: no pause.
        """
        # The start of the flight has cleared the hurry.  If its guests still wait for these changes, it is
        # set again.
        if self.book.put_back():
            self._schedule.hurry(now)
        if not isinstance(error, Exception):
            return None
        failure = flush_error(error)
        self._tally.failed(failure)
        self._on_trouble(failure)
        return self._tally.pause

    # State for the encryptor

    @property
    def flying(self) -> bool:
        """Whether a flight is under way."""
        return self._schedule.state is FlightState.FLYING

    @property
    def pending(self) -> bool:
        """Whether there are changes that are not durable."""
        return self.flying or not self.book.clean

    @property
    def health(self) -> Health:
        """The present health."""
        return self._tally.health(self.book, self._schedule.flying_since, self._clock())
