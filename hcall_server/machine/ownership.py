"""The end of the ownership of NVRAM, as the machine sees it."""

# After the ownership, a server must not acknowledge, and must not answer reads (`owned_calls`).  Its guests
# should then find the new owner soon, and an operator should see the reason.  So:
#
#     at once             each h-call answers H_BUSY, health is red, no flush succeeds
#     BUSY_SECONDS later  all sessions end with GOODBYE 4, and all partitions are off, with no sockets
#
# The process goes on: its control channel shows the reason until an operator stops it.  It never becomes the
# owner again, and never writes to another place.
#
# The wait is for drivers.  Linux repeats a busy call for some seconds.  If no other server answers meanwhile,
# the guest loses nothing by the wait.  And an operator sees busy answers before broken connections.
#
# Dropped: going on if the lease is found alive later.  If no other server was the owner meanwhile,
# the machine could serve again.  But each part of it would have to stop and to go on.  A longer lease does
# the same for a cluster with long pauses (`--nvram-lease`).

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from hcall_abi.errors import SwpksError
from hcall_abi.frames import GoodbyeReason
from hcall_server.machine.logs import Log, explained

if TYPE_CHECKING:
    from hcall_server.machine.machine import Machine
    from hcall_server.nvram.seam import Ownership

BUSY_SECONDS = 10.0
"""Seconds of busy answers before the partitions leave service."""
LOOK = 0.1
"""Seconds between two looks at the ownership.  Calls do not wait for them."""

_log = Log()


async def leave_after(machine: Machine, ownership: Ownership) -> None:
    """Wait for the end of the ownership; then take all partitions out of service, in time."""
    while not ownership.over:  # noqa: ASYNC110 -- its time ends in no thread that could set an event
        await trio.sleep(LOOK)
    _log.error("nvram.owner_lost", advice=f"stop this server; its partitions leave in {BUSY_SECONDS:g} s")
    machine.notify_watchers()
    await trio.sleep(BUSY_SECONDS)
    machine.sessions.end_all(GoodbyeReason.SERVER_STOPPING, "another server may own this system now")
    for partition in [each for each in machine.system.places.values() if each.running]:
        try:
            machine.power_off(partition.name)
        except SwpksError as error:
            _log.error("partition.not_stopped", partition=partition.name, **explained(error))
