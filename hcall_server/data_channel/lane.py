"""The lane: one task serves all sockets of open sessions that have bytes, without task switches."""

# Why a lane
#
# With many connections, Trio costs more than the engine.  For each message it registers a wait, changes the
# epoll set, wakes a task, and runs it.  The lane has an epoll set of its own, in which a socket stays
# registered (edge-triggered).  One task waits for the whole set and serves each ready socket: receive, run,
# send.  With 16 connections this makes the rate of calls twice as high, with 64 three times.
#
# The lane never waits for a single socket.  While the lane serves a connection, the connection's own task
# sleeps.  Four things end that, and the task goes on: the socket does not take all of a send, the stream
# ends, client or server sends GOODBYE, or an error occurs.  So only the task has the rules for the end of a
# connection.
#
#     state     meaning                              next state
#     idle      no bytes wait in the socket          asking: epoll reports bytes
#     asking    it waits for a turn                  idle, asking, held, or out
#     held      a CONFIRM waits for a flush, or      asking: the flush has ended, the wait is over, or the
#               a call for the end of a hold         hold has changed
#     out       its task does the rest               idle: the task enters the lane again
#
# Edge-triggered means that epoll reports bytes once.  So three things must hold:
#
#   1. A socket goes from `asking` to `idle` only when it is drained: a receive has found it empty, or has
#      returned less than its limit.  After an event with the end of the stream, a short receive is not
#      enough: the end may follow without another event.  Then only an empty socket counts as drained.
#   2. If an event comes in the states `asking` and `held`, the socket does not count as drained any more.
#   3. A socket leaves the set before it is closed, because another socket may get its number at once.
#
# If the service of one socket raises an exception, the task of that connection gets it.  Only that connection
# ends.

from __future__ import annotations

import os
import select
from contextlib import ExitStack
from enum import Enum, auto
from typing import TYPE_CHECKING

import outcome
from trio.lowlevel import Abort, Task, current_task, reschedule, wait_readable, wait_task_rescheduled

from hcall_abi.scarcity import scarcity_of
from hcall_server.data_channel.stream import RECEIVE_SIZE, SocketStream

if TYPE_CHECKING:
    from collections.abc import Callable

    from hcall_server.data_channel.conversation import ServerConversation
    from hcall_server.machine.machine import Machine
    from hcall_server.machine.sessions import Link
    from hcall_server.machine.turns import Quantum, Turns

EVENTS = 256
"""Most sockets that one poll of the set reports."""
_WANTED = select.EPOLLIN | select.EPOLLET | select.EPOLLRDHUP
_END = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


class Lane:
    """The epoll set of the sockets in the lane: a source of turns.

    ScarcityError if the host has no resources for the set.
    """

    def __init__(self, turns: Turns) -> None:
        with ExitStack() as undo:
            try:
                self._epoll = undo.enter_context(select.epoll())
                self._woken = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            except OSError as error:
                raise scarcity_of(error, "the lane of the data channel") or error from None
            undo.pop_all()
        self._epoll.register(self._woken, select.EPOLLIN)
        self._turns = turns
        self._seats: dict[int, Seat] = {}
        turns.feed(self)

    def __repr__(self) -> str:
        return f"Lane({len(self._seats)} sockets)"

    def enter(self, seat: Seat) -> bool:
        """Serve a socket from now on; it may have bytes already.  False if the set takes no more sockets."""
        try:
            self._epoll.register(seat.descriptor, _WANTED)
        except OSError:
            return False
        self._seats[seat.descriptor] = seat
        return True

    def leave(self, seat: Seat) -> None:
        """Remove a socket from the set, if it is there."""
        if self._seats.pop(seat.descriptor, None):
            self._epoll.unregister(seat.descriptor)

    async def wait(self) -> None:
        """Return when a socket has bytes, or when it was woken."""
        await wait_readable(self._epoll)

    def wake(self) -> None:
        """End the present `wait`, or the next one."""
        os.eventfd_write(self._woken, 1)

    def poll(self) -> int:
        """Request a turn for each socket that has bytes; return the number of events."""
        # The time-out is 0, so this never blocks.  `wait` waits for the set by Trio.
        ready = self._epoll.poll(0, EVENTS)
        for descriptor, events in ready:
            seat = self._seats.get(descriptor)
            if seat:
                seat.notice(events & _END != 0)
            else:
                os.eventfd_read(self._woken)
        return len(ready)

    def close(self) -> None:
        """Close the descriptors; sockets that are still in the lane are not served any more."""
        self._turns.feed(None)
        self._seats.clear()
        self._epoll.close()
        os.close(self._woken)


