"""Which connections there are: those without a session yet, and the sessions of each partition."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING

import trio

from hcall_abi.frames import Goodbye, GoodbyeReason

if TYPE_CHECKING:
    from hcall_server.hcalls.answers import Calls
    from hcall_server.hcalls.refusals import OnRefusal
    from hcall_server.machine.limits import Limits
    from hcall_server.platform.partition import Partition

# Places (spec/protocol.md#sessions)
#
# Connections are bounded, so they can run out.  Two things must hold all the same:
#
#   1. No partition can take the last place of another one.
#   2. An honest client is never ended because others came after it.  It waits.
#
# A connection takes two kinds of places, one after the other.  Until its OPEN is accepted it has a place of
# its listener, its `Entrance`.  From then on it has a place of its partition.
#
# Each listener has `max_unopened` entrance places of its own.  A private socket belongs to one partition,
# so the connections of a partition cannot take the entrance of another one.  When all places of a listener
# are taken, the server accepts nothing there: further connections wait in the queue of the kernel, first
# come first served, and their clients see a slow server.  An earlier version accepted them and ended the
# oldest instead.  That was the honest client which was about to send its OPEN.
#
# A stranger may hold all places of a TCP listener and send nothing.  So if a connection waits, those that
# have held a place for a fifth of `open_seconds` are ended (GOODBYE 5).  Nobody is ended for a
# newcomer before that, and without a newcomer everybody has the whole of `open_seconds`.
#
# Sessions: a partition has `max_sessions` at most, and all together have `max_connections`.  Of these the
# first `min_sessions` of each partition that runs are kept for it.  With N partitions that run, a session
# is opened if its partition has fewer than `min_sessions`, or if
#
#     sessions of all  +  kept places that are free yet  <  max_connections
#
# With the defaults, 1024 and 16, and five partitions: four of them can have 1024 - 16 = 1008 sessions
# together, and the fifth always gets 16.  A partition may be activated when the others have taken
# everything.  Its kept places exist all the same: nobody is ended for them, and until the others
# have shrunk there are more sessions than `max_connections`.  So the number of sessions never
# exceeds max_connections + N x min_sessions.  We dropped equal shares (1024 / N each): with two hundred
# partitions, most of them idle, a busy one would have five sessions.
#
# A session without a place is refused with OPENED status 5, at once: the client learns the reason, and its
# library tries again within the client's own timeout.


class Entrance:
    """The places of one listener for connections that have no session yet."""

    def __init__(self, places: int) -> None:
        self.places = places
        self._taken = 0
        self._waiting = 0
        self._freed = trio.Event()

    def __repr__(self) -> str:
        return f"Entrance({self._taken} of {self.places} places taken, {self._waiting} wait)"

    @property
    def crowded(self) -> bool:
        """Whether all places are taken and a further connection waits."""
        return self._waiting > 0

    async def wait_place(self) -> None:
        """Return when a place is free; the caller takes it before anything else runs."""
        while self._taken >= self.places:
            self._waiting += 1
            try:
                await self._freed.wait()
            finally:
                self._waiting -= 1

    def take(self) -> None:
        """Take a place."""
        self._taken += 1

    def leave(self) -> None:
        """Give a place back."""
        self._taken -= 1
        self._freed.set()
        self._freed = trio.Event()


class Link:
    """One connection as the rest of the machine sees it; the connection's own task does the talking.

    `progress` changes with every batch received and every send begun or ended; `sending` says
    that a send is under way.  `accepted_at`, `since`, `mark` and `forgiven` belong to the reaper: when the
    connection came and when it last made progress (seconds of the machine's clock), the progress
    that was seen then, and whether a pause of the server has been made good.  With a session there are
    `partition`, the `calls` that answer its h-calls, and `on_refusal`, which is told of each refusal.
    `entrance` is where the connection waits for its session, None once it has left.  `cancel` wakes the
    connection's task, wherever it waits.
    """

    calls: Calls
    """Set once the session is open: no call comes before that."""

    def __init__(
        self, accepted_at: float, cancel: Callable[[], None], entrance: Entrance | None = None
    ) -> None:
        self.accepted_at = self.since = accepted_at
        self.entrance = entrance
        self.progress = 0
        self.sending = False
        self.mark = 0
        self.forgiven = False
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

    def leave_entrance(self) -> None:
        """Give the entrance place back, if the connection still has one."""
        entrance, self.entrance = self.entrance, None
        if entrance is not None:
            entrance.leave()


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

    def has_room(self, partition: int, running: Collection[int]) -> bool:
        """Whether a partition may have one more session; `running` are the numbers of those that run."""
        kept, count = self.limits.kept_sessions, self.count(partition)
        if count >= self.limits.max_sessions:
            return False
        if count < kept:
            return True
        free = sum(max(0, kept - self.count(each)) for each in running)
        return self.session_count + free < self.limits.max_connections

    def admit(self, link: Link) -> None:
        """Take in a new connection, which takes a place of its entrance."""
        if link.entrance is not None:
            link.entrance.take()
        self.unopened[link] = None
        if self._empty.is_set():
            self._empty = trio.Event()

    def open(self, link: Link, partition: Partition) -> None:
        """Note that a connection has opened a session with a partition."""
        link.partition = partition
        self._leave_entrance(link)
        self.opened.setdefault(partition.number, {})[link] = None

    def displace(self, link: Link) -> None:
        """End a connection that has had its time at a crowded entrance.

        It gives its place back now and not when its task has ended: a GOODBYE that is not read would hold
        up those that wait.
        """
        self._leave_entrance(link)
        link.end(GoodbyeReason.IDLE_TOO_LONG, "too many connections wait for OPEN")

    def remove(self, link: Link) -> None:
        """Forget a connection that is over."""
        self._leave_entrance(link)
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

    def _leave_entrance(self, link: Link) -> None:
        self.unopened.pop(link, None)
        link.leave_entrance()


def _ignore(*_: object) -> None:
    """The default of `on_refusal`: do nothing."""
