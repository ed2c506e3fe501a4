"""The data channel over plain sockets: one thread, no event loop, no Trio.

    with BlockingChannel.connect("state/run/lpar1.sock", timeout=5) as channel:
        config = channel.call(get_config())

While it sends, the channel also receives, so a pipeline larger than the socket's buffers cannot
deadlock.  A channel belongs to one thread at a time, and to the process that opened it: a forked process
opens one of its own.
"""

# One thread, both directions
#
# The socket does not block. One loop (`_step`) waits until the socket can send or has bytes, and sends or
# receives them. A blocking `sendall` would be shorter, but it deadlocks: a server stops reading a connection
# while its answers are not taken (spec/protocol.md#deadlines). If a pipeline is larger than the buffers of
# both ends, both wait: the client in `sendall`, the server in its own send.
#
# A call that runs into the timeout stays in the queue of the conversation. Its late answer finishes it there,
# and no caller reads that answer. The answers after it still belong to their own calls. So the channel stays
# usable.
#
# `poll` is used and not `select.select`, which fails for descriptors from 1024 on.

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar

from hcall_abi.errors import PeerError
from hcall_abi.frames import Opened
from hcall_abi.mistakes import WrongType, check_time_limit, of_caller
from hcall_abi.structures import Config
from hcall_client.calls import get_config
from hcall_client.conversation import HIGH_WATER, RECEIVE_SIZE, Conversation, OpenRequest, Pending, ticket_of
from hcall_client.errors import ConnectionLost, HcallError, OpenRefused
from hcall_client.mistakes import check_place, several
from hcall_client.patience import Attempts, Patience, milliseconds
from hcall_client.request import Request
from hcall_client.results import result_of, results_of
from hcall_client.right_socket import Place, check_silent, connect_data, silence

T = TypeVar("T")

Target = str | os.PathLike[str] | tuple[str, int] | socket.socket
"""The address of the server: a Unix socket's path, a TCP host and port, or a connected socket."""

__tracebackhide__ = of_caller
_EXAMPLE = 'BlockingChannel.connect("state/run/lpar1.sock")'
GOODBYE_PATIENCE = 0.5
"""Seconds that a closing channel waits to send its GOODBYE."""


