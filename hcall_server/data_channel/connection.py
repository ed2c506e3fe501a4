"""One connection of the data channel: a stream and a conversation.

One task serves a connection.  It receives, waits for the turns in which the calls run, and sends the answers
of each turn at once.  For a socket with an open session, the lane does the same work
(`hcall_server.data_channel.lane`), and the task sleeps.  A call has no task, lock, channel or timeout of its
own.  One other task checks all deadlines (`hcall_server.data_channel.reaper`).

A connection needs less than 1 MiB of memory (spec/protocol.md#sessions).  Received: one unfinished frame of
at most header + `MAX_BODY`, and one receive of `RECEIVE_SIZE`.  To be sent: `FLUSH_SIZE` plus one answer of
at most `MAX_BODY`.  While the task sends an answer, it receives nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import outcome
import trio
from trio.abc import Stream
from trio.lowlevel import Abort, current_task, reschedule, wait_task_rescheduled

from hcall_abi.errors import ScarcityError
from hcall_server.data_channel.conversation import ServerConversation
from hcall_server.data_channel.lane import Lane, Seat
from hcall_server.data_channel.opening import ListenerFacts
from hcall_server.data_channel.stream import RECEIVE_SIZE, CountedStream, SocketStream
from hcall_server.machine import logs
from hcall_server.machine.sessions import Entrance, Link, Wait
from hcall_server.machine.turns import NO_PARTITION, Quantum

if TYPE_CHECKING:
    from hcall_server.machine.machine import Machine
    from hcall_server.platform.partition import Partition


async def serve_stream(
    machine: Machine, stream: Stream, partition: Partition | None, *, demand_proof: bool
) -> None:
    """Serve one connection to its end; no input of the peer raises.

    If the connection came to the private listener of a partition, `partition` is this partition.  None means
    a listener of all partitions.  `demand_proof` is for listeners that other users can reach.  This
    connection does not count against the places of a listener.  The caller has to run the turns of the
    machine (`Turns.run`).
    """
    await Connection(machine, stream, ListenerFacts(partition, demand_proof)).run()


class Connection:
    """A connection; the rest of the machine sees it by its `link`.

    The constructor takes a place at the entrance.  `run` gives the place back, so a task has to call it.
    """

    def __init__(
        self,
        machine: Machine,
        stream: Stream,
        facts: ListenerFacts,
        entrance: Entrance | None = None,
        lane: Lane | None = None,
    ) -> None:
        self._scope = trio.CancelScope()
        self.link = Link(machine.clock(), self._scope.cancel, entrance)
        self._machine = machine
        self._counters = machine.counters
        self._counters.connections += 1
        self._stream = stream
        self._lane = lane
        self.link.number = self._counters.connections
        log = logs.Log(connection=self.link.number)
        self._conversation = ServerConversation(machine, self.link, facts, log)
        machine.sessions.admit(self.link)

    def __repr__(self) -> str:
        return f"Connection({self._conversation})"

    async def run(self) -> None:
        """Serve the connection to its end."""
        try:
            with self._scope:
                await self._talk()
            await self._say_goodbye()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            self._counters.lost += 1
            self._conversation.log.info("connection.lost")
        except* ScarcityError as errors:
            self._counters.lost += 1
            self._log_scarcity(errors)
        except* Exception:
            # A bug of ours must end only this connection, with a trace in the log.
            self._counters.crashed += 1
            self._conversation.log.error("connection.crashed", exc_info=True)
        finally:
            self._conversation.end_batch()
            self._machine.sessions.remove(self.link)
            await trio.aclose_forcefully(self._stream)

    def _log_scarcity(self, errors: ExceptionGroup[ScarcityError]) -> None:
        """Log the shortage of the host that ended this connection.

        A shortage is no bug, so the log line has no trace.
        """
        for error in errors.exceptions:
            if isinstance(error, ScarcityError):
                self._conversation.log.error("connection.failed", **logs.explained(error))

    async def _talk(self) -> None:
        conversation, link = self._conversation, self.link
        await self._send(conversation.greet())
        while not conversation.over and link.ending is None:
            if self._lane is None or link.partition is None or not await self._ride(self._lane):
                conversation.take(await self._stream.receive_some(RECEIVE_SIZE))
            await self._answer()

    async def _ride(self, lane: Lane) -> bool:
        """Let the lane serve this connection; return False at once if the lane has no place.

        When the connection leaves the lane, this method sends the answers that the lane has not sent.
        """
        # A memory stream has no descriptor, so an epoll set can't contain it.
        if not isinstance(self._stream, SocketStream):
            return False
        rest = await Seat(self._machine, self.link, self._conversation, self._stream).ride(lane)
        if rest is None:
            return False
        await self._send(rest)
        return True

    async def _answer(self) -> None:
        """Run the calls that have arrived, and send the answers of each turn.

        The first call may be held already, by the lane.  The lane has handed the connection over because its
        socket was full.
        """
        conversation = self._conversation
        while True:
            if conversation.held is not None:
                await _held(conversation.held)
                conversation.go_on()
            if not conversation.ready:
                return
            await self._send(await self._turn())

    async def _turn(self) -> bytes:
        """Wait for a turn of the partition; return the answers of the calls that ran in it."""
        waiting = [current_task()]

        def serve(turn: Quantum) -> bool:
            # The connection may have been cancelled while it waited.  It can't withdraw its request for a
            # turn, so this turn finds no task.
            if waiting:
                reschedule(waiting.pop(), outcome.capture(self._conversation.turn, turn))
            return False

        def abandon(_: object) -> Abort:
            waiting.clear()
            return Abort.SUCCEEDED

        partition = self.link.partition
        self._machine.turns.ask(partition.number if partition else NO_PARTITION, serve)
        answers: bytes = await wait_task_rescheduled(abandon)
        return answers

    async def _send(self, data: bytes | memoryview) -> None:
        if not data:  # an empty send would fail at a closed socket
            return
        link = self.link
        # The reaper reads `sending` and `progress`, and ends a send that takes too long.  So a send needs no
        # timer.
        link.sending = True
        await self._stream.send_all(data)
        link.sending = False
        link.progress += 1

    async def _say_goodbye(self) -> None:
        """Send GOODBYE within `goodbye_seconds`, if this end has to send one.

        The answers of all calls that ran are sent first: GOODBYE 3 promises this to the peer.  If it is
        unknown which answers were sent, no GOODBYE is sent.
        """
        goodbye = self._conversation.farewell
        if goodbye is None:
            return
        frame = self._conversation.say(goodbye)
        # A frame may be half sent.  It is finished first, because the peer would read GOODBYE as a part of
        # it.
        rest = self._unsent()
        if rest is None:
            return
        self._counters.goodbyes[goodbye.reason] += 1
        # The machine ends a connection by cancelling its scope.  This send is shielded, because it must still
        # happen then.
        with trio.move_on_after(self._machine.limits.goodbye_seconds, shield=True):
            await self._stream.send_all(bytes(rest) + frame)

    def _unsent(self) -> bytes | bytearray | memoryview | None:
        """Return the answers to send before GOODBYE; None if it is unknown which were sent."""
        if not self.link.sending:
            return b""
        return self._stream.unsent if isinstance(self._stream, CountedStream) else None


async def _held(wait: Wait) -> None:
    """Wait until a held call may run."""
    task = current_task()
    drop = wait(lambda: reschedule(task))

    def abandon(_: object) -> Abort:
        drop()
        return Abort.SUCCEEDED

    await wait_task_rescheduled(abandon)
