"""Helpers of clients that use Trio: blocking calls in worker threads, and a bound on time."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar, cast

import trio

from hcall_client.patience import TOO_LATE, Patience

T = TypeVar("T")


class Threads:
    """Worker threads of one client, `count` at most at once.

    Trio's default limiter is not used: other clients, and other work of the program, would take its places.
    """

    def __init__(self, count: int) -> None:
        self.places = trio.CapacityLimiter(count)

    async def run(self, function: Callable[[], T], patience: Patience) -> T:
        """Run a function in a thread and return its result.

        TimeoutError if no thread becomes free in time. `function` has its own timeout. If the caller is
        cancelled, the thread goes on until `function` returns. Until then it counts as one of the `count`
        threads.
        """
        # A cast is needed, because CapacityLimiter is final. Trio calls only two methods of a limiter.
        limiter = cast(trio.CapacityLimiter, _Bounded(self.places, patience))
        return await trio.to_thread.run_sync(function, abandon_on_cancel=True, limiter=limiter)


async def in_time(function: Callable[[], Awaitable[T]], seconds: float) -> T:
    """Return the result of an asynchronous function; TimeoutError if it takes longer."""
    with trio.move_on_after(seconds):
        return await function()
    raise TimeoutError(TOO_LATE)


class _Bounded:
    """A limiter that raises TimeoutError if no place becomes free in time.

    Trio calls its two methods, `acquire_on_behalf_of` and `release_on_behalf_of`.  A deadline around the
    whole call would end the call too early after a pause of this process.
    """

    def __init__(self, places: trio.CapacityLimiter, patience: Patience) -> None:
        self._places = places
        self._patience = patience

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        """Take a place; TimeoutError when the time is over."""
        # The wait for a place is not cut into pieces: a task that leaves the queue for a look at the clock
        # would lose its position.
        rest = self._patience.rest()
        take = partial(self._places.acquire_on_behalf_of, borrower)
        await in_time(take, math.inf if rest is None else rest)

    def release_on_behalf_of(self, borrower: object) -> None:
        """Give the place back."""
        self._places.release_on_behalf_of(borrower)
