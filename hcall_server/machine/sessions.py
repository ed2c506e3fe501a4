"""Which connections there are: those without a session yet, and the sessions of each partition.

The bounds of a flood are held here (spec/protocol.md#sessions): one connection too many without a
session ends the oldest of them, and a partition takes only so many sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import trio

from hcall_abi.frames import Goodbye, GoodbyeReason

if TYPE_CHECKING:
    from hcall_server.hcalls.answers import Calls
    from hcall_server.hcalls.refusals import OnRefusal
    from hcall_server.machine.limits import Limits
    from hcall_server.platform.partition import Partition


class Link:
    """One connection as the rest of the machine sees it; the connection's own task does the talking.

    `progress` changes with every batch received and every send begun or ended; `sending` says
    that a send is under way.  `mark` and `since` belong to the reaper: the progress it last saw,
    and when (seconds of the machine's clock).  With a session there are `partition`, the `calls`
    that answer its h-calls, and `on_refusal`, which is told of each refusal.  `cancel` wakes the
    connection's task, wherever it waits.
    """

    calls: Calls
    """Set once the session is open: no call comes before that."""

    def __init__(self, accepted_at: float, cancel: Callable[[], None]) -> None:
        self.accepted_at = self.since = accepted_at
        self.progress = 0
        self.sending = False
        self.mark = 0
        self.ending: Goodbye | None = None
        self.partition: Partition | None = None
        self.on_refusal: OnRefusal = _ignore
        self._cancel = cancel

    def __repr__(self) -> str:
        return f"Link({self.partition}, {self.progress} steps)"

    def end(self, reason: GoodbyeReason, text: str) -> None:
        """Have the connection say GOODBYE and close, soon; the first reason counts.  Does not wait.

        No call of the peer runs after this.  It counts before a protocol error whose GOODBYE still
        waits for answers to leave: those are cut off.
        """
        if self.ending is None:
            self.ending = Goodbye(int(reason), text)
            self._cancel()


class Sessions:
    """All connections of a server, in the order of their arrival."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.unopened: dict[Link, None] = {}
        self.opened: dict[int, dict[Link, None]] = {}
        self._empty = trio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self.unopened) + self.session_count

    def __iter__(self) -> Iterator[Link]:
        yield from list(self.unopened)
        for sessions in list(self.opened.values()):
            yield from list(sessions)

    @property
    def session_count(self) -> int:
        """How many sessions are open, of all partitions."""
        return sum(map(len, self.opened.values()))

    def of(self, partition: int) -> list[Link]:
        """Return the sessions of a partition."""
        return list(self.opened.get(partition, ()))

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

    def admit(self, link: Link) -> None:
        """Take in a new connection; ends the oldest one without a session if there are too many."""
        if len(self.unopened) >= self.limits.max_unopened:
            oldest = next(iter(self.unopened))
            # It leaves the table now and not when its task has ended, so that a flood can't outrun the bound.
            del self.unopened[oldest]
            oldest.end(GoodbyeReason.IDLE_TOO_LONG, "too many connections wait for OPEN")
        self.unopened[link] = None
        if self._empty.is_set():
            self._empty = trio.Event()

    def open(self, link: Link, partition: Partition) -> None:
        """Note that a connection has opened a session with a partition."""
        link.partition = partition
        self.unopened.pop(link, None)
        self.opened.setdefault(partition.number, {})[link] = None

    def remove(self, link: Link) -> None:
        """Forget a connection that is over."""
        self.unopened.pop(link, None)
        if link.partition is not None:
            number = link.partition.number
            sessions = self.opened.get(number, {})
            sessions.pop(link, None)
            if not sessions:
                self.opened.pop(number, None)
        if not len(self):
            self._empty.set()

    def end_partition(self, partition: int, reason: GoodbyeReason, text: str) -> None:
        """End every session of a partition and forget it at once."""
        for link in self.opened.pop(partition, {}):
            link.end(reason, text)

    def end_all(self, reason: GoodbyeReason, text: str) -> None:
        """End every connection."""
        for link in self:
            link.end(reason, text)

    async def wait_empty(self) -> None:
        """Return when the last connection is over."""
        while len(self):
            await self._empty.wait()


def _ignore(*_: object) -> None:
    """The default of `on_refusal`: do nothing."""
