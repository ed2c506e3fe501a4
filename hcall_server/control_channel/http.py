"""HTTP on one connection, by Hypercorn; imported when the first request comes."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, cast

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState

if TYPE_CHECKING:
    from hcall_server.control_channel.tls import TlsStream

HEADER_BYTES = 16 * 1024
"""Bytes that a request line and its headers may have, at most."""

SEND_SECONDS = 10.0
"""Seconds in which a client has to read one piece of an answer."""

PARTING_SECONDS = 0.2
"""Seconds in which the reader of a stream has to read its end when the server stops."""

EXEMPT = "swpks.exempt"
"""Key in the state of an ASGI scope; its value is a function, to be called for a stream of events."""


class Http:
    """HTTP for an ASGI application: call `converse` for each connection, and `stop` at the end."""

    def __init__(self, app: object) -> None:
        self._app = ASGIWrapper(cast(ASGIFramework, app))
        self._config = _config()
        self._contexts: set[WorkerContext] = set()
        self._streams: set[BoundedStream] = set()
        self._stopping = False

    async def converse(self, stream: trio.SocketStream | TlsStream, exempt: Callable[[], None]) -> None:
        """Answer the requests of one connection, until it is closed.

        The server calls `exempt` when the connection begins a stream of events, because a stream has no end.
        """
        # Hypercorn would use one context for all connections.  Here each connection has its own, so that its
        # idle wait can be ended alone.  Otherwise it would stay open for 5 seconds after its client has gone.
        context = WorkerContext(None)
        self._contexts.add(context)
        bounded = BoundedStream(stream, context.terminated.set)
        # Hypercorn asks for an SSLStream, but uses only methods that this stream has too.
        connection = cast("trio.SSLStream[trio.SocketStream]", bounded)

        def begin_stream() -> None:
            self._streams.add(bounded)
            if self._stopping:
                bounded.hurry()
            else:
                exempt()

        state = ConnectionState({EXEMPT: begin_stream})
        try:
            await TCPServer(self._app, self._config, context, state, connection).run()
        finally:
            self._contexts.remove(context)
            self._streams.discard(bounded)

    async def stop(self) -> None:
        """Close idle connections at once, and the others after their present answer.

        Return before the last one is closed.
        """
        self._stopping = True
        for stream in self._streams:
            stream.hurry()
        for context in self._contexts:
            await context.terminated.set()


class BoundedStream(trio.abc.HalfCloseableStream):
    """A stream for Hypercorn: each send has a deadline, and the end of the requests is reported.

    Hypercorn shields its sends, so only the stream itself can end them.  If a send takes longer than
    `SEND_SECONDS`, the stream is closed, and `trio.BrokenResourceError` is raised.
    """

    def __init__(self, stream: trio.SocketStream | TlsStream, ended: Callable[[], Awaitable[None]]) -> None:
        self._stream = stream
        self._ended = ended
        self._seconds = SEND_SECONDS
        self._limit = trio.CancelScope()
        self.socket = stream.socket

    def hurry(self) -> None:
        """Give the present send and each later one at most `PARTING_SECONDS`."""
        self._seconds = PARTING_SECONDS
        self._limit.deadline = min(self._limit.deadline, trio.current_time() + PARTING_SECONDS)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`, in time."""
        with trio.move_on_after(self._seconds) as self._limit:
            await self._stream.send_all(data)
        if self._limit.cancelled_caught:
            # The client has got a part of this data only.  It could not understand anything that follows, so
            # the connection is closed.
            await trio.aclose_forcefully(self._stream)
            raise trio.BrokenResourceError("the client does not read its answer")

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Return the received bytes; b"" at the end of the requests."""
        data: bytes | bytearray = b""
        try:
            data = await self._stream.receive_some(max_bytes)
        finally:
            if not data:
                await self._ended()
        return data

    async def wait_send_all_might_not_block(self) -> None:
        """Return when the socket takes bytes again."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """End the sending side of the connection."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.aclose()


def _config() -> Config:
    config = Config()
    config.include_server_header = False
    # Hypercorn's own loggers are off.  This server has a bound on log lines that peers cause, and those
    # loggers have none.
    config.accesslog = None
    config.errorlog = None
    config.h11_max_incomplete_size = HEADER_BYTES
    config.h2_max_header_list_size = HEADER_BYTES
    config.h2_max_concurrent_streams = 8
    config.websocket_max_message_size = HEADER_BYTES
    # The queue has no bound, because a full queue of unread body would block the answer.  It stays small: the
    # application reads at once, or it answers, and the rest of the body is dropped.
    config.max_app_queue_size = cast(int, math.inf)
    return config
