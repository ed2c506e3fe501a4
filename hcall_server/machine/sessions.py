"""Which connections there are: those without a session yet, and the sessions of each partition.

The bounds of a flood are held here (spec/protocol.md#sessions): one connection too many without a
session ends the oldest of them, and a partition takes only so many sessions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import trio

from hcall_abi.frames import GoodbyeReason
from hcall_server.machine.limits import Limits


class Connected(Protocol):
    """A connection, as far as this table and the reaper know it.

    `progress` changes with every batch received and every send begun or ended; `sending` says
    that a send is under way.  `mark` and `since` belong to the reaper: the progress it last saw,
    and when (Trio's clock, seconds).
    """

    accepted_at: float
    progress: int
    sending: bool
    mark: int
    since: float

    def end(self, reason: GoodbyeReason, text: str) -> None:
        """Say GOODBYE and close, soon; does not wait."""

    def refit(self) -> None:
        """Take the partition's fault plan, or the lack of one, from the next call on."""


class Sessions:
    """All connections of a server, in the order of their arrival."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.unopened: dict[Connected, None] = {}
        self.opened: dict[int, dict[Connected, None]] = {}
        self._empty = trio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self.unopened) + self.session_count

    def __iter__(self) -> Iterator[Connected]:
        yield from list(self.unopened)
        for sessions in list(self.opened.values()):
            yield from list(sessions)

    @property
    def session_count(self) -> int:
        """How many sessions are open, of all partitions."""
        return sum(map(len, self.opened.values()))

    def count(self, partition: int) -> int:
        """How many sessions a partition has."""
        return len(self.opened.get(partition, ()))

    @property
    def full(self) -> bool:
        """Whether no further connection may come in."""
        return len(self) >= self.limits.max_connections

    def has_room(self, partition: int) -> bool:
        """Whether a partition may have one more session."""
        return self.count(partition) < self.limits.max_sessions

    def admit(self, connection: Connected) -> None:
        """Take in a new connection; ends the oldest one without a session if there are too many."""
        if len(self.unopened) >= self.limits.max_unopened:
            oldest = next(iter(self.unopened))
            # It leaves the table now and not when its task has ended, so that a flood can't outrun the bound.
            del self.unopened[oldest]
            oldest.end(GoodbyeReason.IDLE_TOO_LONG, "too many connections wait for OPEN")
        self.unopened[connection] = None
        if self._empty.is_set():
            self._empty = trio.Event()

    def move(self, connection: Connected, partition: int) -> None:
        """Note that a connection has opened a session."""
        self.unopened.pop(connection, None)
        self.opened.setdefault(partition, {})[connection] = None

    def remove(self, connection: Connected, partition: int | None) -> None:
        """Forget a connection that is over."""
        self.unopened.pop(connection, None)
        if partition is not None:
            sessions = self.opened.get(partition, {})
            sessions.pop(connection, None)
            if not sessions:
                self.opened.pop(partition, None)
        if not len(self):
            self._empty.set()

    def refit(self, partition: int) -> None:
        """Have every session of a partition look for its fault plan anew."""
        for connection in self.opened.get(partition, ()):
            connection.refit()

    def end_partition(self, partition: int, reason: GoodbyeReason, text: str) -> int:
        """End every session of a partition and forget it at once; returns how many there were."""
        sessions = list(self.opened.pop(partition, ()))
        for connection in sessions:
            connection.end(reason, text)
        return len(sessions)

    def end_all(self, reason: GoodbyeReason, text: str) -> None:
        """End every connection."""
        for connection in self:
            connection.end(reason, text)

    async def wait_empty(self) -> None:
        """Return when the last connection is over."""
        while len(self):
            await self._empty.wait()
