"""All connections: those without a session yet, and the sessions of each partition."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING

import trio

from hcall_abi.frames import Goodbye, GoodbyeReason
from hcall_server.machine.tracing import Backlog

if TYPE_CHECKING:
    from hcall_server.hcalls.answers import Calls
    from hcall_server.hcalls.refusals import OnRefusal
    from hcall_server.machine.limits import Limits
    from hcall_server.machine.tracing import WireTap
    from hcall_server.platform.partition import Partition

# Places (spec/protocol.md#sessions)
#
# The number of connections is bounded.  If all are in use, two guarantees must still hold:
#
#   1. No partition can take the last place of another one.
#   2. An honest client is never ended because others came after it.  It waits.
#
# A connection takes two kinds of places, one after the other.  Until its OPEN is accepted it has a place of
# its listener, its `Entrance`.  From then on it has a place of its partition.
#
# Each listener has `max_unopened` entrance places of its own.  A private socket belongs to one partition,
# so the connections of a partition cannot take the entrance of another one.  When all places of a listener
# are taken, the server stops accepting there.  Further connections wait in the queue of the kernel, in the
# order of their arrival, and their clients see a slow server.  We dropped the other way: the server accepts
# them and ends the oldest one.  That was often an honest client which was about to send its OPEN.
#
# A stranger may hold all places of a TCP listener and send nothing.  So if a connection waits, those that
# have held a place for a fifth of `open_seconds` are ended (GOODBYE 5).  No connection is ended for a newer
# one before that.  If none waits, each connection has the whole of `open_seconds`.
#
# Sessions: a partition has `max_sessions` at most, and all partitions together have `max_connections`.  Each
# of the N partitions that run has `min_sessions` places that are kept for it.  A session is opened if its
# partition has fewer than `min_sessions`, or if
#
#     sessions of all  +  kept places that are free yet  <  max_connections
#
# Example: the defaults, 1024 and 16, and five partitions.  Four of them can have 1024 - 16 = 1008 sessions
# together, and the fifth always gets 16.  A partition may be activated when the others have taken all
# places.  It gets its kept places too.  No session is ended for them, so for some time there are more
# sessions than `max_connections`, but never more than max_connections + N x min_sessions.  We dropped equal
# shares (1024 / N each): with two hundred partitions, most of them idle, a busy one would have five
# sessions.
#
# A session without a place is refused at once with OPENED status 5.  So the client learns the reason, and
# its library tries again within the client's own timeout.
#
# Links: how the machine and a connection meet
#
# A connection has a task in `hcall_server.data_channel`.  The machine ends sessions, moves partitions and
# changes fault plans, and must not know that task.  Both sides meet in a `Link`, and this must hold:
#
#   1. The machine never waits for a connection.  `end` notes the GOODBYE and cancels the task's wait; the
#      task sends the frame later.  So a peer that does not read delays no IPL and no power-off.
#   2. After `end` no call of the peer runs: each turn checks `ending` before it takes a call.
#   3. A session counts for its partition until its end or the end of its IPL, never longer.  `end_partition`
#      forgets all sessions at once: another partition may get the number before the tasks have ended.
#   4. The first reason counts: a power-off does not change the GOODBYE of a session that has ended for
#      another reason.
#
# A link has the `calls` of its session.  So one assignment puts a fault plan or a hold in front of the calls
# of an open session.  If there is neither, a call costs nothing more.
#
# A trace taps the bytes of a connection in the same way, by `taps`.  A connection without taps pays one test
# for each piece that it receives or sends, and none for a call.

Wait = Callable[[Callable[[], None]], Callable[[], None]]
"""Calls its argument once, when a held call may run.  Returns a function that cancels the wait."""


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
    """One connection as the rest of the machine sees it; its own task receives and sends.

    `progress` changes with every batch received and every send begun or ended.  `sending` is true during a
    send.  `cancel` wakes the connection's task.  Times are seconds of the machine's clock.

    The reaper uses four fields.  `accepted_at` is the time of the accept.  `since` and `mark` are the time
    and the value of the last progress.  `forgiven` is true if the server paused, and the deadlines of this
    connection began again after the pause.

    A session has three more fields.  `partition` is its partition.  `calls` answer its h-calls.
    `on_refusal` is called for each refusal.

    `entrance` counts the connections without a session.  After this connection has left the entrance, the
    field is None.  `hold` is set while a migration holds the calls of the partition back.  It is a function
    that waits until this state changes.

    `number` is that of the connection in the log.  `taps` see its bytes, from the place in its stream that
    `backlog` returns.
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
        self.hold: Wait | None = None
        self.on_refusal: OnRefusal = _ignore
        self.number = 0
        self.taps: tuple[WireTap, ...] = ()
        self.backlog: Callable[[], Backlog] = Backlog
        self._cancel = cancel

    def __repr__(self) -> str:
        return f"Link({self.partition}, {self.progress} steps)"

    def end(self, reason: GoodbyeReason, text: str) -> None:
        """Make the connection send GOODBYE and close, soon.  Does not wait.  Only the first reason counts.

        No call of the peer runs after this.  The GOODBYE of a protocol error may still wait behind unsent
        answers.  Then the task drops that GOODBYE and the answers, and sends this GOODBYE.
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
        self.tap: Callable[[Link], None] | None = None
        """Gives a new connection its taps; None while no trace runs."""
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
        """Add a new connection, which takes a place of its entrance."""
        if link.entrance is not None:
            link.entrance.take()
        self.unopened[link] = None
        if self._empty.is_set():
            self._empty = trio.Event()
        if self.tap is not None:
            self.tap(link)

    def open(self, link: Link, partition: Partition) -> None:
        """Turn a connection into a session of a partition; its place at the entrance is free again."""
        link.partition = partition
        for tap in link.taps:
            tap.opened(partition)
        self._leave_entrance(link)
        self.opened.setdefault(partition.number, {})[link] = None

    def displace(self, link: Link) -> None:
        """End a connection that has held its place at a crowded entrance for long enough.

        The place is free at once, before the task ends.  The task may take long, if the peer does not read
        its GOODBYE.  The connections that wait must not wait for that.
        """
        self._leave_entrance(link)
        link.end(GoodbyeReason.IDLE_TOO_LONG, "too many connections wait for OPEN")

    def remove(self, link: Link) -> None:
        """Remove a connection that has ended."""
        for tap in link.taps:
            tap.ended()
        # Without these two references the memory of the connection is free at once.
        link.taps, link.backlog = (), Backlog
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
        """Return when the last connection has ended."""
        while len(self):
            await self._empty.wait()

    def _leave_entrance(self, link: Link) -> None:
        self.unopened.pop(link, None)
        link.leave_entrance()


def _ignore(*_: object) -> None:
    """The default of `on_refusal`: do nothing."""
