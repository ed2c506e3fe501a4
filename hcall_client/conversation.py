"""The client's side of one data channel without I/O: greeting, proof, calls and their answers.

Both channels (`hcall_client.channel` and `hcall_client.blocking`) add a stream: they pass received bytes to
`receive` and send the bytes of `outgoing`.  Answers come in the order of the calls, so the waiting calls are
a queue.  A call whose caller was cancelled keeps its place, and its answer is dropped.

A forked process has a copy of the conversation and of its socket. If the copy sent a frame, the first
process could lose its session or an answer. So the copy sends nothing.
"""

# The client's side of a session: one queue of calls, one reason for the end
#
# Two channels use this module, one with an event loop and one without. Both must treat a bad answer, a lost
# connection and a GOODBYE alike. So everything but the stream is here, and every test of it needs no
# socket. It guarantees:
#
#   1. Each submitted call is finished exactly once: with its answer, or with the error that ended the
#      session.
#   2. A session ends once, with the first reason. A later reason changes nothing.
#   3. `receive` never raises. In the Trio channel it runs in a task of its own, which has no caller. Errors
#      reach the callers through their calls.
#
# Answers come in the order of the calls (`hcall_abi.exchange`). So the pending calls are a queue, and an
# answer belongs to the first call of the queue. A dictionary by tag would find the same call at a higher
# price.
#
# A caller that is cancelled leaves its `Pending` in the queue. If it were taken out, the answer on its way
# would finish the next call instead.
#
# `end` first stores the error, then finishes the pending calls in their order. A callback that submits a
# call meanwhile gets the error. The order matters to `hcall_client.following`, which queues these calls for
# the next session.
#
# After the end this client sends the GOODBYE that it owes, and no more. If the peer has said GOODBYE, the
# bytes that wait are dropped as well, because the peer reads nothing more.

from __future__ import annotations

import os
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from hcall_abi.errors import PeerError, SwpksError
from hcall_abi.frames import (
    HCALL_HEAD,
    NONCE_SIZE,
    SEGMENT,
    VERSION,
    Access,
    Goodbye,
    GoodbyeReason,
    Hello,
    HReturn,
    Open,
    Opened,
    OpenStatus,
    ProofKind,
)
from hcall_abi.mistakes import WrongValue, check_bytes, check_number, check_text, of_caller
from hcall_abi.proof import NO_PROOF, client_proof, proofs_equal, server_proof
from hcall_abi.session import Event, Role, Session, SessionState, complaint
from hcall_client.errors import (
    CallTooLarge,
    ConnectionLost,
    OpenRefused,
    ServerNotProven,
    SessionEnded,
    in_flight,
    with_remedy,
)
from hcall_client.mistakes import no_request
from hcall_client.request import Request

__tracebackhide__ = of_caller
HIGH_WATER = 64 * 1024
"""Bytes that may wait to be sent before a pipeline waits for room."""
RECEIVE_SIZE = 64 * 1024
"""How many bytes a channel asks its stream for at a time."""

_HEAD_SIZE: int = HCALL_HEAD.sizeof()
_SEGMENT_SIZE: int = SEGMENT.sizeof()


class OpenRequest(NamedTuple):
    """The partition that a client opens, and its access key.

    Partition 0 means the only partition of the listener.  With a key the client proves that it holds the key,
    and the server has to prove the same.
    """

    partition: int = 0
    access_key: bytes | None = None
    name: str = "hcall_client"

    def __repr__(self) -> str:
        return f"OpenRequest(partition={self.partition}, name={self.name!r})"


def ticket_of(partition: int, access_key: bytes | None, name: str) -> OpenRequest:
    """Return an open request; WrongType for an argument of the wrong type, before anything is sent."""
    check_number("partition, the id of the partition,", partition)
    check_text("name, the name of this client,", name)
    if access_key is not None:
        check_bytes("access_key", access_key)
    return OpenRequest(partition, access_key, name)


class Pending:
    """A call in flight.

    When the call has an answer or an error, `on_done` is called once, if it is set.
    """

    __slots__ = ("answer", "error", "on_done", "opcode")

    def __init__(self, opcode: int) -> None:
        self.opcode = opcode
        self.answer: HReturn | None = None
        self.error: SwpksError | None = None
        self.on_done: Callable[[], object] | None = None

    @property
    def done(self) -> bool:
        """Whether there is an answer, or an error because none will come."""
        return self.answer is not None or self.error is not None

    def finish(self, answer: HReturn | None, error: SwpksError | None = None) -> None:
        """Store the answer, or the reason why there is none."""
        self.answer, self.error = answer, error
        if self.on_done is not None:
            self.on_done()

    def result(self) -> HReturn:
        """Return the answer, or raise the error that is the reason why there is none."""
        if self.answer is None:
            raise self.error or ConnectionLost("the call was not answered")
        return self.answer


