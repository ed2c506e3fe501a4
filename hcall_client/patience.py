"""Timeouts that do not count pauses of this process, and the wait for a place at a busy server.

A client can be stopped and continued: by job control, a debugger, or the freezer of a container.  Its
server may have answered meanwhile.  So a timeout counts almost nothing of a pause.

A server under a burst of clients makes some of them wait.  Three answers say that nothing has run and that
the next attempt may succeed (spec/protocol.md#waiting).  A client repeats its attempt after these, and only
after these, within its own timeout.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable

from hcall_abi.frames import GoodbyeReason, OpenStatus
from hcall_client.errors import OpenRefused, SessionEnded
from hcall_client.unix import is_full

TOO_LATE = "the server did not answer in time"

LOOK = 1.0
"""Seconds between two looks at the clock, at most."""

COUNTED = 0.25
"""Seconds of a pause that count; a delay up to this is no pause."""

LEAST = 0.001
"""Seconds of a wait that is tried although no time is left."""

FIRST_PAUSE = 0.005
LAST_PAUSE = 0.25
"""Seconds between two attempts: doubling from the first to the last, each shortened by up to a half."""


class Patience:
    """A timeout in seconds (None: for ever); `clock` returns seconds, such as `time.monotonic`."""

    def __init__(self, seconds: float | None, clock: Callable[[], float]) -> None:
        self._left = seconds
        self._clock = clock
        self._last = clock()
        self._expected = COUNTED

    def __repr__(self) -> str:
        return f"Patience({self._left} s left)"

    def left(self) -> float | None:
        """Return the seconds that are left, at least 0; None is for ever."""
        if self._left is None:
            return None
        now = self._clock()
        gap = now - self._last
        self._last = now
        self._left -= gap if gap <= self._expected else COUNTED
        self._expected = COUNTED
        return max(0.0, self._left)

    def look(self, longest: float = LOOK) -> float | None:
        """Return how many seconds to wait before the next look; None is for ever.

        Waiting for as long is no pause.  Raises TimeoutError when no time is left.
        """
        left = self.left()
        if left is None:
            return None
        if left <= 0:
            raise TimeoutError(TOO_LATE)
        wait = min(left, longest)
        self._expected = wait + COUNTED
        return wait

    def rest(self) -> float | None:
        """Return all seconds that are left, for one wait that cannot be divided; as `look`."""
        return self.look(math.inf)

    def share(self, parts: int) -> float | None:
        """Return the seconds for the first of `parts` waits, one after the other; None is for ever.

        Each wait gets an equal part of what is left, and at least `LEAST`: so each of them is tried.
        """
        left = self.left()
        if left is None:
            return None
        wait = max(left / parts, LEAST)
        self._expected = wait + COUNTED
        return wait


def milliseconds(seconds: float | None) -> int | None:
    """Return seconds in whole milliseconds, rounded up, for `poll`; None waits for ever."""
    return None if seconds is None else int(seconds * 1000) + 1


class Attempts:
    """The attempts to open one session: it decides whether another one follows, and when.

    A refusal is an answer.  Without a timeout nothing bounds the wait for a better one, so it is raised at
    once.  A full queue is no answer: it is waited for, as the kernel does for a blocking socket.
    """

    def __init__(self, patience: Patience) -> None:
        self.patience = patience
        self._pause = FIRST_PAUSE
        self._refused: Exception | None = None

    def pause_after(self, error: Exception) -> float:
        """Return the seconds to wait before the next attempt; raises if there is to be none.

        That is `error` itself, or TimeoutError where the queue was full to the end.  If the time is over in
        the middle of an attempt, the refusal before it says more than a timeout.
        """
        left, full = self.patience.left(), is_full(error)
        if isinstance(error, TimeoutError) and self._refused:
            raise self._refused from None
        if not full and (left is None or not may_pass(error)):
            raise error
        self._refused = None if full else error
        pause = self._pause * (1 - os.urandom(1)[0] / 512)
        self._pause = min(2 * self._pause, LAST_PAUSE)
        if left is not None and left <= pause:
            raise TimeoutError("the queue of the server was full all the time") if full else error
        return pause


def may_pass(error: Exception) -> bool:
    """Whether a server refused to open a session for lack of a place, which others may give back.

    `error` came while the session was being opened: later, GOODBYE 5 ends a session whose calls have run.
    """
    if isinstance(error, OpenRefused):
        return error.status == OpenStatus.TOO_MANY_SESSIONS
    return isinstance(error, SessionEnded) and error.reason == GoodbyeReason.IDLE_TOO_LONG
