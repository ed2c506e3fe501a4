"""One stream of events from its beginning to its end, over HTTP or in memory (spec/control.md#events).

The task that reads the console's stream also looks for changed stores, once in each copy interval.  So no
task runs for a console that is away.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from hcall_abi.bounds import HEARTBEAT_SECONDS

if TYPE_CHECKING:
    from hcall_abi.control_views import EventView
    from hcall_server.machine.events import Watcher
    from hcall_server.machine.machine import Machine


class EventReader:
    """The events of one open stream, in the order of their numbers."""

    def __init__(self, machine: Machine, watcher: Watcher) -> None:
        self._machine = machine
        self._watcher = watcher
        self._look = self._beat = trio.current_time()

    async def next(self) -> list[EventView] | None:
        """Return the next events, an empty list for a heartbeat, None at the end of the stream.

        A heartbeat comes after HEARTBEAT_SECONDS without an event.  If a check of the stores becomes due
        while the caller sends events, the next call makes this check first.
        """
        watcher = self._watcher
        self._beat = trio.current_time() + HEARTBEAT_SECONDS
        while True:
            if watcher.is_console and not watcher.ended and trio.current_time() >= self._look:
                self._machine.attachment.look()
                # The interval begins with this check, not when it was due.  So a long send is followed by
                # one check, not by several.
                self._look = trio.current_time() + self._machine.copy_interval
            if events := watcher.take():
                return events
            if watcher.ended:
                return None
            if trio.current_time() >= self._beat:
                return []
            with trio.move_on_at(min(self._look, self._beat) if watcher.is_console else self._beat):
                await watcher.wait()


def demand_stream(machine: Machine, console: str | None) -> None:
    """OperatorError if this stream can't be opened: the console is not attached, or too many are open."""
    if console is None:
        machine.events.demand_room()
    else:
        machine.attachment.demand(console)


@contextmanager
def opened_stream(machine: Machine, console: str | None) -> Iterator[EventReader]:
    """Open the stream of the attached console for the block, or (None) that of a spectator."""
    demand_stream(machine, console)
    if console is None:
        with machine.events.opened(is_console=False) as watcher:
            yield EventReader(machine, watcher)
    else:
        with machine.attachment.stream(console) as watcher:
            yield EventReader(machine, watcher)
