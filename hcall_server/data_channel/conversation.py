"""The server's end of one data channel without I/O: HELLO, OPEN, then calls until one end says GOODBYE.

A `Connection` adds the stream and the deadlines.  It passes received bytes to `receive` and sends the
returned pieces.  No function here waits: between two pieces, h-calls run to their ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hcall_abi.codec import ProtocolError
from hcall_abi.exchange import Event, OtherVersion, Role, SessionState
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
    OpenStatus,
)
from hcall_abi.rules import protocol as rules
from hcall_abi.rules.rule import Rule
from hcall_abi.session import Session, complaint
from hcall_server import __version__
from hcall_server.data_channel.opening import Door, accepted, judge, refusal
from hcall_server.data_channel.refusals import log_refusal
from hcall_server.machine import logs
from hcall_server.machine.counters import CallCounts
from hcall_server.machine.noise import PeerLog

if TYPE_CHECKING:
    from hcall_server.hcalls.refusals import Refusal
    from hcall_server.machine.machine import Machine
    from hcall_server.machine.sessions import Link
    from hcall_server.platform.partition import Partition

FLUSH_SIZE = 256 * 1024
"""Answers of a batch are sent early once they are this many bytes."""

WINDOW = 16
"""How many calls are decoded before they run.  Answers refer to object data, so a window costs no copies."""

SERVER_NAME = f"swpks {__version__}"

_OVER = (SessionState.CLOSED, SessionState.REFUSED)


class ServerConversation:
    """One session from the server's side; see the module.

    `link` shows the conversation to the rest of the machine, which can end it there.  `log` is the log
    of the connection; once a session is open its lines name the partition.
    """

    def __init__(self, machine: Machine, link: Link, door: Door, log: logs.Log) -> None:
        self.log = PeerLog(machine.noise.of(door.source), log)
        self.over = False
        """Whether no more bytes are taken: an end has left the session, or the peer broke the protocol."""
        self._machine = machine
        self._link = link
        self._door = door
        self._nonce = b""  # until HELLO
        self._session = Session(Role.SERVER)
        self._violation: Goodbye | None = None
        self._ipl_count = 0
        self._counts = CallCounts()  # those of the partition, once a session is open

    def __repr__(self) -> str:
        return f"ServerConversation({self._link.partition}, {self._session.state.value})"

    @property
    def farewell(self) -> Goodbye | None:
        """The GOODBYE that this end owes its peer, None where it owes none.

        An end that the machine asked for counts before a protocol error.
        """
        return None if self._session.state in _OVER else self._link.ending or self._violation

    def greet(self) -> bytes:
        """Return HELLO, the first bytes of a connection; ScarcityError if there is no nonce for it."""
        self._nonce = self._machine.entropy(NONCE_SIZE)
        return self._session.send(Hello(VERSION, VERSION, MAX_BODY, 0, self._nonce, SERVER_NAME))

    def receive(self, data: bytes | bytearray) -> Iterator[bytes]:
        """Take received bytes (b"": the end of the stream); yield the pieces to send.

        Do not call it once the conversation is `over`.  It yields nothing once the machine has ended the
        session.  It yields all due answers before `farewell` has a protocol error.  Take a piece only after
        the last one was sent: if the session was ended meanwhile, no further call runs.
        """
        if not self._alive():
            return iter(())
        if not data:
            self._take_end()
            return iter(())
        self._session.receive_data(data)
        return self._pieces()

    def say(self, goodbye: Goodbye) -> bytes:
        """Return the bytes of a GOODBYE; it ends the session."""
        reason = GoodbyeReason(goodbye.reason).name.lower()
        self.log.info("session.ended", sort=reason, reason=reason, text=goodbye.text)
        return self._session.send(goodbye)

    def end_batch(self) -> None:
        """Report the changes of the calls to the machine; `receive` does it before their answers leave.

        The connection does it again at its end, for calls whose answers were not sent.
        """
        if self._link.partition is not None:
            self._machine.after_calls(self._link.partition, self.log.log)

    def _alive(self) -> bool:
        """Whether calls may run and be answered: the machine has not ended the session or begun an IPL.

        Check it after each wait of the connection.  All other ends of a session happen in `receive`.
        """
        link = self._link
        if link.ending is not None:
            return False
        if link.partition is not None and link.partition.ipl_count != self._ipl_count:
            link.end(GoodbyeReason.IPL_OR_POWER_OFF, "a new IPL has begun")
            return False
        return True

    def _take_end(self) -> None:
        self.log.debug("connection.closed")
        self.over = True
        try:
            self._session.receive_eof()
        except ProtocolError as error:
            self._violated(error)

    def _violated(self, error: ProtocolError) -> None:
        """Owe GOODBYE 1 to a peer that broke the protocol."""
        self.log.warning("protocol.error", sort=error.rule.id, **logs.explained(error))
        self.over = True
        self._violation = complaint(error)

    # Calls

    def _pieces(self) -> Iterator[bytes]:
        """Run the calls that have arrived and yield the answers, joined to pieces of about FLUSH_SIZE bytes.

        A piece is shorter than FLUSH_SIZE plus one answer.  A whole window is decoded, then run, then
        encoded.  That is faster than all three steps for one call after the other.
        """
        answers: list[bytes] = []
        size, session = 0, self._session
        while calls := self._next_calls(answers):
            for head, data in session.answers(self._run(calls)):
                answers += (head, data)
                size += len(head) + len(data)
                if size >= FLUSH_SIZE:
                    self.end_batch()
                    yield b"".join(answers)
                    if not self._alive():
                        return
                    answers.clear()
                    size = 0
            if not session.buffered:
                break
        if answers:
            self.end_batch()
            yield b"".join(answers)

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
                answers += self._reply(event)
                self.over = session.state in _OVER
        except ProtocolError as error:
            self._violated(error)
            return []
        return calls

    def _run(self, calls: list[HCall]) -> list[HReturn]:
        """Run the calls of a window, and count them."""
        execute = self._link.calls.execute
        returns = [execute(call) for call in calls]
        self._counts.answered(calls, returns)
        return returns

    # The frames that pass once a session

    def _reply(self, event: Event) -> list[bytes]:
        """Return the answer to a frame that is no call, if it has one."""
        if isinstance(event, Open):
            return [self._open(event)]
        if isinstance(event, OtherVersion):
            return [self._refuse(rules.OPEN_VERSION, event.tag)]
        if isinstance(event, Goodbye):
            self.log.debug("session.goodbye", reason=event.reason, text=event.text)
        return []

    def _open(self, frame: Open) -> bytes:
        machine = self._machine
        judged = judge(frame, self._door, machine.system, self._nonce, machine.has_room)
        if isinstance(judged, Rule):
            return self._refuse(judged, frame.tag, frame.partition, frame.name)
        self._opened(judged.partition, frame.name)
        return self._session.send(accepted(frame, judged, self._nonce))

    def _opened(self, partition: Partition, client: str) -> None:
        counters = self._machine.counters
        counters.opens[OpenStatus.OPENED] += 1
        self._ipl_count = partition.ipl_count
        self._counts = counters.calls[partition.number]
        self._machine.open_session(self._link, partition, self._log_refusal)
        self.log = PeerLog(
            self._machine.noise.of(partition.name), self.log.log.bind(partition=partition.name)
        )
        self.log.info("session.opened", client=client, ipl_count=partition.ipl_count)

    def _refuse(self, rule: Rule, tag: int, partition: int = 0, client: str = "") -> bytes:
        frame = refusal(tag, rule, partition)
        self._machine.counters.opens[frame.status] += 1
        status = OpenStatus(frame.status).name.lower()
        named = logs.named(rule)
        self.log.warning("session.refused", sort=status, status=status, client=client, **named)
        return self._session.send(frame)

    def _log_refusal(self, refused: Refusal, call: HCall) -> None:
        log_refusal(self.log, refused, call.opcode)
