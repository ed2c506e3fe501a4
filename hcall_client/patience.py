"""Timeouts that do not count pauses of this process, and repeated attempts at a busy server.

A client can be stopped and continued: by job control, a debugger, or the freezer of a container.  Its
server may have answered meanwhile.  So a timeout counts almost nothing of a pause.

A server under a burst of clients makes some of them wait. Three answers say that nothing has run and that
the next attempt may succeed (spec/protocol.md#waiting). Only after these answers a client repeats its
attempt, within its own timeout.
"""

# Time of a client: which time counts, and when to try again
#
# A timeout shall end a wait for a server that is dead or slow. It shall not end one only because this
# process stood still. A plain deadline (`now + seconds`) does that: after a pause of a minute every
# deadline is over, also if the answer is in the socket. So `Patience` counts time in small steps. Each
# wait says beforehand how long it may take (`_expected`). A gap between two looks at the clock that is
# longer than that was a pause, and counts `COUNTED` seconds.
#
#   - A wait is cut into pieces of `LOOK` seconds, so a pause in a long wait is seen as well.
#   - A wait that cannot be cut, such as a name lookup or a connect, is announced as a whole (`rest`,
#     `share`). A pause within it counts in full up to its length.
#   - If the time is over, the look raises, also if the socket is ready. Else a server that sends a byte now
#     and then would never be too late.
#
# `Attempts` decides about the next attempt to open a session. The error alone decides, never the number of
# attempts:
#
#   - A full queue (EAGAIN) is no answer. The kernel would wait for it in a blocking connect, so it is
#     waited for even without a timeout.
#   - A refusal is an answer. It may pass (`may_pass`), but without a timeout nothing would bound the wait.
#     So it is raised at once then.
#   - All else is raised: another attempt within the timeout would end in the same way.
#
# Pauses grow: a burst of clients must not become a burst of attempts. Each pause is shortened by a random
# part. So clients that were refused together do not come back together.

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import NamedTuple

from hcall_abi.frames import GoodbyeReason, OpenStatus
from hcall_client.errors import ConnectionLost, OpenRefused, SessionEnded
from hcall_client.unix import is_full

TOO_LATE = "the server did not answer in time"

LOOK = 1.0
"""Seconds between two looks at the clock, at most."""

COUNTED = 0.25
"""Seconds that a pause counts.  A wait may take this much longer than announced without being a pause."""

LEAST = 0.001
"""Shortest wait in seconds of `share`, also if no time is left."""

NONE_LEFT = 1e-9
"""Up to this many seconds count as none.  A sum of floats may leave such a rest, and no clock can show it.

A test's clock stands still until a deadline.  It would repeat a wait for such a rest for ever.
"""

FIRST_PAUSE = 0.005
LAST_PAUSE = 0.25
"""Seconds between two attempts, the first and the longest pause; each is shortened by up to a half."""


class Pace(NamedTuple):
    """The first pause between two attempts, in seconds, and the factor from one pause to the next."""

    first: float
    growth: float


FOR_A_PLACE = Pace(FIRST_PAUSE, 2.0)
"""For a busy server: many clients wait at once, so each of them asks seldom."""
ON_THE_WAY = Pace(0.001, 1.25)
"""For a moving partition: a live move takes milliseconds and few clients wait, so pauses begin short."""

MOVE_PATIENCE = 30.0
"""Seconds that the way from one system to the other may take."""

FIRST_PATIENCE = 5.0
"""Seconds for which the first opening looks for a partition that may be moving.

They are few: if the partition is powered off or does not exist, the caller shall get an error soon.
"""