class SeatState(Enum):
    """The state of a socket; the comment at the top of the module explains the states."""

    IDLE = auto()
    ASKING = auto()
    HELD = auto()
    OUT = auto()


_IDLE, _ASKING, _HELD, _OUT = SeatState


class Seat:
    """The place of one connection in the lane, during one `ride`.

    Each ride needs a new seat.
    """

    def __init__(
        self, machine: Machine, link: Link, conversation: ServerConversation, stream: SocketStream
    ) -> None:
        self.descriptor = stream.descriptor
        self._machine = machine
        self._link = link
        self._conversation = conversation
        self._stream = stream
        self._state = _OUT
        self._drained = self._ending = False
        self._task: Task | None = None
        self._drop: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"Seat({self._conversation}, {self._state.name})"

    async def ride(self, lane: Lane) -> memoryview | None:
        """Serve the connection in the lane until its own task has work.

        Return the unsent rest of the answers; None if the lane has no place.  Raise the error that ends the
        connection.
        """
        if not lane.enter(self):
            return None
        self._state, self._task = _IDLE, current_task()
        try:
            rest: memoryview = await wait_task_rescheduled(self._abandon)
            return rest
        finally:
            self._state, self._task = _OUT, None
            lane.leave(self)
            self._drop_wait()

    def notice(self, ending: bool) -> None:
        """Process an event of the set: bytes have arrived.

        With `ending`, the end of the stream has arrived too.
        """
        self._ending = self._ending or ending
        if self._state is _IDLE:
            self._ask()
        else:
            self._drained = False

    def serve(self, turn: Quantum) -> bool:
        """Receive, run and send within a turn; return whether the socket needs another turn."""
        if self._state is _OUT:
            return False
        try:
            return self._serve(turn)
        except Exception as error:  # goes to the connection's own task
            self._hand_over(outcome.Error(error))
            return False

    def _ask(self, *, wake: bool = True) -> None:
        partition = self._link.partition
        if partition is not None:
            self._state = _ASKING
            self._machine.turns.ask(partition.number, self.serve, wake=wake)

    def _serve(self, turn: Quantum) -> bool:
        conversation = self._conversation
        if not conversation.ready and not self._receive():
            return False
        answers = conversation.turn(turn)
        if answers and not self._send(answers):
            return False
        if conversation.over or self._link.ending is not None:
            self._hand_over(outcome.Value(memoryview(b"")))
            return False
        if conversation.held is not None:
            self._state = _HELD
            self._drop = conversation.held(self._go_on)
            return False
        if conversation.ready or not self._drained:
            return True
        self._state = _IDLE
        return False

    def _receive(self) -> bool:
        """Receive once; False if the socket is empty, or at the end of the stream."""
        # There is one receive in each turn.  So a socket that is never empty can't delay the others.
        data = self._stream.receive_now()
        if data is None:
            self._drained, self._state = True, _IDLE
            return False
        self._drained = len(data) < RECEIVE_SIZE and not self._ending
        self._conversation.take(data)
        if data:
            return True
        self._hand_over(outcome.Value(memoryview(b"")))
        return False

    def _send(self, answers: bytes) -> bool:
        """Send as many bytes as the socket takes.

        If it does not take all, give the rest to the connection's own task, and return False.
        """
        sent = self._stream.send_now(answers)
        if sent == len(answers):
            return True
        self._hand_over(outcome.Value(memoryview(answers)[sent:]))
        return False

    def _go_on(self) -> None:
        """Request a turn, in which the held call runs.

        The caller then has to run the turns (`Turns.serve`).
        """
        self._drop = None
        self._conversation.go_on()
        self._ask(wake=False)

    def _hand_over(self, result: outcome.Outcome[memoryview]) -> None:
        """Wake the connection's own task, with a result."""
        self._state = _OUT
        task, self._task = self._task, None
        if task is not None:
            reschedule(task, result)

    def _abandon(self, _: object) -> Abort:
        """End the ride, because the connection's own task was cancelled.

        The held call does not run, even if its flush has just ended.
        """
        self._state, self._task = _OUT, None
        self._drop_wait()
        return Abort.SUCCEEDED

    def _drop_wait(self) -> None:
        drop, self._drop = self._drop, None
        if drop:
            drop()
