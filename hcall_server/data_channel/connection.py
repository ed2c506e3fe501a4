"""One connection of the data channel: a stream and a conversation.

One task serves a connection.  It wakes once for each receive, runs every whole call of it in the
conversation, and answers with one send.  It makes no task, lock, channel or timeout for a call.  The reaper
(`hcall_server.data_channel.reaper`) checks the deadlines in a task of its own.

Memory of a connection (spec/protocol.md#sessions).  Received: one unfinished frame of at most header +
`MAX_BODY`, and one receive of `RECEIVE_SIZE`.  To be sent: `FLUSH_SIZE` plus one answer of at most
`MAX_BODY`.  That is under 1 MiB.  While the task sends an answer, it receives nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from trio.abc import Stream

from hcall_abi.errors import ScarcityError
from hcall_server.data_channel.conversation import ServerConversation
from hcall_server.data_channel.opening import Door
from hcall_server.data_channel.stream import RECEIVE_SIZE, SocketStream
from hcall_server.machine import logs
from hcall_server.machine.sessions import Entrance, Link

if TYPE_CHECKING:
    from hcall_server.machine.machine import Machine
    from hcall_server.platform.partition import Partition


async def serve_stream(
    machine: Machine, stream: Stream, partition: Partition | None, *, demand_proof: bool
) -> None:
    """Serve one connection to its end; no input of the peer raises.

    `partition` is the one whose private listener accepted the connection, None for a listener of all
    partitions.  `demand_proof` is for listeners that other users can reach.  The connection needs no place of
    an entrance.
    """
    await Connection(machine, stream, Door(partition, demand_proof)).run()


class Connection:
    """A connection; the rest of the machine sees its `link`.

    It takes its place of the entrance when it is made.  So `run` has to follow, in a task.
    """

    def __init__(
        self, machine: Machine, stream: Stream, door: Door, entrance: Entrance | None = None
    ) -> None:
        self._scope = trio.CancelScope()
        self.link = Link(machine.clock(), self._scope.cancel, entrance)
        self._machine = machine
        self._counters = machine.counters
        self._counters.connections += 1
        self._stream = stream
        log = logs.Log(connection=self._counters.connections)
        self._conversation = ServerConversation(machine, self.link, door, log)
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
        """Log the shortage that ended this connection.  It is no bug, so there is no trace."""
        for error in errors.exceptions:
            if isinstance(error, ScarcityError):
                self._conversation.log.error("connection.failed", **logs.explained(error))

    async def _talk(self) -> None:
        conversation, link, receive = self._conversation, self.link, self._stream.receive_some
        await self._send(conversation.greet())
        while not conversation.over and link.ending is None:
            data = await receive(RECEIVE_SIZE)
            link.progress += 1
            self._counters.bytes_received += len(data)
            for piece in conversation.receive(data):
                await self._send(piece)

    async def _send(self, data: bytes) -> None:
        counters, link = self._counters, self.link
        counters.batches += 1
        counters.bytes_sent += len(data)
        link.progress += 1
        link.sending = True
        await self._stream.send_all(data)
        link.sending = False
        link.progress += 1

    async def _say_goodbye(self) -> None:
        """Send the GOODBYE of this end, if it owes one and the peer reads it soon enough."""
        goodbye = self._conversation.farewell
        if goodbye is None:
            return
        frame = self._conversation.say(goodbye)
        rest = self._unsent()
        if rest is None:
            return
        self._counters.goodbyes[goodbye.reason] += 1
        with trio.move_on_after(self._machine.limits.goodbye_seconds, shield=True):
            await self._stream.send_all(bytes(rest) + frame)

    def _unsent(self) -> bytes | memoryview | None:
        """Return the unsent rest of a frame, which must precede a GOODBYE; None if it is not known."""
        if not self.link.sending:
            return b""
        return self._stream.unsent if isinstance(self._stream, SocketStream) else None
