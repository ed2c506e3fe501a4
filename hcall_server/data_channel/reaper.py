"""One task that ends connections past their deadline, so that no call has to set a timer.

It looks around a few times within the shortest deadline, compares each connection's progress with
what it saw last, and ends those that stood still for too long.  So a deadline is met to within one
look, a second at most.

A pause of the server is no fault of its peers.  The clock counts next to nothing of it
(`hcall_server.machine.awake`).  Besides, deadlines start again at the first look after a pause: what a peer
sent meanwhile may still wait to be read.  A connection gets this once until it has made progress.  Else a
guest that holds up the loop again and again would keep every other connection open.

The same task sums up the lines that were left out of the log.
"""

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
"""Seconds between two looks at most."""


def pause(limits: Limits) -> float:
    """Return the seconds between two looks: a tenth of the shortest deadline, a second at most."""
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
    """Start the deadlines of every connection again, after a pause of the server."""
    for link in sessions:
        if not link.forgiven:
            link.forgiven = True
            link.accepted_at = link.since = now


def sweep(sessions: Sessions, limits: Limits, now: float) -> None:
    """Look at every connection once."""
    for link in sessions:
        unopened = link in sessions.unopened
        if link.mark != link.progress:
            link.mark, link.since = link.progress, now
            link.forgiven = link.forgiven and unopened  # who dribbles bytes is not forgiven twice
        end_if_late(link, unopened, limits, now)
        if link.entrance is not None and link.entrance.crowded:
            make_room(sessions, link, limits, now)


def end_if_late(link: Link, unopened: bool, limits: Limits, now: float) -> None:
    """End a connection whose deadline is over."""
    still = now - link.since
    if unopened and now - link.accepted_at >= limits.open_seconds:
        link.end(GoodbyeReason.IDLE_TOO_LONG, f"no session within {limits.open_seconds:g} s")
    elif link.sending and still >= limits.send_seconds:
        link.end(GoodbyeReason.TOO_SLOW_TO_READ, f"answers not read within {limits.send_seconds:g} s")
    elif not link.sending and limits.idle_seconds and still >= limits.idle_seconds:
        link.end(GoodbyeReason.IDLE_TOO_LONG, f"nothing received for {limits.idle_seconds:g} s")


def make_room(sessions: Sessions, link: Link, limits: Limits, now: float) -> None:
    """End a connection that has had its time at a crowded entrance, so that the next one gets its place."""
    if now - link.accepted_at >= limits.grace_seconds:
        sessions.displace(link)
