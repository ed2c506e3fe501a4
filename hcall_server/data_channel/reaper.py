"""One task that ends connections past their deadline, so that no call has to set a timer.

It looks around a few times within the shortest deadline, compares each connection's progress with
what it saw last, and ends those that stood still for too long.  So a deadline is met to within one
look, a second at most.
"""

from __future__ import annotations

import trio

from hcall_abi.frames import GoodbyeReason
from hcall_server.machine.limits import Limits
from hcall_server.machine.sessions import Connected, Sessions

LONGEST_PAUSE = 1.0
"""Seconds between two looks at most."""


def pause(limits: Limits) -> float:
    """Return the seconds between two looks: a tenth of the shortest deadline, a second at most."""
    deadlines = (limits.open_seconds, limits.send_seconds, limits.idle_seconds or limits.open_seconds)
    return min(LONGEST_PAUSE, min(deadlines) / 10)


async def reap(sessions: Sessions, limits: Limits) -> None:
    """End connections past their deadline, for ever."""
    seconds = pause(limits)
    while True:
        await trio.sleep(seconds)
        sweep(sessions, limits, trio.current_time())


def sweep(sessions: Sessions, limits: Limits, now: float) -> None:
    """Look at every connection once."""
    for connection in sessions:
        if connection.mark != connection.progress:
            connection.mark, connection.since = connection.progress, now
        judge(connection, connection in sessions.unopened, limits, now)


def judge(connection: Connected, unopened: bool, limits: Limits, now: float) -> None:
    """End a connection whose deadline is over."""
    still = now - connection.since
    if unopened and now - connection.accepted_at >= limits.open_seconds:
        connection.end(GoodbyeReason.IDLE_TOO_LONG, f"no session within {limits.open_seconds:g} s")
    elif connection.sending and still >= limits.send_seconds:
        connection.end(GoodbyeReason.TOO_SLOW_TO_READ, f"answers not read within {limits.send_seconds:g} s")
    elif not connection.sending and limits.idle_seconds and still >= limits.idle_seconds:
        connection.end(GoodbyeReason.IDLE_TOO_LONG, f"nothing received for {limits.idle_seconds:g} s")
