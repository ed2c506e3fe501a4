"""Numbered events for the readers of the control channel (spec/control.md#events).

A slow reader costs the machine no time and little memory.  For each reader, at most one event of each kind
waits about each partition.  A newer event replaces one that was not sent yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from hcall_abi.bounds import MAX_STREAMS
from hcall_abi.control_views import EventKind, EventView
from hcall_abi.errors import OperatorError
from hcall_abi.rules import console as rules

if TYPE_CHECKING:
    from hcall_server.platform.partition import Partition


class Watcher:
    """One reader of events: the attached console if `is_console`, else a spectator."""

    def __init__(self, *, is_console: bool) -> None:
        self.is_console = is_console
        self.ended = False
        """Whether the stream ends when the waiting events are sent."""
        self._unsent: dict[tuple[EventKind, str], EventView] = {}
        self._news = trio.Event()

    def __repr__(self) -> str:
        return f"Watcher({'console' if self.is_console else 'spectator'}, {len(self._unsent)} events wait)"

    def put(self, event: EventView) -> None:
        """Add an event.  It replaces a waiting event of the same kind about the same partition."""
        # The old event is removed before the new one is added, so the new one is last.  The reader gets the
        # events in the order of their numbers.
        self._unsent.pop((event.kind, event.uuid), None)
        self._unsent[event.kind, event.uuid] = event
        self._news.set()

    def end(self) -> None:
        """End the stream after the waiting events."""
        self.ended = True
        self._news.set()

    def take(self) -> list[EventView]:
        """Return the waiting events in the order of their numbers, and remove them here."""
        events = list(self._unsent.values())
        self._unsent.clear()
        if not self.ended:
            self._news = trio.Event()
        return events

    async def wait(self) -> None:
        """Return when an event waits, or when the stream ends."""
        await self._news.wait()


class Events:
    """All streams of a machine; numbers begin at 1 with the process, and grow with each event."""

    def __init__(self) -> None:
        self._number = 0
        self._watchers: list[Watcher] = []
        self._stopped = False

    def __repr__(self) -> str:
        return f"Events({self._number}, {self._watchers})"

    @property
    def console(self) -> Watcher | None:
        """The stream of the attached console, if it is open."""
        return next((each for each in self._watchers if each.is_console), None)

    def demand_room(self) -> None:
        """OperatorError if there is no room for one more spectator.  Room for the console is always left."""
        spectators = sum(not each.is_console for each in self._watchers)
        if spectators >= MAX_STREAMS - 1:
            raise OperatorError(rules.EVENTS_STREAMS, f"{spectators} streams are open beside the console's")

    @contextmanager
    def opened(self, *, is_console: bool) -> Iterator[Watcher]:
        """Open a stream for the block; its first event is `hello`.

        A newer stream of the console ends the older one.
        """
        watcher = Watcher(is_console=is_console)
        if is_console:
            self.end_console()
        self._watchers.append(watcher)
        watcher.put(self._numbered("hello"))
        if self._stopped:
            self._end(watcher)
        try:
            yield watcher
        finally:
            if watcher in self._watchers:
                self._watchers.remove(watcher)

    def changed(self, partition: Partition | None = None) -> None:
        """Send `changed` to every reader, about a partition or (None) the system itself."""
        if self._watchers:
            event = self._numbered("changed", partition)
            for watcher in self._watchers:
                watcher.put(event)

    def ask(self, kind: EventKind, *, partition: str = "", uuid: str) -> None:
        """Ask the attached console a question, if its stream is open."""
        if console := self.console:
            self._number += 1
            console.put(EventView(number=self._number, kind=kind, partition=partition, uuid=uuid))

    def end_console(self) -> None:
        """End the stream of the console."""
        # Clear `console` now: the console no longer counts as connected.  Its stream may still send events.
        if console := self.console:
            self._watchers.remove(console)
            console.end()

    def stop(self) -> None:
        """Send `stopping` to every reader, and end its stream; streams that open later end as well."""
        self._stopped = True
        for watcher in self._watchers:
            self._end(watcher)

    def _end(self, watcher: Watcher) -> None:
        watcher.put(self._numbered("stopping"))
        watcher.end()

    def _numbered(self, kind: EventKind, partition: Partition | None = None) -> EventView:
        self._number += 1
        if partition is None:
            return EventView(number=self._number, kind=kind)
        uuid = str(partition.profile.uuid)
        return EventView(number=self._number, kind=kind, partition=partition.name, uuid=uuid)
