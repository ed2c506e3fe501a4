"""The control channel's server: listens at once, loads the HTTP stack when the first request comes.

HTTP itself is Hypercorn's, one `TCPServer` a connection.  Accepting, deadlines and the end of a
connection are ours, because of what `hypercorn.trio.serve` would do: an error in one connection
ends them all, a client that does not read its answer holds up the stop of the server for ever, and
the number of connections has no bound.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import wait_readable

from hcall_server.control_channel.loading import beside_the_loop
from hcall_server.machine.logs import Log
from hcall_server.machine.machine import Machine
from hcall_server.machine.noise import CONTROL, PeerLog

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
    task_status.started()
    log = PeerLog(machine.noise.of(CONTROL), _log)
    while True:
        await wait_readable(listen_socket)
        try:
            # A thread, so that the data channel goes on meanwhile.
            http = await trio.to_thread.run_sync(_load, machine)
        except Exception as error:
            log.error("control.not_loaded", exc_info=error)
            _hang_up(listen_socket)
        else:
            await _ControlListener(listen_socket, http, log).run()


def _load(machine: Machine) -> Http:
    """Import the stack; runs in a thread."""
    with beside_the_loop():
        from hcall_server.control_channel.app import make_app
        from hcall_server.control_channel.http import Http
    return Http(make_app(machine))


def _hang_up(listen_socket: socket.socket) -> None:
    """Close the connection that waits; the next one tries again."""
    try:
        listen_socket.accept()[0].close()
    except OSError:
        return


class _ControlListener:
    """Accepts connections, and holds each of them to its bounds."""

    def __init__(self, listen_socket: socket.socket, http: Http, log: PeerLog) -> None:
        self._socket = listen_socket
        self._log = log
        self._http = http
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
        while True:
            await wait_readable(self._socket)
            try:
                accepted, _ = self._socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                continue
            except OSError as error:
                # Most likely too many open files: the data channel has them, and gives some back.
                self._log.warning("control.not_accepted", reason=error.strerror)
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
                # One connection ends here; all others, and the data channel, know nothing of it.
                self._log.error("control.connection_failed", exc_info=error)
            finally:
                self._scopes.discard(scope)
                stream.socket.close()
                self._room.release()
