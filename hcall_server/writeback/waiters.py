"""CONFIRMs that wait for a landing.

The function of each waiter is called exactly once: at a landing, or when its patience ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial

GoOn = Callable[[], None]
Drop = Callable[[], None]


class _Waiter:
    """One waiter: its function, and the time at which its patience ends."""

    __slots__ = ("_go_on", "until")

    def __init__(self, go_on: GoOn, until: float) -> None:
        self._go_on: GoOn | None = go_on
        self.until = until

    def call(self) -> None:
        """Call the function, unless the waiter was dropped while others were called."""
        if self._go_on is not None:
            self._go_on()

    def drop(self) -> None:
        # The waiter may be in the list that is being called now.  So it is not enough to remove it from
        # `Waiters`.
        self._go_on = None


class Waiters:
    """All present waiters.

    `on_bug` gets the exception of a waiter's function; the other functions are still called.
    """

    def __init__(self, on_bug: Callable[[Exception], None]) -> None:
        self.company = 1
        """The number of waiters that the last landing has served, at least 1."""
        self.deadline = math.inf
        """No patience ends before this time.  It may be too early: a dropped waiter does not change it."""
        self._waiting: dict[_Waiter, None] = {}
        self._on_bug = on_bug

    @property
    def complete(self) -> bool:
        """Whether as many waiters wait as the last landing served.  A flight need not wait for more."""
        return len(self._waiting) >= self.company

    def add(self, go_on: GoOn, until: float) -> Drop:
        """Let `go_on` wait; return the function that drops it."""
        waiter = _Waiter(go_on, until)
        self._waiting[waiter] = None
        self.deadline = min(self.deadline, until)
        return partial(self._drop, waiter)

    def serve(self) -> None:
        """Call all present waiters, because a flight has landed; new ones wait for the next landing."""
        # The list is emptied before the first call.  A waiter that waits again in its call is not called
        # twice.
        waiting, self._waiting = self._waiting, {}
        self.company, self.deadline = max(1, len(waiting)), math.inf
        self._call(waiting)

    def expire(self, now: float) -> None:
        """Call the waiters whose patience has ended."""
        if now < self.deadline:
            return
        due = [waiter for waiter in self._waiting if waiter.until <= now]
        for waiter in due:
            del self._waiting[waiter]
        self.deadline = min((waiter.until for waiter in self._waiting), default=math.inf)
        self._call(due)

    def _drop(self, waiter: _Waiter) -> None:
        waiter.drop()
        self._waiting.pop(waiter, None)

    def _call(self, waiters: Iterable[_Waiter]) -> None:
        for waiter in waiters:
            # A bug in one waiter must not keep the others from being called.
            try:
                waiter.call()
            except Exception as error:
                self._on_bug(error)
