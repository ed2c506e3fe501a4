"""The control channel's server: listens at once, loads the HTTP stack when the first request comes.

HTTP itself is Hypercorn's, one `TCPServer` a connection.  Three effects of `hypercorn.trio.serve` are
wrong for us.  An error in one connection ends all.  A client that does not read delays the stop for
ever.  The number of connections has no bound.  So accepting, deadlines and the end of a connection are
our own.
"""

from __future__ import annotations

import contextlib
import socket
from contextlib import closing
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import wait_readable

from hcall_abi.bounds import MAX_REQUEST_BODY
from hcall_abi.scarcity import scarcity_of
from hcall_server.control_channel.loading import loaded
from hcall_server.machine.logs import Log, explained
from hcall_server.machine.machine import Machine
from hcall_server.machine.noise import CONTROL, PeerLog
from hcall_server.machine.reserve import Reserve

if TYPE_CHECKING:
    from hcall_server.control_channel.http import Http

MAX_CONNECTIONS = 32
"""Connections served at once; the next ones wait in the socket's queue."""

LIFETIME_SECONDS = 300.0
"""The longest life of a connection: bounds what no other deadline does, such as an HTTP/2 flow window."""

GRACE_SECONDS = 2.0
"""How long requests that are under way may still take when the server stops."""

RETRY_SECONDS = 0.1
"""How long to wait when the system gives no more connections."""

ASKING_SECONDS = 1.0
"""How long the client of a server that cannot load its HTTP stack may take to send a request."""

REQUEST_BYTES = MAX_REQUEST_BODY + 64 * 1024
"""More than a request with its largest body."""

_log = Log()


async def serve_control(
    machine: Machine,
    listen_socket: socket.socket,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the control channel of `machine` on a listening stream socket until cancelled.

    The socket stays the caller's: it is neither closed nor, after this returns, used.  When cancelled,
    accepts no more and gives requests under way `GRACE_SECONDS`.
    """
    listen_socket.setblocking(False)
    failed = ""
    log = PeerLog(machine.noise.of(CONTROL), _log)
    with closing(machine.reserve) as reserve:
        task_status.started()
        while True:
            reserve.refill()
            await wait_readable(listen_socket)
            try:
                http = await loaded(lambda: _load(machine), reserve)
            except Exception as error:
                before, failed = failed, repr(error)
                if failed != before:  # without a descriptor it fails ten times a second
                    log.error("control.not_loaded", **_reason(error))
                await _turn_away(listen_socket, reserve, error)
            else:
                await _ControlListener(listen_socket, http, reserve, log).run()


def _load(machine: Machine) -> Http:
    """Import the stack; runs in a thread."""
    from hcall_server.control_channel.app import make_app
    from hcall_server.control_channel.http import Http

    return Http(make_app(machine))


async def _turn_away(listen_socket: socket.socket, reserve: Reserve, error: Exception) -> None:
    """Answer the connection that waits with a problem, without the HTTP stack.  The next one tries again."""
    answer = _answer(error)
    try:
        accepted = reserve.accept(listen_socket)
    except OSError:
        await trio.sleep(RETRY_SECONDS)  # the connection still waits: without a pause this would spin
        return
    async with trio.SocketStream(trio.socket.from_stdlib_socket(accepted)) as stream:
        with trio.move_on_after(ASKING_SECONDS), contextlib.suppress(trio.BrokenResourceError):
            await stream.receive_some(REQUEST_BYTES)
            await stream.send_all(answer)


def _answer(error: Exception) -> bytes:
    """Return the answer to a request without the HTTP stack; b"" where even this cannot be loaded."""
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
    """Accepts connections, and holds each of them to its bounds."""

    def __init__(self, listen_socket: socket.socket, http: Http, reserve: Reserve, log: PeerLog) -> None:
        self._socket = listen_socket
        self._log = log
        self._http = http
        self._reserve = reserve
        self._reserve.refill()
        self._room = trio.Semaphore(MAX_CONNECTIONS)
        self._scopes: set[trio.CancelScope] = set()

    async def run(self) -> None:
        """Accept until cancelled, then let the requests that are under way end."""
        async with trio.open_nursery() as connections:
            try:
                while True:
                    await self._room.acquire()
                    connections.start_soon(self._serve, await self._next())
            finally:
                await self._http.stop()
                deadline = trio.current_time() + GRACE_SECONDS
                for scope in self._scopes:
                    scope.deadline = min(scope.deadline, deadline)

    async def _next(self) -> trio.SocketStream:
        """Return the next connection; one that is gone before it is accepted does not count."""
        logged = False
        while True:
            await wait_readable(self._socket)
            try:
                accepted = self._reserve.accept(self._socket)
            except (BlockingIOError, ConnectionAbortedError):
                continue
            except OSError as error:
                # Most likely too many open files: the data channel has them, and gives some back.
                if not logged:  # ten lines a second would say nothing more
                    logged = True
                    self._log.warning("control.not_accepted", **_reason(error))
                await trio.sleep(RETRY_SECONDS)
                continue
            return trio.SocketStream(trio.socket.from_stdlib_socket(accepted))

    async def _serve(self, stream: trio.SocketStream) -> None:
        lifetime = trio.current_time() + LIFETIME_SECONDS
        # Shielded: when the server stops, run() sets the deadline instead.
        with trio.CancelScope(shield=True, deadline=lifetime) as scope:
            self._scopes.add(scope)
            try:
                await self._http.converse(stream)
            except Exception as error:
                # This connection ends; all others, and the data channel, go on.
                self._log.error("control.connection_failed", exc_info=error)
            finally:
                self._scopes.discard(scope)
                stream.socket.close()
                self._reserve.refill()
                self._room.release()
