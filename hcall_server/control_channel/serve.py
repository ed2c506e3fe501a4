"""The control channel's server: listens at once, loads the HTTP stack when the first request comes.

Hypercorn speaks HTTP, with one `TCPServer` for each connection.  This module accepts and ends connections.
"""

# Why we accept connections ourselves
#
# `hypercorn.trio.serve` would do all of this, but three of its effects are wrong for this server.  An error
# in one connection ends all of them.  A client that does not read delays the stop for ever.  The number of
# connections has no bound.  So this module accepts connections, sets deadlines and ends connections itself.
# Hypercorn only gets a stream for each connection.
#
# The operator must reach the server even if the host is in trouble.  For this there are three rules:
#
#   1. The HTTP stack is loaded at the first request.  Until then it costs neither time nor memory.  If it
#      can't be loaded, the client gets an answer that is made without it.  The next request tries again.
#   2. Some descriptors are reserved for this channel.  So the operator is served even while guests have taken
#      all others.  Clients over TCP do not get the reserve: they are not the operator of this host.
#   3. No client can stay for ever.  A connection has a lifetime, and a deadline for each send.  Over TCP, a
#      client gets a place for requests only after its certificate is verified.

from __future__ import annotations

import contextlib
import math
import socket
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import wait_readable

from hcall_abi.bounds import MAX_REQUEST_BODY
from hcall_abi.scarcity import scarcity_of
from hcall_server.control_channel.loading import loaded
from hcall_server.machine.logs import Log, explained
from hcall_server.machine.machine import Machine
from hcall_server.machine.noise import CONTROL, CONTROL_TCP, PeerLog
from hcall_server.machine.reserve import Reserve

if TYPE_CHECKING:
    import ssl

    from hcall_server.control_channel.http import Http
    from hcall_server.control_channel.tls import TlsHandshakes, TlsStream

MAX_CONNECTIONS = 32
"""Connections served at once; the next ones wait in the socket's queue."""

MAX_HANDSHAKES = 32
"""Connections over TCP that have not finished their handshake; one more ends the oldest of them."""

LIFETIME_SECONDS = 300.0
"""Seconds of the longest life of a connection.  It bounds waits without a deadline of their own, as for an
HTTP/2 flow window."""

GRACE_SECONDS = 2.0
"""Seconds that requests under way have left when the server stops."""

RETRY_SECONDS = 0.1
"""Seconds before another try if the host accepts no connection."""

ASKING_SECONDS = 1.0
"""Seconds in which a client has to send its request, if the server can't load its HTTP stack."""

REQUEST_BYTES = MAX_REQUEST_BODY + 64 * 1024
"""Bytes: more than a request with its largest body."""

_log = Log()


async def serve_control(
    machine: Machine,
    listen_socket: socket.socket,
    *,
    tls: ssl.SSLContext | None = None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the control channel of `machine` on a listening stream socket until cancelled.

    With `tls` the socket is one of TCP.  Each client has to show a certificate before anything is served.

    When cancelled, this accepts no more connections.  Requests that have begun get `GRACE_SECONDS`.  The
    socket still belongs to the caller: it is not closed here, and not used after the return.
    """
    listen_socket.setblocking(False)
    failed = ""
    log = PeerLog(machine.noise.of(CONTROL_TCP if tls else CONTROL), _log)
    handshakes = _tls_handshakes(tls, log) if tls else None
    with closing(machine.reserve) as reserve:
        task_status.started()
        while True:
            reserve.refill()
            await wait_readable(listen_socket)
            try:
                http = await loaded(lambda: _load(machine), reserve)
            except Exception as error:
                before, failed = failed, repr(error)
                if failed != before:  # without descriptors it fails ten times a second
                    log.error("control.not_loaded", **_reason(error))
                if handshakes:
                    await trio.sleep(ASKING_SECONDS)  # before its handshake, a client over TCP gets no answer
                else:
                    await _turn_away(listen_socket, reserve, error)
            else:
                await _ControlListener(machine, listen_socket, http, log, handshakes).run()


def _tls_handshakes(context: ssl.SSLContext, log: PeerLog) -> TlsHandshakes:
    from hcall_server.control_channel.tls import TlsHandshakes

    return TlsHandshakes(context, log)


def _load(machine: Machine) -> Http:
    """Import the stack; runs in a thread."""
    from hcall_server.control_channel.app import make_app
    from hcall_server.control_channel.http import Http

    return Http(make_app(machine))


async def _turn_away(listen_socket: socket.socket, reserve: Reserve, error: Exception) -> None:
    """Answer the waiting connection with a problem, made without the HTTP stack."""
    answer = _answer(error)
    try:
        accepted = reserve.accept(listen_socket)
    except OSError:
        # The connection still waits.  Without this pause, the loop would use a whole processor.
        await trio.sleep(RETRY_SECONDS)
        return
    async with trio.SocketStream(trio.socket.from_stdlib_socket(accepted)) as stream:
        with trio.move_on_after(ASKING_SECONDS), contextlib.suppress(trio.BrokenResourceError):
            # The request is read before the answer.  To close with unread bytes would reset the connection,
            # and the client could lose the answer.
            await stream.receive_some(REQUEST_BYTES)
            await stream.send_all(answer)


def _answer(error: Exception) -> bytes:
    """Return the answer that needs no HTTP stack.

    b"" if not even its module can be loaded.
    """
    try:
        from hcall_server.control_channel.by_hand import answer_by_hand
    except (OSError, ImportError, MemoryError):
        return b""
    return answer_by_hand(error)


def _reason(error: Exception) -> dict[str, Any]:
    """Return the log fields of an error: the scarce resource, or the trace of a bug."""
    found = scarcity_of(error)
    return explained(found) if found else {"exc_info": error}


class _ControlListener:
    """Accepts connections, and applies the bounds to each of them."""

    def __init__(
        self,
        machine: Machine,
        listen_socket: socket.socket,
        http: Http,
        log: PeerLog,
        handshakes: TlsHandshakes | None,
    ) -> None:
        self._machine = machine
        self._tls = handshakes
        self._socket = listen_socket
        self._log = log
        self._http = http
        self._reserve = machine.reserve
        self._reserve.refill()
        self._room = trio.Semaphore(MAX_CONNECTIONS)
        self._handshakes: list[trio.CancelScope] = []
        self._scopes: set[trio.CancelScope] = set()
        self._deadline = math.inf

    async def run(self) -> None:
        """Accept connections until this task is cancelled.

        After that, requests that have begun get GRACE_SECONDS to end.
        """
        async with trio.open_nursery() as connections:
            try:
                while True:
                    if self._tls:
                        # Over TCP a client gets its place only after the handshake.  Otherwise clients
                        # without a certificate could take all places.
                        connections.start_soon(self._admit, self._tls, await self._next())
                    else:
                        await self._room.acquire()
                        connections.start_soon(self._serve, await self._next())
            finally:
                # Streams of events end now.  Otherwise their connections would stay open for all of the grace
                # time.
                self._machine.events.stop()
                await self._http.stop()
                self._deadline = trio.current_time() + GRACE_SECONDS
                for scope in self._scopes:
                    scope.deadline = min(scope.deadline, self._deadline)

    async def _next(self) -> trio.SocketStream:
        """Return the next connection.

        A connection that its client closes before the accept is skipped.
        """
        logged = False
        while True:
            await wait_readable(self._socket)
            if self._tls:
                await self._reserve.wait_whole()
            try:
                accepted = self._accept()
            except (BlockingIOError, ConnectionAbortedError):
                continue
            except OSError as error:
                # The most probable reason is too many open files.  Connections of the data channel have them,
                # and will release some.
                if not logged:  # log it once, and not ten times a second
                    logged = True
                    self._log.warning("control.not_accepted", **_reason(error))
                await trio.sleep(RETRY_SECONDS)
                continue
            return trio.SocketStream(trio.socket.from_stdlib_socket(accepted))

    def _accept(self) -> socket.socket:
        """Accept a connection; only a client on this host may use the reserve of descriptors."""
        return self._socket.accept()[0] if self._tls else self._reserve.accept(self._socket)

    async def _admit(self, handshakes: TlsHandshakes, plain: trio.SocketStream) -> None:
        """Serve a connection over TCP after its handshake.

        A client gets a place for requests only after its handshake, and waits until one is free.  If too many
        clients are in their handshakes, the oldest handshake ends.  A stop of the server ends all handshakes
        at once.
        """
        admitted: TlsStream | None = None
        placed, handshake = False, trio.CancelScope()
        try:
            with handshake:
                self._handshakes.append(handshake)
                if len(self._handshakes) > MAX_HANDSHAKES:
                    self._handshakes.pop(0).cancel()
                admitted = await handshakes.admit(plain)
            if admitted:
                self._leave(handshake)
                await self._room.acquire()
                placed = True
        except Exception as error:
            self._log.error("control.connection_failed", exc_info=error)
        finally:
            self._leave(handshake)
            if not placed:
                plain.socket.close()
        if admitted and placed:
            await self._serve(admitted)

    def _leave(self, handshake: trio.CancelScope) -> None:
        if handshake in self._handshakes:
            self._handshakes.remove(handshake)

    async def _serve(self, stream: trio.SocketStream | TlsStream) -> None:
        # The server may have stopped while the handshake ended, so its deadline counts too.
        lifetime = min(trio.current_time() + LIFETIME_SECONDS, self._deadline)
        # The stop cancels the nursery, but a request may still end.  So this scope is shielded, and `run`
        # sets its deadline.
        with trio.CancelScope(shield=True, deadline=lifetime) as scope:
            self._scopes.add(scope)
            place = ExitStack()
            place.callback(self._room.release)

            def exempt() -> None:
                scope.deadline = math.inf
                place.close()

            try:
                await self._http.converse(stream, exempt)
            except Exception as error:
                # Only this connection ends.  All others go on, and so does the data channel.
                self._log.error("control.connection_failed", exc_info=error)
            finally:
                self._scopes.discard(scope)
                stream.socket.close()
                self._reserve.refill()
                place.close()
