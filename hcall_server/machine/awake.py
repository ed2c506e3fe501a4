"""A clock that stands still while the server does not run."""

# Pauses of the server
#
# SIGSTOP, the freezer of a container, a debugger or an overloaded machine can pause a server.  Its peers can
# do nothing about that, so no deadline may count the pause.  There are many deadlines: of connections, of
# requests of the console, of the last frames, of a commit that hangs.  All of them read one clock, the clock
# of the loop.  So only this module handles pauses.
#
# The loop asks the clock how long it may sleep, and reads it after the sleep.  If the sleep was much longer,
# the server was paused.  If much time has passed between two readings without a sleep, it was paused too.
# Only `COUNTED` seconds of such a gap count.
#
# A gap has to count a little.  A guest's calls can keep the loop busy for longer than `COUNTED`, again and
# again.  If such gaps did not count, the guest would stop the clock, and the deadlines of all other peers.

from __future__ import annotations

from collections.abc import Callable

import trio

COUNTED = 0.25
"""Seconds of a pause that count.  A shorter delay is no pause: a loaded machine delays a task by less."""


class AwakeClock(trio.abc.Clock):
    """A clock of a Trio loop, in seconds; `now` is the same time for callers outside the loop.

    `raw` returns seconds that go on during a pause, such as `time.monotonic`.
    """

    def __init__(self, raw: Callable[[], float]) -> None:
        self.pauses = 0
        """How many pauses there were so far."""
        self._raw = raw
        self._last = raw()
        self._expected = COUNTED
        self._skipped = 0.0

    def __repr__(self) -> str:
        return f"AwakeClock({self.pauses} pauses, {self._skipped:.1f} s skipped)"

    def now(self) -> float:
        """Return the seconds that the server has been awake, counted from some moment."""
        raw = self._raw()
        gap = raw - self._last
        if gap > self._expected:
            self.pauses += 1
            self._skipped += gap - COUNTED
        self._last = raw
        self._expected = COUNTED
        return raw - self._skipped

    def start_clock(self) -> None:
        """Do nothing: the clock runs from the moment that it is made."""

    def current_time(self) -> float:
        """Return `now`."""
        return self.now()

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Return the seconds to sleep until a deadline.  A sleep of that length does not count as a pause."""
        left = deadline - self.now()
        if left > 0:
            self._expected = left + COUNTED
        return left


def pauses() -> int:
    """Return how many pauses the clock of this loop has noticed; a virtual clock notices none."""
    clock = trio.lowlevel.current_clock()
    return clock.pauses if isinstance(clock, AwakeClock) else 0
