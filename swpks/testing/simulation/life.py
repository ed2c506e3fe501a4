"""A life: the time between a start of a system or a console and its crash.

A real crash ends everything at once.  Here, cancelled tasks may run on for some steps, and shielded tasks for
longer.  So NVRAM, store, links and wires check that the life is not over before they have an effect.
"""

# Why a flag, and not only cancellation. Trio cancels a task at its next checkpoint, and then runs its
# `finally` blocks. Until they have ended, a task of a crashed system could still commit, answer a guest or
# send a word. After a real power cut it could not. So the flag changes first, and the cancellation only
# removes the tasks.

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import outcome
import trio

from hcall_server.nvram.seam import NvramError
from hcall_server.nvram.wrapper import NvramWrapper

if TYPE_CHECKING:
    from random import Random

    from hcall_server.nvram.seam import Nvram
    from hcall_server.writeback.worker import Job, Landed

OnRecords = Callable[[Mapping[str, bytes | None]], None]
"""Called with the records of a commit; None for a record that the commit removes."""


class Life:
    """One life of a system or a console.

    `end` ends it, and calls each function of `at_end` once, in order.
    """

    def __init__(self) -> None:
        self.alive = True
        self.over = trio.Event()
        self.opened = False
        """Whether a machine was assembled in this life."""
        self.at_end: list[Callable[[], None]] = []
        self.steps = 0
        """The number of durable steps so far: commits of NVRAM, or transactions of a store."""
        self.crash_at: tuple[int, bool] | None = None
        """The number of the durable step at which the life ends, and whether that step takes effect."""

    def __repr__(self) -> str:
        return f"Life({'alive' if self.alive else 'over'}, {self.steps} steps)"

    def end(self) -> None:
        """End the life; do nothing if it is over."""
        if self.alive:
            self.alive = False
            self.over.set()
            for each in self.at_end:
                each()

    def crashes_before(self) -> bool:
        """Count a durable step; return whether the life is over, so that the step must have no effect."""
        self.steps += 1

        if self.crash_at and self.crash_at[0] <= self.steps and not self.crash_at[1]:
            self.end()
        return not self.alive

    def crash_after(self) -> None:
        """End the life if `crash_at` names the last counted step, or an earlier step."""
        if self.crash_at and self.crash_at[0] <= self.steps:
            self.end()


class PowerCut(Exception):
    """The machine that uses this NVRAM has crashed: nothing that the caller does has any effect."""


class LivingNvram(NvramWrapper):
    """The NVRAM as one life of a machine uses it.

    `offered` is called with the records of each commit before it begins, `committed` after it has returned.
    """

    def __init__(self, inner: Nvram, life: Life, offered: OnRecords, committed: OnRecords) -> None:
        super().__init__(inner)
        self._life = life
        self._offered = offered
        self._committed = committed

    def commit(self, changes: Mapping[str, bytes | None]) -> None:
        """Put or remove records; PowerCut if the life ends before or directly after the commit."""
        if self._life.crashes_before():
            raise PowerCut
        self._offered(changes)
        try:
            self.inner.commit(changes)
        except NvramError:
            # A commit without an answer may have taken effect, so a crash may come directly after it too.
            self._crash_after()
            raise
        # The watch is called even if the life ends now: the records are durable, and the next life starts
        # from them. The machine gets no result, as if power failed directly after an fsync.
        self._committed(changes)
        self._crash_after()

    def last_commit(self) -> bytes | None:
        """Return the commit record; PowerCut if the life is over."""
        if not self._life.alive:
            raise PowerCut
        return self.inner.last_commit()

    def close(self) -> None:
        """Do nothing."""

    def _crash_after(self) -> None:
        self._life.crash_after()
        if not self._life.alive:
            raise PowerCut from None


class SlowWorker:
    """Runs commits one after the other, each after a random time; a crash drops the commits that wait."""

    # A task replaces the product's worker thread: the kernel would decide when a thread ends.

    def __init__(self, life: Life, nursery: trio.Nursery, chance: Random) -> None:
        self._life = life
        self._nursery = nursery
        self._chance = chance
        self._free_at = 0.0
        self.sealed: Callable[[], None] = lambda: None
        """Called when the machine hands a job over, right after it has sealed the records of the job."""
        self.waited: Callable[[], float] = lambda: 0.0
        """Called after a job: the seconds that its result is late, because NVRAM has waited for answers."""

    def start(self, job: Job, landed: Landed) -> None:
        """Run `job` after a random time; call `landed` with its outcome if the life is not over then."""
        self.sealed()
        # A commit takes up to 4 ms, and one in ten up to 200 ms. During a long commit, other messages come
        # before its result.
        slow = self._chance.random() < 0.1
        begins = max(self._free_at, trio.current_time())
        self._free_at = begins + self._chance.uniform(0.0001, 0.2 if slow else 0.004)
        self._nursery.start_soon(self._run, job, landed, self._free_at)

    def close(self) -> None:
        """Do nothing: there is no thread to stop."""

    async def _run(self, job: Job, landed: Landed, at: float) -> None:
        await trio.sleep_until(at)
        if self._life.alive:
            result = outcome.capture(job)
            # The effect of a commit is at one moment, and its result comes later. So other messages come
            # between the two, and a crash loses the result.
            if waited := self.waited():
                await trio.sleep(waited)
                self._free_at = max(self._free_at, trio.current_time())
            if self._life.alive:  # the commit may have ended this life
                landed(result)