class BlockingChannel:
    """An open session with one partition; made by `connect`.

    `timeout` is the longest time in seconds for each call, each pipeline and the opening (None: for ever).
    After that TimeoutError is raised, and the call may or may not have run.  The channel stays usable.  Late
    answers are dropped.  A pause of this process uses almost none of the timeout (`hcall_client.patience`).
    """

    def __init__(
        self,
        sock: socket.socket,
        opening: OpenRequest | None = None,
        timeout: float | None = None,
        patience: Patience | None = None,
    ) -> None:
        given: object = sock
        if not isinstance(given, socket.socket) or not isinstance(opening, OpenRequest):
            raise WrongType(f"a BlockingChannel is made by connect: write {_EXAMPLE}")
        self.timeout = timeout
        self._socket = sock
        self._conversation = Conversation(opening)
        self._poll = select.poll()
        self._limits: Config | None = None
        sock.setblocking(False)
        # The greeting is the last line, because it uses all other fields. If it raises, `_open` closes the
        # socket.
        self._opened = self._greet(patience or self._patience())

    @classmethod
    def connect(
        cls,
        target: Target,
        *,
        partition: int = 0,
        access_key: bytes | None = None,
        name: str = "hcall_client",
        timeout: float | None = None,
    ) -> Self:
        """Connect and open a session.

        `partition` 0 means the only partition of the listener.  With `access_key` both ends prove that they
        hold the key.  Raises OpenRefused with the server's status, another PeerError for a server that
        breaks the protocol, and OSError (NotReached or TimeoutError too) if there is no server.  WrongSocket
        if another kind of thing is at the place.

        If the server has no free place for a session, the client repeats the attempt within `timeout`.
        After that it raises the last refusal (spec/protocol.md#waiting).  Without a timeout, the client
        waits only for a full queue, and raises a refusal at once.  If the target is a connected socket,
        there is only one attempt.
        """
        check_place(target, socket.socket, _EXAMPLE)
        check_time_limit("timeout", timeout)
        # The clock starts here: name lookup, connect and opening share one timeout.
        opening, patience = ticket_of(partition, access_key, name), Patience(timeout, time.monotonic)
        # A connected socket can be used once. A second attempt would need a new connection.
        if isinstance(target, socket.socket):
            return cls._open(target, opening, timeout, patience)
        try:
            return cls.reach(lambda: target, opening, timeout, Attempts(patience))
        except (OSError, PeerError, OpenRefused) as error:
            from hcall_client.unreached import not_reached  # here, because only a failure needs it

            raise not_reached(error, target) from None

    @classmethod
    def reach(
        cls,
        locate: Callable[[], Target],
        opening: OpenRequest,
        timeout: float | None,
        attempts: Attempts,
    ) -> Self:
        """Open a session at the place that `locate` returns; each attempt calls `locate` again."""
        while True:
            try:
                attempts.ask()
                place = locate()
                attempts.go_to(place)
                sock = _connect(place, attempts.patience)
                return cls._open(sock, opening, timeout, attempts.patience)
            # `pause_after` raises the error if another attempt would not help.
            except (OSError, OpenRefused, PeerError, LookupError) as error:
                time.sleep(attempts.pause_after(error))

    @classmethod
    def _open(
        cls, sock: socket.socket, opening: OpenRequest, timeout: float | None, patience: Patience
    ) -> Self:
        try:
            return cls(sock, opening, timeout, patience)
        except BaseException:
            sock.close()
            raise

    def __repr__(self) -> str:
        return f"BlockingChannel(partition {self.partition}, {'over' if self.ended else 'open'})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __aenter__(self) -> NoReturn:
        self.close()
        raise WrongType("a BlockingChannel is not asynchronous: write `with`, or take open_channel(...)")

    __aexit__ = __aenter__

    @property
    def partition(self) -> int:
        """The partition's id."""
        return self._opened.partition

    @property
    def ipl_count(self) -> int:
        """How many IPLs the partition has had, this one included."""
        return self._opened.ipl_count

    @property
    def level(self) -> str:
        """The emulated firmware level's name, such as FW1110."""
        return self._opened.level

    @property
    def ended(self) -> Exception | None:
        """The error that ended the session, or None while it lasts."""
        return self._conversation.ended

    def call(self, request: Request[T]) -> T:
        """Make one h-call and return its result; HcallError where it is refused."""
        patience = self._patience()
        pending = self._conversation.submit(request)
        self._settle(pending, patience)
        return result_of(request, pending, self.complain)

    def pipeline(self, requests: Iterable[Request[T]]) -> list[T | HcallError]:
        """Make many h-calls without waiting in between; they run in the order given.

        Returns a result or the refusal for each.  Raises the error that ends the session.
        """
        # The requests are put into a list, because they are needed a second time, to parse the answers.
        asked = list(several(requests))
        sent = self.run(asked)
        if self.ended and len(sent) < len(asked):
            raise self.ended
        return results_of(zip(asked, sent, strict=True), self.complain)

    def run(self, requests: Iterable[Request[Any]]) -> list[Pending]:
        """Make many h-calls as `pipeline` does, and return them in their order.

        It also returns if the session ends.  Each call in the list has an answer or an error.  Calls that
        were not queued before the end are missing.
        """
        patience = self._patience()
        sent: list[Pending] = []
        for request in requests:
            if self.ended:
                break
            sent.append(self._conversation.submit(request))
            # A pipeline that a generator produces may have any length. This loop bounds its memory.
            while len(self._conversation.outgoing) > HIGH_WATER and not self.ended:
                self._step(patience)
        # Answers come in order, so the answer of the last call is the last answer.
        if sent:
            self._settle(sent[-1], patience)
        return sent

    def limits(self) -> Config:
        """Return the answer of the channel's first GET_CONFIG; its `used_space` is not updated later."""
        if self._limits is None:
            self._limits = self.call(get_config())
        return self._limits

    def close(self) -> None:
        """Send GOODBYE, for at most `GOODBYE_PATIENCE` seconds, and close the socket."""
        # The channel is closed already: callers may close it inside of its `with` block.
        if self._socket.fileno() < 0:
            return
        self._conversation.goodbye()
        patience = Patience(GOODBYE_PATIENCE, time.monotonic)
        try:
            while self._conversation.outgoing:
                self._step(patience)
        except TimeoutError:
            pass
        self._socket.close()

    def _greet(self, patience: Patience) -> Opened:
        conversation = self._conversation
        while conversation.opened is None and conversation.ended is None:
            self._step(patience)
        # `complain` may have queued a GOODBYE 1 that names the rule that the server broke.
        if conversation.opened is None or conversation.ended is not None:
            self._flush_complaint()
            raise conversation.ended or ConnectionLost()
        return conversation.opened

    def advise(self, remedies: Mapping[int | None, str]) -> None:
        """Add remedies to the ends of the session, by the reason of GOODBYE; None is an end without one."""
        self._conversation.remedies = remedies

    def complain(self, error: PeerError) -> None:
        """End the session because an answer breaks a rule."""
        self._conversation.complain(error)
        self._flush_complaint()

    def _settle(self, pending: Pending, patience: Patience) -> None:
        while not pending.done:
            self._step(patience)

    def _patience(self) -> Patience:
        return Patience(self.timeout, time.monotonic)

    def _step(self, patience: Patience) -> None:
        """Wait until the socket can send or has received bytes, then send or receive them.

        Raises TimeoutError once the time is over, also if the socket is ready.
        """
        ready = self._wait(patience)
        try:
            # `recv` follows each of POLLIN, POLLHUP and POLLERR, because it alone returns the bytes or raises
            # the error. It precedes the send: if a GOODBYE was received, nothing may be sent.
            if ready & ~select.POLLOUT:
                self._receive()
            if ready & select.POLLOUT:
                self._send()
        except OSError as error:
            self._lose(error)

    def _wait(self, patience: Patience) -> int:
        """Wait until the socket can send or receive, and return its events of `poll`."""
        waiting = select.POLLOUT if self._conversation.outgoing else 0
        self._poll.register(self._socket, select.POLLIN | waiting)
        while True:
            if ready := self._poll.poll(milliseconds(patience.look())):
                return ready[0][1]

    def _receive(self) -> None:
        try:
            data = self._socket.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return
        # The server has closed. It reads nothing more, so `close` must not wait to send to it.
        if not data:
            self._conversation.outgoing.clear()
        self._conversation.receive(data)

    def _send(self) -> None:
        outgoing = self._conversation.outgoing
        try:
            # A slice of the bytearray would copy all waiting bytes for each piece that the socket takes. A
            # view copies none.
            sent = self._socket.send(memoryview(outgoing)[:HIGH_WATER])
        except BlockingIOError:
            return
        del outgoing[:sent]

    def _lose(self, error: OSError) -> None:
        """End the conversation after a broken connection.

        If the server has sent a GOODBYE before the break, it is read first.
        """
        self._conversation.outgoing.clear()
        # If the server closes while unread bytes of ours remain, its kernel resets the connection. The send
        # then fails. But the server's GOODBYE is already in our socket, and can still be read.
        try:
            while not self._conversation.ended and (data := self._socket.recv(RECEIVE_SIZE)):
                self._conversation.receive(data)
        except OSError:
            pass
        self._conversation.end(ConnectionLost(f"the connection broke ({error.strerror or error})"))

    def _flush_complaint(self) -> None:
        """Send a pending GOODBYE, if the socket takes it at once."""
        try:
            if self._conversation.outgoing:
                self._send()
        except OSError:
            pass
        self._conversation.outgoing.clear()


