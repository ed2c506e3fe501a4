"""One task that ends connections past their deadline, so that no call has to set a timer.

It looks around a few times within the shortest deadline, compares each connection's progress with
what it saw last, and ends those that stood still for too long.  So a deadline is met to within one
look, a second at most.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from hcall_abi.frames import GoodbyeReason

if TYPE_CHECKING:
    from hcall_server.machine.limits import Limits
    from hcall_server.machine.machine import Machine
    from hcall_server.machine.sessions import Link, Sessions

LONGEST_PAUSE = 1.0
"""Seconds between two looks at most."""


def pause(limits: Limits) -> float:
    """Return the seconds between two looks: a tenth of the shortest deadline, a second at most."""
    deadlines = (limits.open_seconds, limits.send_seconds, limits.idle_seconds or limits.open_seconds)
    return min(LONGEST_PAUSE, min(deadlines) / 10)


async def reap(machine: Machine) -> None:
    """End connections past their deadline, for ever."""
    seconds = pause(machine.limits)
    while True:
        await trio.sleep(seconds)
        sweep(machine.sessions, machine.limits, machine.clock())


def sweep(sessions: Sessions, limits: Limits, now: float) -> None:
    """Look at every connection once."""
    for link in sessions:
        if link.mark != link.progress:
            link.mark, link.since = link.progress, now
        end_if_late(link, link in sessions.unopened, limits, now)


def end_if_late(link: Link, unopened: bool, limits: Limits, now: float) -> None:
    """End a connection whose deadline is over."""
    still = now - link.since
    if unopened and now - link.accepted_at >= limits.open_seconds:
        link.end(GoodbyeReason.IDLE_TOO_LONG, f"no session within {limits.open_seconds:g} s")
    elif link.sending and still >= limits.send_seconds:
        link.end(GoodbyeReason.TOO_SLOW_TO_READ, f"answers not read within {limits.send_seconds:g} s")
    elif not link.sending and limits.idle_seconds and still >= limits.idle_seconds:
        link.end(GoodbyeReason.IDLE_TOO_LONG, f"nothing received for {limits.idle_seconds:g} s")