class Conversation:
    """One session from the client's side: greeting, proof, calls and their answers.

    `opened` is the server's OPENED once the session is open.  `ended` is the error that ended the
    session: from then on every call raises it.  `process` is the process that has the session.  `remedies`
    end the message of an end by a GOODBYE, by its reason; None is the end of a connection without one.
    """

    def __init__(self, opening: OpenRequest) -> None:
        if (
            opening.access_key == b""
            or len(opening.name.encode()) > 255
            or not 0 <= opening.partition < 1 << 16
        ):
            raise WrongValue(
                "an open request has a key that is not empty, a name of 255 bytes, a 16-bit partition id"
            )
        self.opening = opening
        # This id is compared before each send. A forked process has copies of this object and of the socket,
        # and must not send.
        self.process = os.getpid()
        self.outgoing = bytearray()
        self.opened: Opened | None = None
        self.ended: SwpksError | None = None
        self.remedies: Mapping[int | None, str] = {}
        self._session = Session(Role.CLIENT)
        self._hello: Hello | None = None
        self._nonce = secrets.token_bytes(NONCE_SIZE)
        self._pending: deque[Pending] = deque()
        self._tag = 0

    def receive(self, data: bytes) -> None:
        """Process received bytes; b"" is the end of the stream.  Never raises: errors end the session."""
        # Bytes after the end are dropped. The peer may have sent them before it read our GOODBYE.
        if self.ended is not None:
            return
        try:
            if data:
                self._session.receive_data(data)
                for event in self._session.events():
                    self._take(event)
            else:
                self._session.receive_eof()
                self.end(ConnectionLost())
        except PeerError as error:
            self.complain(error)

    def submit(self, request: Request[Any]) -> Pending:
        """Queue a call for sending; raises the error that ended the session, or CallTooLarge.

        RuntimeError in a forked process, TypeError for a value that is no request.
        """
        if self.ended is not None:
            raise self.ended
        if os.getpid() != self.process:
            raise RuntimeError(
                f"process {self.process} opened this channel; a forked process opens one of its own"
            )
        try:
            size = _body_size(request)
        except AttributeError:
            raise no_request(request, "get_config()") from None
        # The size is checked before the frame is made. The session would refuse the frame too, but as an
        # error in this program. Here the caller gets an error with both sizes, and the session goes on.
        if self._hello is not None and size > self._hello.max_body:
            raise CallTooLarge(size, self._hello.max_body)
        # Tags may repeat after 2**32 calls: only the order of the answers counts.
        self._tag = (self._tag + 1) & 0xFFFFFFFF
        self.outgoing += self._session.send(request.frame(self._tag))
        pending = Pending(request.opcode)
        self._pending.append(pending)
        return pending

    def take_outgoing(self) -> bytes:
        """Return the bytes to send, and empty `outgoing`."""
        data = bytes(self.outgoing)
        self.outgoing.clear()
        return data

    def complain(self, error: SwpksError) -> None:
        """End the session because the server broke a rule.

        The client sends a GOODBYE that names the rule.
        """
        self._say(complaint(error))
        self.end(error)

    def goodbye(self) -> None:
        """End the session with GOODBYE 0, because this end has no more calls."""
        self._say(Goodbye(GoodbyeReason.DONE, ""))
        self.end(SessionEnded(GoodbyeReason.DONE, "closed by this end; open another channel"))

    def end(self, error: SwpksError) -> None:
        """End the session: every call that waits, and every later one, raises `error` (see `in_flight`)."""
        if self.ended is None:
            self.ended = error = self._advised(error)
            while self._pending:
                pending = self._pending.popleft()
                pending.finish(None, in_flight(error, pending.opcode))

    def _advised(self, error: SwpksError) -> SwpksError:
        reason = error.reason if isinstance(error, SessionEnded) else None
        remedy = self.remedies.get(reason) if isinstance(error, SessionEnded | ConnectionLost) else None
        return with_remedy(error, remedy) if remedy else error

    def _say(self, goodbye: Goodbye) -> None:
        # A forked copy must not end the session of its parent. It also drops waiting bytes: the parent has
        # the same bytes, and sends them.
        if os.getpid() != self.process:
            self.outgoing.clear()
        elif self.ended is None and self._session.state is not SessionState.CLOSED:
            self.outgoing += self._session.send(goodbye)

    def _take(self, event: Event) -> None:
        match event:
            case HReturn():
                # The session has checked that the tag is that of the oldest call, so the queue is not
                # empty.
                self._pending.popleft().finish(event)
            case Hello():
                self._greet(event)
            case Opened():
                self._admit(event)
            case Goodbye():
                self.outgoing.clear()  # the server takes nothing more
                self.end(SessionEnded(event.reason, event.text))
            case _:
                pass

    def _greet(self, hello: Hello) -> None:
        """Answer HELLO with OPEN."""
        self._hello = hello
        if not hello.lowest <= VERSION <= hello.highest:
            # Without this GOODBYE, the server would log a client that closes for no reason.
            self._say(Goodbye(GoodbyeReason.DONE, f"this client speaks version {VERSION} only"))
            self.end(OpenRefused(OpenStatus.VERSION_NOT_SUPPORTED))
            return
        # The proof is over both nonces, so it can only be made now that HELLO has come.
        partition, key, name = self.opening
        proof = client_proof(key, hello.nonce, self._nonce, partition) if key else NO_PROOF
        kind = ProofKind.HMAC_SHA256 if key else ProofKind.NONE
        self.outgoing += self._session.send(Open(1, partition, kind, self._nonce, proof, name))

    def _admit(self, opened: Opened) -> None:
        """Open the session by OPENED; ServerNotProven if a key was given and the proof is wrong."""
        if opened.status != OpenStatus.OPENED:
            from hcall_client.open_advice import refused_open  # here, because only a refusal needs it

            self.end(refused_open(opened.status, self.opening.partition, self.opening.access_key))
            return
        partition, key, _ = self.opening
        # A wrong proof raises an error, so that `receive` sends GOODBYE 1 with the rule. No call can have
        # been sent yet, so an impostor has seen no password.
        if key and self._hello:
            expected = server_proof(key, self._hello.nonce, self._nonce, partition)
            if not proofs_equal(opened.proof, expected):
                raise ServerNotProven
        self.opened = opened


def _body_size(request: Request[Any]) -> int:
    carried = sum(len(segment.data) for segment in request.segments if segment.access & Access.IN)
    return _HEAD_SIZE + _SEGMENT_SIZE * len(request.segments) + carried