_ON_THE_WAY = (OpenStatus.NO_SUCH_PARTITION, OpenStatus.NOT_ACTIVATED)
"""Answers to OPEN during a move: the partition has left the source, or the target does not serve it yet."""


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
        # If the gap is longer than announced, the process was stopped. The server is not the cause of such a
        # gap.
        self._left -= gap if gap <= self._expected else COUNTED
        self._expected = COUNTED
        return max(0.0, self._left)

    def look(self, longest: float = LOOK) -> float | None:
        """Return how many seconds the caller may wait before it calls this again; None means for ever.

        A gap of that length does not count as a pause of this process.  TimeoutError when no time is left.
        """
        left = self.left()
        if left is None:
            return None
        if left <= NONE_LEFT:
            raise TimeoutError(TOO_LATE)
        wait = min(left, longest)
        self._expected = wait + COUNTED
        return wait

    def expect_wait(self) -> None:
        """Announce a wait of unknown length.

        All of the time of this wait counts.  No part of it is taken for a pause of this process.
        """
        self.left()
        self._expected = math.inf

    def rest(self) -> float | None:
        """Return the seconds that are left, for a wait in one piece; TimeoutError if no time is left."""
        return self.look(math.inf)

    def share(self, parts: int) -> float | None:
        """Return the seconds for the first of `parts` waits that follow each other; None is for ever.

        Each wait gets an equal part of the time that is left. The part is at least `LEAST`, so that each
        wait is tried.
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
    """The attempts to open one session.  It decides whether another attempt follows, and when.

    A refusal is an answer. Without a timeout nothing would bound the wait for a better answer, so the
    refusal is raised at once. A full queue is no answer: the attempt is repeated, also without a timeout.
    The kernel waits in the same way if a blocking socket connects. `may_pass` says after which refusals
    another attempt may succeed. By default these are refusals for lack of a place.
    """

    def __init__(
        self,
        patience: Patience,
        may_pass: Callable[[Exception], bool] | None = None,
        pace: Pace = FOR_A_PLACE,
    ) -> None:
        self.patience = patience
        self._may_pass = may_pass or lacks_place
        self._growth = pace.growth
        self._pause = pace.first
        self._refused: Exception | None = None
        self.place: object = None
        """The address of the present attempt, None while it is asked for."""

    def ask(self) -> None:
        """Begin an attempt: the caller asks for the place next, which may take long."""
        self.place = None
        self.patience.expect_wait()

    def go_to(self, place: object) -> None:
        """Note the place of the attempt."""
        self.place = place
        self.patience.left()

    def _left_after(self, error: Exception) -> float | None:
        """Return the seconds that are left for another attempt after an error; None is for ever."""
        return self.patience.left()

    def pause_after(self, error: Exception) -> float:
        """Return the seconds to wait before the next attempt, or raise if no attempt follows.

        It raises `error`, or TimeoutError if the queue was full all the time. If the time ended in the
        middle of an attempt, it raises the refusal of the attempt before. That refusal says more than a
        timeout.
        """
        left, full = self._left_after(error), is_full(error)
        # The time ended while the server was silent, but an earlier attempt was refused. That refusal names
        # the cause; "did not answer in time" would not.
        if isinstance(error, TimeoutError) and self._refused:
            raise self._refused from None
        if not full and (left is None or not self._may_pass(error)):
            raise error
        self._refused = None if full else error
        # A byte is 0 to 255, so the pause is shortened by up to a half.
        pause = self._pause * (1 - os.urandom(1)[0] / 512)
        self._pause = min(self._growth * self._pause, LAST_PAUSE)
        # A pause that uses up the rest of the time would leave none for the next attempt.
        if left is not None and left <= pause:
            raise TimeoutError("the queue of the server was full all the time") if full else error
        return pause


class FirstAttempts(Attempts):
    """The attempts to open the first session with a partition that may be moving to another system.

    They go on for `FIRST_PATIENCE` seconds, or for the timeout if that is shorter.  If the server only lacks
    a place, they go on for the whole timeout, as in `Attempts`.
    """

    def __init__(self, patience: Patience, clock: Callable[[], float]) -> None:
        super().__init__(patience, may_arrive, ON_THE_WAY)
        # This is a second timeout. The wait for a place may take the whole timeout, but the search for a
        # missing partition only 5 seconds.
        self._search = Patience(FIRST_PATIENCE, clock)

    def ask(self) -> None:
        """As `Attempts.ask`."""
        super().ask()
        self._search.expect_wait()

    def go_to(self, place: object) -> None:
        """As `Attempts.go_to`."""
        super().go_to(place)
        self._search.left()

    def _left_after(self, error: Exception) -> float | None:
        left, search = self.patience.left(), self._search.left()
        if search is None or lacks_place(error) or is_full(error):
            return left
        return search if left is None else min(left, search)


def lacks_place(error: Exception) -> bool:
    """Return whether a server refused a session for lack of a place; another client may free a place.

    `error` has to come from the opening of a session.  In an open session, GOODBYE 5 means that the session
    was idle, and its calls have run.
    """
    # These are the rows of spec/protocol.md#waiting.
    if isinstance(error, OpenRefused):
        return error.status == OpenStatus.TOO_MANY_SESSIONS
    return isinstance(error, SessionEnded) and error.reason == GoodbyeReason.IDLE_TOO_LONG


def may_arrive(error: Exception) -> bool:
    """Return whether another attempt may find a partition that moves to another system.

    No call has run in the failed attempt: it ended before OPENED, or the place was not known yet.
    """
    if isinstance(error, OpenRefused):
        return error.status in _ON_THE_WAY or lacks_place(error)
    # SessionEnded counts with any reason: before OPENED no reason can mean that a call has run.
    return isinstance(error, OSError | LookupError | ConnectionLost | SessionEnded)