def _connect(target: Target, patience: Patience) -> socket.socket:
    check_place(target, socket.socket, _EXAMPLE)  # `locate` may have returned anything
    if isinstance(target, socket.socket):
        return target
    sock = _connect_tcp(*target, patience) if isinstance(target, tuple) else connect_data(target)
    try:
        _await_greeting(sock, target, patience)
    except BaseException:
        sock.close()
        raise
    return sock


def _await_greeting(sock: socket.socket, place: Place, patience: Patience) -> None:
    """Wait a short time for the first bytes; if there are none, raise WrongSocket for another kind."""
    seconds, poll = silence(patience), select.poll()
    poll.register(sock, select.POLLIN)
    if not poll.poll(milliseconds(seconds)):
        check_silent(place, seconds)


def _connect_tcp(host: str, port: int, patience: Patience) -> socket.socket:
    """Connect to the first address of a host that answers; if none does, raise the last OSError.

    An address that never answers must leave time for those after it.  So each address gets an equal share of
    the time that is left, and the last address all of it.  An address that refuses at once leaves its share
    to the others.  `socket.create_connection` would give the whole time to each address.  Trio begins with
    the next address after 0.25 s, and uses the first connection that is made.  That is faster, but needs an
    event loop.
    """
    patience.rest()  # a slow name lookup counts in full
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for rest, (family, kind, protocol, _, address) in zip(range(len(found), 0, -1), found, strict=True):
        try:
            return _connect_address(socket.socket(family, kind, protocol), address, patience, rest)
        except OSError:
            if rest == 1:
                raise
    raise AssertionError("getaddrinfo returns an address or raises")


def _connect_address(sock: socket.socket, address: Any, patience: Patience, rest: int) -> socket.socket:
    """Connect, and return the socket; on failure close it.

    The time that is left is shared equally by `rest` addresses, of which this is the first.
    """
    try:
        sock.settimeout(patience.share(rest))
        sock.connect(address)
        # Without this option the kernel would delay a small call until the earlier call is acknowledged.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock
