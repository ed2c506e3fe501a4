"""The server's side of one data channel without I/O: HELLO, OPEN, then calls until a GOODBYE.

A `Connection`, or its seat in the lane, has the stream.  It gives the received bytes to `take`.  It calls
`turn` in the turns of the partition, and sends the answers that `turn` returns.  Nothing in this module
waits.
"""

# The server's side of a session
#
# `hcall_abi.exchange` has the rules of frames, and client and server both run it. This module adds the
# duties that only the server has:
#
#   1. No call runs after the machine has ended the session, or after a new IPL.  A call that was sent before
#      an IPL must not act on the partition after that IPL.  So each turn checks this again, after every wait.
#   2. Answers are sent in the order of the calls.  The answers of one turn are sent together.
#   3. Before an answer is sent, its change is reported to the encryptor (`end_batch`).
#   4. The memory of a connection is bounded, even if its peer floods the server or does not read.
#
# It is a state machine without I/O: `ready`, `held` and `over` show the next step of the connection.  So the
# task of a connection and its seat in the lane can share it, and tests need no sockets.
#
# Most calls are taken as spans, which are offsets in the received bytes.  A span needs no frame object, and
# no step of the session.  The two would cost a tenth of a call.  Every other frame ends the spans, and gets
# its own step (`_reply`).
#
# A call can be held for two reasons:
#
#   - A CONFIRM of a change that is not durable waits for a flush (`Machine.confirm_wait`), so that the guest
#     need not poll.  Afterwards it runs as a new call.  Password, session and fault plan are checked again,
#     because they may have changed.  The call is counted and logged once, with its answer.
#   - The partition is about to move (`hcall_server.machine.holds`).  All its calls are held: they run later,
#     or never.
#
# Calls behind a held call wait too, so the order of the calls stays.

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from hcall_abi.codec import ProtocolError
from hcall_abi.exchange import Event, OtherVersion, Role, SessionState
from hcall_abi.frames import (
    MAX_BODY,
    NONCE_SIZE,
    VERSION,
    Goodbye,
    GoodbyeReason,
    Hello,
    Open,
    OpenStatus,
)
from hcall_abi.rules import protocol as rules
from hcall_abi.rules.rule import Rule
from hcall_abi.session import Session, Span, complaint
from hcall_server import __version__
from hcall_server.data_channel.opening import ListenerFacts, accepted, admit, refusal
from hcall_server.data_channel.refusals import log_refusal
from hcall_server.machine import logs
from hcall_server.machine.noise import PeerLog
from hcall_server.machine.tracing import Backlog

if TYPE_CHECKING:
    from hcall_server.hcalls.refusals import Refusal
    from hcall_server.machine.machine import Machine
    from hcall_server.machine.sessions import Link, Wait
    from hcall_server.machine.turns import Quantum
    from hcall_server.platform.partition import Partition

FLUSH_SIZE = 256 * 1024
"""Bytes of answers after which a turn ends, so that memory is bounded."""

HEAVY = 8192
"""Bytes of a call and its answer.  After a larger one the clock is read, because it may have taken long."""

LANDINGS = 2
"""Flushes that a CONFIRM waits for at most: the first may have begun before its change, the second has it."""

SERVER_NAME = f"swpks {__version__}"

_OVER = (SessionState.CLOSED, SessionState.REFUSED)


class ServerConversation:
    """One session from the server's side (see the comment above).

    The rest of the machine sees the conversation by its `link`, and can end it there.  `log` is the log of
    the connection.  While a session is open, its lines name the partition.
    """

    def __init__(self, machine: Machine, link: Link, facts: ListenerFacts, log: logs.Log) -> None:
        self.log = PeerLog(machine.noise.of(facts.source), log)
        self.over = False
        """Whether no more bytes are accepted: an end has left the session, or the peer broke the protocol."""
        self.ready = False
        """Whether there may be frames to process."""
        self.held: Wait | None = None
        """How to wait until the call that is held may run; None if none is held."""
        self._machine = machine
        self._link = link
        self._facts = facts
        self._nonce = b""  # set by HELLO
        self._session = Session(Role.SERVER)
        self._violation: Goodbye | None = None
        self._ipl_count = 0
        self._clock = machine.clock
        self._spans: list[Span] = []  # taken calls that have not run yet, in order
        self._patient = machine.confirm_wait > 0
        self._landings = 0  # flushes since the first run of the held CONFIRM
        self._flush_awaited = False
        self._deadline = 0.0
        link.backlog = self._backlog

    def __repr__(self) -> str:
        return f"ServerConversation({self._link.partition}, {self._session.state.value})"

    @property
    def farewell(self) -> Goodbye | None:
        """The GOODBYE that this end still has to send, None if there is none.

        If the machine has ended the session, its reason counts, and not a protocol error.
        """
        return None if self._session.state in _OVER else self._link.ending or self._violation

    def greet(self) -> bytes:
        """Return HELLO, the first bytes of a connection; ScarcityError if there is no nonce for it."""
        self._nonce = self._machine.entropy(NONCE_SIZE)
        hello = Hello(VERSION, VERSION, MAX_BODY, 0, self._nonce, SERVER_NAME)
        return self._to_send(self._session.send(hello))

    def take(self, data: bytes | bytearray) -> None:
        """Take received bytes, or b"" at the end of the stream; the conversation may be `ready` afterwards.

        The caller must not call this while the conversation is `ready`, `held` or `over`.
        """
        link = self._link
        link.progress += 1
        self._machine.counters.bytes_received += len(data)
        if data:
            for tap in link.taps:
                tap.received(data)
            self._session.receive_data(data)
            self.ready = True
        elif self._alive():
            self._take_end()

    def turn(self, turn: Quantum) -> bytes:
        """Run the calls that have arrived, until the turn is used up; return the answers.

        Afterwards the conversation is `ready` for another turn, or `held`, or needs bytes.  If a peer breaks
        the protocol, the answers to its earlier calls are still returned.  If the machine has ended the
        session, no call runs.
        """
        answers: list[bytes] = []
        if self._alive():
            try:
                self._run(turn, answers)
            except ProtocolError as error:
                self._violated(error)
            self.end_batch()
        else:
            self._drop_calls()
        return self._to_send(b"".join(answers)) if answers else b""

    def go_on(self) -> None:
        """Let the held call run again.

        For a CONFIRM, a flush has ended, or the wait is over.  Otherwise the hold of the partition has
        changed.
        """
        if self._flush_awaited:
            self._landings += 1
            self._patient = self._landings < LANDINGS and self._clock() < self._deadline
        self.held = None
        self.ready = True

    def say(self, goodbye: Goodbye) -> bytes:
        """Return the bytes of a GOODBYE, and end the session."""
        reason = GoodbyeReason(goodbye.reason).name.lower()
        self.log.info("session.ended", kind=reason, reason=reason, text=goodbye.text)
        data = self._session.send(goodbye)
        for tap in self._link.taps:
            tap.sent(data)
        return data

    def end_batch(self) -> None:
        """Report the changes of the calls to the machine.

        `turn` does this before it returns the answers.  The connection does it again at its end, for calls
        whose answers were not sent.
        """
        if self._link.partition is not None:
            self._machine.after_calls(self._link.partition, self.log.log)

    def _to_send(self, data: bytes) -> bytes:
        """Count the bytes that the connection will send next, and return them."""
        counters, link = self._machine.counters, self._link
        counters.batches += 1
        counters.bytes_sent += len(data)
        link.progress += 1
        for tap in link.taps:
            tap.sent(data)
        return data

    def _backlog(self) -> Backlog:
        """Return the place in the stream, for a tap that begins now."""
        return Backlog(self._session.unread, len(self._spans))

    def _alive(self) -> bool:
        """Return whether calls may run and be answered.

        They may not if the machine has ended the session, or if an IPL has begun.  The conversation checks
        this after each wait.  All other ends of a session come in received bytes.
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
        """Prepare GOODBYE 1 for a peer that broke the protocol."""
        self.log.warning("protocol.error", kind=error.rule.id, **logs.explained(error))
        self.over = True
        self._violation = complaint(error)
        self._drop_calls()

    def _drop_calls(self) -> None:
        self._spans, self.ready, self.held = [], False, None

    # The loop of every h-call begins here.  It makes no frame objects, because they cost time.

    def _run(self, turn: Quantum, answers: list[bytes]) -> None:
        """Run calls, and answer other frames on the way."""
        size = 0
        while turn.calls > 0 and size < FLUSH_SIZE:
            if not self._spans and not self._next_calls(turn.calls, answers):
                return
            size = self._run_calls(turn, answers, size)
            if self._spans:
                return

    def _next_calls(self, most: int, answers: list[bytes]) -> bool:
        """Take the next calls in order, at most `most`; answer other frames before them.

        False if no whole frame is left.
        """
        session = self._session
        while not (spans := session.spans(most)):
            event = session.next_event() if session.buffered and not self.over else None
            if event is None:
                self.ready = False
                return False
            answers += self._reply(event)
            self.over = session.state in _OVER
        self._spans = spans
        return True

    def _run_calls(self, turn: Quantum, answers: list[bytes], size: int) -> int:
        """Run the taken calls until the turn is used up.

        Return `size` plus the bytes of data in their answers.  Each READ runs this loop, so it tests as
        little as possible.
        """
        spans, data, calls, landed = self._spans, self._session.data, self._link.calls, self._landings > 0
        calls.begin()
        answer, patient, ran, over = calls.answer, self._patient, 0, False
        for tag, start, end in spans[: turn.calls]:
            parts = answer(tag, data, start, end, patient)
            if parts is None:
                self._hold()
                break
            if landed:  # the CONFIRM that was held has its answer now
                self._landings, landed = 0, False
                self._patient = patient = True
            answers += parts
            ran += 1
            written = len(parts[1])
            size += written
            # The clock is read once for four cheap calls, because a reading costs time.  A costly call may
            # use up the turn alone, so the clock is read after it.
            if not ran & 3 or calls.costly or end - start + written > HEAVY:
                over = self._clock() >= turn.until
                if over or size >= FLUSH_SIZE:
                    break
        del spans[:ran]
        turn.calls = 0 if over else turn.calls - ran
        return size

    def _hold(self) -> None:
        """Hold the next call.

        Either all calls of the partition are held, or the call is a CONFIRM whose answer would be "not yet".
        The deadline of a CONFIRM counts from its first run.
        """
        hold, self.ready, self._flush_awaited = self._link.hold, False, self._link.hold is None
        if hold is not None:
            self.held = hold
            return
        # A CONFIRM that waits once more has its deadline from the first wait.
        if not self._landings:
            self._deadline = self._clock() + self._machine.confirm_wait
        self.held = partial(self._machine.encryptor.wait_landing, until=self._deadline)

    # The rest of the class is about all other frames.  They come once in a session, so clear code counts more
    # than speed.

    def _reply(self, event: Event) -> list[bytes]:
        """Return the answer to a frame that is no call; an empty list if it gets no answer."""
        if isinstance(event, Open):
            return [self._open(event)]
        if isinstance(event, OtherVersion):
            return [self._refuse(rules.OPEN_VERSION, event.tag)]
        if isinstance(event, Goodbye):
            self.log.debug("session.goodbye", reason=event.reason, text=event.text)
        return []

    def _open(self, frame: Open) -> bytes:
        machine = self._machine
        found = admit(frame, self._facts, machine.system, self._nonce, machine.has_room, machine.holds.held)
        if isinstance(found, Rule):
            return self._refuse(found, frame.tag, frame.partition, frame.name)
        self._opened(found.partition, frame.name)
        return self._session.send(accepted(frame, found, self._nonce))

    def _opened(self, partition: Partition, client: str) -> None:
        counters = self._machine.counters
        counters.opens[OpenStatus.OPENED] += 1
        self._ipl_count = partition.ipl_count
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
        self.log.warning("session.refused", kind=status, status=status, client=client, **named)
        return self._session.send(frame)

    def _log_refusal(self, refused: Refusal, opcode: int) -> None:
        log_refusal(self.log, refused, opcode)
