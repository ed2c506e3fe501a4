"""The metrics alone, over TCP: `swpks serve --metrics tcp:HOST:PORT` (spec/control.md#metrics-over-tcp)."""

# Why this is not the control channel with another router
#
# A scraper needs one resource.  The control channel has verbs that power partitions off and change keys.  A
# second listener of its HTTP stack would be one wrong route away from them.  This listener has no router and
# no verb: a request gets the metrics or a refusal, and its connection ends.  It also loads no HTTP stack: a
# scrape of a new server imports the exposition format alone.
#
# The guarantees:
#
#   1. No client changes anything, and none learns more than the metrics.
#   2. No client keeps a place.  A connection lives for at most `CONNECTION_SECONDS`, and one more than
#      `MAX_CONNECTIONS` ends the oldest.  A scrape takes milliseconds, so a slow client ends before it.
#   3. Clients take no descriptor of the reserve: they are not the operator of this host.
#
# There is no TLS and no password here.  So the address is one of loopback, unless the operator says
# `--insecure-listen`.  The check is in the settings, before anything is made.

from __future__ import annotations

import socket
from collections.abc import Callable
from http import HTTPStatus

import trio
from trio.lowlevel import wait_readable

from hcall_abi.scarcity import scarcity_of
from hcall_server.control_channel.loading import loaded
from hcall_server.control_channel.metrics_http import (
    LONGEST_HEAD,
    answer,
    can_begin,
    fitting,
    head_of,
    refusal,
    status_of,
)
from hcall_server.machine.logs import Log, explained
from hcall_server.machine.machine import Machine
from hcall_server.machine.noise import METRICS, PeerLog

MAX_CONNECTIONS = 16
"""Connections served at once; one more ends the oldest of them."""

CONNECTION_SECONDS = 10.0
"""Seconds in which a client has to send its request and read the answer."""

PARTING_SECONDS = 1.0
"""Seconds for a client to close after its answer.  A close with unread bytes could destroy the answer."""

RETRY_SECONDS = 0.1
"""Seconds before another try if the host accepts no connection."""

_log = Log()


Expose = Callable[[Machine], bytes]
"""Makes the whole answer to a scrape."""


async def serve_metrics(
    machine: Machine,
    listener: socket.socket,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the metrics of `machine` on a listening TCP socket until cancelled; the caller closes it."""
    async with trio.open_nursery() as connections:
        task_status.started()
        await _MetricsListener(machine, listener, connections).run()


class _MetricsListener:
    """Accepts connections, and answers one request of each within its bounds."""

    def __init__(self, machine: Machine, listener: socket.socket, connections: trio.Nursery) -> None:
        self._machine = machine
        self._listener = listener
        self._connections = connections
        self._log = PeerLog(machine.noise.of(METRICS), _log)
        self._scopes: list[trio.CancelScope] = []
        self._expose: Expose | None = None

    async def run(self) -> None:
        """Accept until cancelled."""
        while True:
            accepted = await self._next()
            scope = trio.CancelScope(deadline=trio.current_time() + CONNECTION_SECONDS)
            self._scopes.append(scope)
            if len(self._scopes) > MAX_CONNECTIONS:
                self._scopes.pop(0).cancel()
            self._connections.start_soon(self._serve, accepted, scope)

    async def _next(self) -> socket.socket:
        """Return the next connection; wait while the host lacks a descriptor for it."""
        while True:
            await wait_readable(self._listener)
            await self._machine.reserve.wait_whole()
            try:
                return self._listener.accept()[0]
            except (BlockingIOError, ConnectionError):
                continue
            except OSError as error:
                self._log.warning("metrics.not_accepted", reason=error.strerror or str(error))
                await trio.sleep(RETRY_SECONDS)

    async def _serve(self, accepted: socket.socket, scope: trio.CancelScope) -> None:
        """Answer one request, and close the connection."""
        try:
            with scope:
                await self._converse(trio.SocketStream(trio.socket.from_stdlib_socket(accepted)))
        except trio.BrokenResourceError:
            return  # the client has left
        except Exception as error:
            # This connection ends; all others, and the rest of the server, go on.
            self._log.error("metrics.failed", exc_info=error)
        finally:
            if scope in self._scopes:
                self._scopes.remove(scope)
            accepted.close()

    async def _converse(self, stream: trio.SocketStream) -> None:
        received = await _received(stream)
        if received is None:
            return
        status = status_of(head_of(received)) if can_begin(received) else HTTPStatus.BAD_REQUEST
        if status is HTTPStatus.OK:
            content = await self._metrics()
        else:
            self._log.info("metrics.refused", kind=status.value, status=status.value)
            content = refusal(status)
        await stream.send_all(fitting(received, content))
        await stream.send_eof()
        with trio.move_on_after(PARTING_SECONDS):
            while await stream.receive_some(LONGEST_HEAD):
                pass

    async def _metrics(self) -> bytes:
        """Return the answer to a scrape; the first one loads the exposition format."""
        if self._expose is None:
            try:
                self._expose = await loaded(_load, self._machine.reserve)
            except Exception as error:
                found = scarcity_of(error)
                self._log.error("metrics.not_loaded", **(explained(found) if found else {"exc_info": error}))
                return refusal(HTTPStatus.SERVICE_UNAVAILABLE)
        return self._expose(self._machine)


def _load() -> Expose:
    """Import the exposition format; runs in a thread."""
    from hcall_server.control_channel.metrics import MEDIA_TYPE, exposition

    return lambda machine: answer(HTTPStatus.OK, exposition(machine), MEDIA_TYPE)


async def _received(stream: trio.SocketStream) -> bytes | None:
    """Return a request up to the end of its head, the bound, or the first byte that no request has there.

    None means that the client has ended before.
    """
    received = bytearray()
    while head_of(received) is None and len(received) < LONGEST_HEAD and can_begin(received):
        piece = await stream.receive_some(LONGEST_HEAD)
        if not piece:
            return None
        received += piece
    return bytes(received)
