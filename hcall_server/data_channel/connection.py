"""One connection of the data channel: HELLO, OPEN, then calls until somebody says GOODBYE.

One task serves a connection.  It wakes up once for whatever a receive brings, runs every whole
call in it and answers with one send; no task, lock, channel or timeout is made per call.  The
reaper (`hcall_server.data_channel.reaper`) watches the deadlines from outside.

Memory of a connection (spec/protocol.md#sessions): received, one unfinished frame of at most
header + `MAX_BODY` and one receive of `RECEIVE_SIZE`; to be sent, `FLUSH_SIZE` plus one answer of
at most `MAX_BODY`.  That is under 1 MiB, and while an answer is being sent nothing is received.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import trio
from trio.abc import Stream

from hcall_abi.codec import ProtocolError
from hcall_abi.frames import (
    MAX_BODY,
    NONCE_SIZE,
    VERSION,
    Goodbye,
    GoodbyeReason,
    HCall,
    Hello,
    HReturn,
    Open,
    Opened,
    OpenStatus,
)
from hcall_abi.session import Event, OtherVersion, Role, Session, SessionState
from hcall_server import __version__
from hcall_server.data_channel.opening import SECTION, Door, Judged, answer, judge, refusal
from hcall_server.data_channel.refusals import Refusals
from hcall_server.data_channel.stream import RECEIVE_SIZE, SocketStream
from hcall_server.machine import logs
from hcall_server.machine.counters import CallCounts
from hcall_server.machine.sessions import Link

if TYPE_CHECKING:
    from hcall_server.keystore.refusal import Refusal
    from hcall_server.machine.machine import Machine
    from hcall_server.platform.partition import Partition

FLUSH_SIZE = 256 * 1024
"""Answers of a batch are sent early once they are this many bytes."""

WINDOW = 16
"""How many calls are decoded before they run; their answers refer to objects, and copy nothing."""

_CLOSED = SessionState.CLOSED
_OVER = (_CLOSED, SessionState.REFUSED)

SERVER_NAME = f"swpks {__version__}"


async def serve_stream(
    machine: Machine, stream: Stream, partition: Partition | None, *, demand_proof: bool
) -> None:
    """Serve one connection to its end, whatever the peer does.

    `partition` is the one whose private listener the connection came in by, None for a listener
    of all partitions; `demand_proof` is for listeners that anybody may reach.
    """
    await Connection(machine, stream, Door(partition, demand_proof)).run()


class Connection:
    """A connection and where it stands; its `link` is what the rest of the machine sees of it."""

    def __init__(self, machine: Machine, stream: Stream, door: Door) -> None:
        self._scope = trio.CancelScope()
        self.link = Link(machine.clock(), self._scope)
        self._violation: Goodbye | None = None
        self._ipl_count = 0
        self._machine = machine
        self._counters = machine.counters
        self._counters.connections += 1
        self._stream = stream
        self._door = door
        self._nonce = machine.entropy(NONCE_SIZE)
        self._session = Session(Role.SERVER)
        self._log = logs.Log(connection=self._counters.connections)
        self._refusals = Refusals()
        self._count = CallCounts().answered  # that of the partition, once a session is open

    def __repr__(self) -> str:
        return f"Connection({self.link.partition}, {self._session.state.value})"

    async def run(self) -> None:
        """Serve the connection to its end."""
        self._machine.sessions.admit(self.link)
        try:
            with self._scope:
                await self._talk()
            await self._say_goodbye()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            self._counters.lost += 1
            self._log.info("connection.lost")
        except* Exception:
            # A bug of ours: it ends this connection, with a trace in the log, and no other.
            self._counters.crashed += 1
            self._log.error("connection.crashed", exc_info=True)
        finally:
            self._note_changes()
            self._machine.sessions.remove(self.link)
            await trio.aclose_forcefully(self._stream)

    # The conversation

    async def _talk(self) -> None:
        hello = Hello(VERSION, VERSION, MAX_BODY, 0, self._nonce, SERVER_NAME)
        await self._send(self._session.send(hello))
        receive = self._stream.receive_some
        while self._violation is None and self.link.ending is None and self._session.state not in _OVER:
            data = await receive(RECEIVE_SIZE)
            self.link.progress += 1
            if not self._alive():
                return
            if not data:
                self._take_end()
                return
            self._counters.bytes_received += len(data)
            self._session.receive_data(data)  # type: ignore[arg-type]  # it copes with a bytearray
            for piece in self._pieces():
                self._note_changes()
                await self._send(piece)

    def _alive(self) -> bool:
        """Whether calls may run and be answered: nobody ended the session, its IPL is the current one.

        A protocol error leaves it alive until the answers that are due have left.
        """
        link = self.link
        if link.ending is not None or self._session.state in _OVER:
            return False
        if link.partition is not None and link.partition.ipl_count != self._ipl_count:
            link.end(GoodbyeReason.IPL_OR_POWER_OFF, "a new IPL has begun")
            return False
        return True

    def _take_end(self) -> None:
        """Take the end of the stream."""
        self._log.debug("connection.closed")
        try:
            self._session.receive_eof()
        except ProtocolError as error:
            self._violated(error)

    def _pieces(self) -> Iterator[bytes]:
        """Run what has come and yield the answers, joined to pieces of less than FLUSH_SIZE plus one answer.

        Decoding, running and encoding each go over a whole window: a processor does many alike
        things faster than a few unlike ones in turn.  It stops where the session was ended while a
        piece was being sent.
        """
        answers: list[bytes] = []
        size, session = 0, self._session
        while calls := self._next_calls(answers):
            returns = self._run(calls)
            if session.state is _CLOSED:
                break  # the client has said GOODBYE behind them and wants no answers
            for head, data in session.answers(returns):
                answers += (head, data)
                size += len(head) + len(data)
                if size >= FLUSH_SIZE:
                    yield b"".join(answers)
                    if not self._alive():
                        return
                    answers.clear()
                    size = 0
            if not session.buffered:
                break
        if answers:
            yield b"".join(answers)

    def _run(self, calls: list[HCall]) -> list[HReturn]:
        """Run the calls of a window, and count them."""
        if self.link.calls is None:
            return []  # never so: the states allow no call before the session is open
        execute = self.link.calls.execute
        returns = [execute(call) for call in calls]
        self._count(calls, returns)
        return returns

    def _next_calls(self, answers: list[bytes]) -> list[HCall]:
        """Take the next calls, WINDOW at most and none at the end; other frames are answered on the way.

        After a protocol error there is no next call.
        """
        session = self._session
        try:
            while not (calls := session.calls(WINDOW)):
                event = session.next_event()
                if event is None:
                    return []
                if type(event) is HCall:
                    return [event]  # it came in pieces
                answers += self._other(event)
        except ProtocolError as error:
            self._violated(error)
            return []
        return calls

    def _violated(self, error: ProtocolError) -> None:
        """Note that the peer broke the protocol: GOODBYE 1, after the answers that are due."""
        self._log.warning("protocol.error", **logs.explained(error))
        text = _shortened(f"{error.message}: {error.rule}")
        self._violation = Goodbye(int(GoodbyeReason.PROTOCOL_ERROR), text)

    def _other(self, event: Event) -> list[bytes]:
        """Handle the frames that pass once a session; returns the answer, if there is one."""
        if isinstance(event, Open):
            return [self._session.send(self._open(event))]
        if isinstance(event, OtherVersion):
            self._refused(Judged(OpenStatus.VERSION_NOT_SUPPORTED), "")
            return [self._session.send(refusal(event.tag, OpenStatus.VERSION_NOT_SUPPORTED))]
        if isinstance(event, Goodbye):
            self._log.debug("session.goodbye", reason=event.reason, text=event.text)
        return []

    def _note_changes(self) -> None:
        """End a batch of calls, before its answers leave."""
        if self.link.partition is not None:
            self._machine.after_calls(self.link.partition, self._log)

    async def _send(self, data: bytes) -> None:
        counters, link = self._counters, self.link
        counters.batches += 1
        counters.bytes_sent += len(data)
        link.progress += 1
        link.sending = True
        await self._stream.send_all(data)
        link.sending = False
        link.progress += 1

    # OPEN

    def _open(self, frame: Open) -> Opened:
        machine = self._machine
        key_of, has_room = machine.transport.access_key, machine.sessions.has_room
        judged = judge(frame, self._door, machine.system, self._nonce, key_of, has_room)
        self._counters.opens[int(judged.status)] += 1
        if judged.partition is None:
            self._refused(judged, frame.name)
        else:
            self._opened(judged.partition, frame.name)
        return answer(frame, judged, self._nonce)

    def _opened(self, partition: Partition, client: str) -> None:
        self._ipl_count = partition.ipl_count
        self._count = self._counters.calls[partition.number].answered
        self._machine.open_session(self.link, partition, self._log_refusal)
        self._log = self._log.bind(partition=partition.name)
        self._log.info("session.opened", client=client, ipl_count=partition.ipl_count)

    def _refused(self, judged: Judged, client: str) -> None:
        status = judged.status.name.lower()
        self._log.warning("session.refused", status=status, client=client, rule=judged.rule, section=SECTION)

    def _log_refusal(self, refusal: Refusal, call: HCall) -> None:
        self._refusals.tell(self._log, refusal, call.opcode)

    # The end

    async def _say_goodbye(self) -> None:
        """Send GOODBYE where this end ends the session, as far as the peer takes it in short time."""
        goodbye = self.link.ending or self._violation
        if goodbye is None or self._session.state in _OVER:
            return
        reason = GoodbyeReason(goodbye.reason).name.lower()
        self._log.info("session.ended", reason=reason, text=goodbye.text)
        rest = self._unsent()
        if rest is None:
            return
        self._counters.goodbyes[goodbye.reason] += 1
        frame = self._session.send(goodbye)
        with trio.move_on_after(self._machine.limits.goodbye_seconds, shield=True):
            await self._stream.send_all(bytes(rest) + frame)

    def _unsent(self) -> bytes | memoryview | None:
        """Return what has to go out before the next frame; None when the stream is torn inside a frame."""
        if not self.link.sending:
            return b""
        return self._stream.unsent if isinstance(self._stream, SocketStream) else None


def _shortened(text: str) -> str:
    """Return as much of a text as fits a GOODBYE: 255 bytes of UTF-8."""
    return text.encode()[:255].decode(errors="ignore")
