"""Turns: the h-calls of all connections run in short turns, partition by partition."""

# Turns
#
# One event loop runs everything, and an h-call runs to its end.  So a guest that sends calls without pause
# could hold the loop, and delay every other partition and the console.  It has two ways: many calls in one
# receive (64 KiB are 600 calls), and many connections.  Two things must hold:
#
#   1. A partition waits for at most one turn of each other partition with calls.  The number of their calls
#      and connections does not count.
#   2. Another task of the loop, such as the console, waits for at most two passes, because Trio runs the
#      tasks of one step in any order.  If a flush lands meanwhile, the task waits for a third pass.  A pass
#      takes PASS and one turn.
#
# A connection with calls asks for a turn.  It does not run by itself.  One task runs the turns:
#
#     ring      the partitions that ask, in order; the first one has its turn, then goes to the end
#     queue     for each partition, its connections that ask, in order
#     turn      up to CALLS h-calls of one partition, from one or more of its connections.  After SECONDS it
#               begins no further call.  If another partition had a turn in the last SHARED_FOR seconds,
#               this limit is SHARED
#     pass      turns until PASS is over or no connection asks; then every other task of the loop runs once
#
# A call that has begun is never cut.  So the bound of a turn is its time and the longest call.  Turns go
# round partitions and not connections: else a partition would get more of the loop by more connections.  A
# long turn costs less, because its answers to one connection leave in one send.  So turns are long while one
# partition calls alone.
#
# Connections without a session have no partition yet.  They share one turn, that of partition 0.  It is
# always SHARED, and shortens no other one.
#
# Connections ask in two ways.  The task of a connection waits for its turn
# (`hcall_server.data_channel.connection`).  While a socket is in the lane, its own task sleeps, and the task
# here serves it (`hcall_server.data_channel.lane`).  The lane is a source: it finds the sockets with bytes.
# The task here polls it at the start of a pass and between two turns.
#
# The end of a flush lets many sockets ask at once, in a callback of the loop.  The encryptor then calls
# `serve`, which begins their turns in that callback.  To wake the task would cost a pass of the loop: a tenth
# of the time of a confirmed write.

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from typing import Protocol

import trio

CALLS = 16
"""H-calls of a turn at most."""
SECONDS = 0.001
"""Seconds after which a turn begins no further call, while one partition calls alone."""
SHARED = 0.0001
"""Seconds after which a turn begins no further call, while several partitions call."""
SHARED_FOR = 1.0
"""Seconds for which turns are SHARED after the last change from one partition to another."""
PASS = 0.001
"""Seconds of turns after which all other tasks of the loop run."""
NO_PARTITION = 0
"""The number that stands for connections without a session."""


class Quantum:
    """The rest of a turn: the number of `calls`, and the time `until` which a call may begin."""

    __slots__ = ("calls", "until")

    def __init__(self, calls: int, until: float) -> None:
        self.calls = calls
        self.until = until

    def __repr__(self) -> str:
        return f"Quantum({self.calls} calls left)"


Serve = Callable[[Quantum], bool]
"""Runs h-calls of a connection within a turn; returns whether it asks for another one.  Must not raise."""


class Source(Protocol):
    """Finds connections with work that do not ask for turns by themselves."""

    async def wait(self) -> None:
        """Return when there may be work, or when `wake` was called."""

    def wake(self) -> None:
        """End the present `wait`; if there is none, the next one returns at once."""

    def poll(self) -> int:
        """Have the connections with work ask for their turns; return their number."""


class _NoSource:
    """The source of a machine whose connections all ask by themselves."""

    def __init__(self) -> None:
        self._woken = trio.Event()

    async def wait(self) -> None:
        """Wait until woken."""
        await self._woken.wait()
        self._woken = trio.Event()

    def wake(self) -> None:
        """End the wait."""
        self._woken.set()

    def poll(self) -> int:
        """Return 0."""
        return 0


class Turns:
    """The turns of one machine; `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._source: Source = _NoSource()
        self._ring: deque[int] = deque()
        self._queues: defaultdict[int, deque[Serve]] = defaultdict(deque)
        self._now_served: int | None = None
        self._last_served: int | None = None
        self._shared_until = 0.0
        self._sleeping = False

    def __repr__(self) -> str:
        return f"Turns({len(self._ring)} partitions ask)"

    def feed(self, source: Source | None) -> None:
        """Poll this source from now on; None for no source."""
        self._wake()
        self._source = source or _NoSource()

    def ask(self, partition: int, serve: Serve, *, wake: bool = True) -> None:
        """Queue `serve` for a turn of a partition.  Each time that it returns True, it is queued again.

        If `wake` is false, the caller must call `Turns.serve` in this pass of the loop.
        """
        queue = self._queues[partition]
        if not queue and partition != self._now_served:
            self._ring.append(partition)
        queue.append(serve)
        if wake and self._sleeping:
            self._wake()

    def serve(self) -> None:
        """Run a pass of turns now, if the task of `run` sleeps.  Never call this within a turn."""
        if self._sleeping and self._ring:
            # With `_sleeping` false, `ask` does not wake the source during this pass.  The pass serves each
            # connection that asks, and its poll would consume the wake.
            self._sleeping = False
            self._pass()
            self._sleeping = True
            if self._ring:
                self._wake()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the turns, until cancelled."""
        task_status.started()
        while True:
            if self._ring:
                await trio.lowlevel.checkpoint()
            else:
                self._sleeping = True
                try:
                    await self._source.wait()
                finally:
                    self._sleeping = False
            self._pass()

    def _wake(self) -> None:
        self._sleeping = False
        self._source.wake()

    def _pass(self) -> None:
        now = self._clock()
        end = now + PASS
        while True:
            found = self._source.poll()
            while self._ring:
                now = self._turn(self._ring.popleft(), now)
                if now >= end:
                    return
            # If the poll found two or more connections, some may have new bytes already.  Another poll
            # costs less than a pass of Trio.
            if found < 2:
                return

    def _turn(self, partition: int, now: float) -> float:
        """Run a turn that begins `now`; return the time of its end."""
        queue = self._queues[partition]
        turn = Quantum(CALLS, now + self._length(partition, now))
        self._now_served = partition
        while queue and turn.calls > 0:
            left, serve = turn.calls, queue.popleft()
            if serve(turn):
                queue.append(serve)
            if turn.calls == left and self._clock() >= turn.until:
                break  # part of a call is not counted, but takes time
        if queue or self._ring:
            self._source.poll()  # other partitions with new bytes get their turn before this one
        self._now_served = None
        if queue:
            self._ring.append(partition)
        return self._clock()

    def _length(self, partition: int, now: float) -> float:
        """Return the seconds of a partition's turn."""
        if partition == NO_PARTITION:
            return SHARED
        if partition != self._last_served:
            if self._last_served is not None:
                self._shared_until = now + SHARED_FOR
            self._last_served = partition
        return SHARED if now < self._shared_until else SECONDS
