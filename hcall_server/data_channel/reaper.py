"""One task that ends connections past their deadline, so that no call has to set a timer.

The same task also logs how many log lines were left out.
"""

# Deadlines without timers
#
# A timer for each call would have to be set and cleared for every call.  So calls only count progress
# (`Link.progress`).  One task sweeps all connections ten times within the shortest deadline.  A sweep
# compares the progress of each connection with that of the last sweep.  If a connection made no progress for
# too long, the sweep ends it.  So an end is late by at most one interval, which is a second or less.
#
# A pause of the server is no fault of its peers.  The clock counts almost nothing of the pause
# (`hcall_server.machine.awake`).  But bytes that a peer sent meanwhile may still be unread.  So the first
# sweep after a pause starts all deadlines again.  A connection gets this once, and again only after progress.
# Otherwise a guest that blocks the loop again and again would prevent the end of every idle connection.
#
# If calls of a session are held, the session does not count as idle, because its peer waits for an answer.

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from hcall_abi.frames import GoodbyeReason
from hcall_server.machine.awake import pauses

if TYPE_CHECKING:
    from hcall_server.machine.limits import Limits
    from hcall_server.machine.machine import Machine
    from hcall_server.machine.sessions import Link, Sessions

LONGEST_PAUSE = 1.0
"""Most seconds between two sweeps."""


def pause(limits: Limits) -> float:
    """Return the seconds between two sweeps.

    This is a tenth of the shortest deadline, but at most a second.
    """
    deadlines = (limits.open_seconds, limits.send_seconds, limits.idle_seconds or limits.open_seconds)
    return min(LONGEST_PAUSE, min(deadlines) / 10)


async def reap(machine: Machine) -> None:
    """End connections past their deadline, until cancelled."""
    seconds, known = pause(machine.limits), pauses()
    try:
        while True:
            await trio.sleep(seconds)
            now, paused, known = machine.clock(), pauses() > known, pauses()
            if paused:
                start_again(machine.sessions, now)
            sweep(machine.sessions, machine.limits, now)
            machine.noise.sum_up()
    finally:
        machine.noise.sum_up(at_once=True)


def start_again(sessions: Sessions, now: float) -> None:
    """Start the deadline of every connection again, after a pause of the server."""
    for link in sessions:
        if not link.forgiven:
            link.forgiven = True
            link.accepted_at = link.since = now


def sweep(sessions: Sessions, limits: Limits, now: float) -> None:
    """Check the deadline of every connection once."""
    for link in sessions:
        unopened = link in sessions.unopened
        if link.mark != link.progress or (link.hold is not None and not link.sending):
            link.mark, link.since = link.progress, now
            # Before OPEN, the deadline starts again once only, whatever the progress is.  Otherwise a client
            # that sends single bytes could stay for ever.
            link.forgiven = link.forgiven and unopened
        end_if_late(link, unopened, limits, now)
        # A slow client does harm only if others wait for a place of the same listener.
        if link.entrance is not None and link.entrance.crowded:
            make_room(sessions, link, limits, now)


def end_if_late(link: Link, unopened: bool, limits: Limits, now: float) -> None:
    """End a connection if its deadline is over."""
    still = now - link.since
    if unopened and now - link.accepted_at >= limits.open_seconds:
        link.end(GoodbyeReason.IDLE_TOO_LONG, f"no session within {limits.open_seconds:g} s")
    elif link.sending and still >= limits.send_seconds:
        link.end(GoodbyeReason.TOO_SLOW_TO_READ, f"answers not read within {limits.send_seconds:g} s")
    elif not link.sending and limits.idle_seconds and still >= limits.idle_seconds:
        link.end(GoodbyeReason.IDLE_TOO_LONG, f"nothing received for {limits.idle_seconds:g} s")


def make_room(sessions: Sessions, link: Link, limits: Limits, now: float) -> None:
    """End a connection at a crowded entrance, if it has had its place for long enough."""
    if now - link.accepted_at >= limits.grace_seconds:
        sessions.displace(link)
