"""The stream of events over HTTP, as `text/event-stream` (spec/control.md#events)."""

from __future__ import annotations

from typing import Any

import msgspec
import trio
from starlette.responses import Response

from hcall_abi.control import EVENT_STREAM
from hcall_abi.control_views import EventView
from hcall_server.control_channel.http import EXEMPT
from hcall_server.machine.machine import Machine
from hcall_server.machine.streams import EventReader, demand_stream, opened_stream

HEARTBEAT = b":\n\n"
"""A comment of the stream; readers ignore it."""
_HEADERS = [(b"content-type", EVENT_STREAM.encode()), (b"cache-control", b"no-store")]
_HTTP_1 = {"1.0", "1.1"}


def encoded(event: EventView) -> bytes:
    """Return an event as lines of the stream."""
    data = msgspec.json.encode(event)
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.number, event.kind.encode(), data)


class EventStream(Response):
    """An answer that goes on until the server stops, or its reader is gone.

    It also ends when the same console opens a newer stream.  `console` is the id of the console that reads
    the stream, None for another reader.  OperatorError if the id is not attached, or if there are too many
    streams.
    """

    def __init__(self, machine: Machine, console: str | None) -> None:
        super().__init__()
        demand_stream(machine, console)
        self._machine = machine
        self._console = console

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Write the stream, until its end or until its reader is gone."""
        if scope["method"] == "HEAD":
            await _begin(scope, send)
            await send({"type": "http.response.body", "body": b""})
            return
        with opened_stream(self._machine, self._console) as reader:
            # A stream has no deadline, so its connection of HTTP/1 is exempt from the lifetime.  A connection
            # of HTTP/2 carries other requests too, which must not be exempt.
            if scope["http_version"] in _HTTP_1 and EXEMPT in scope.get("state", {}):
                scope["state"][EXEMPT]()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_gone, receive, nursery.cancel_scope)
                await _begin(scope, send)
                await _write(reader, send)
                nursery.cancel_scope.cancel()
            # This send comes after the nursery.  Hypercorn reports the end of an answer as if the reader had
            # left, and `_until_gone` would cancel this send.
            await send({"type": "http.response.body", "body": b""})


async def _begin(scope: Any, send: Any) -> None:
    # A stream of events may never end, so on HTTP/1 no further request can use its connection.  This header
    # announces that the connection closes after the stream.
    closing = [(b"connection", b"close")] if scope["http_version"] in _HTTP_1 else []
    await send({"type": "http.response.start", "status": 200, "headers": [*_HEADERS, *closing]})


async def _write(reader: EventReader, send: Any) -> None:
    while (events := await reader.next()) is not None:
        lines = b"".join(map(encoded, events)) or HEARTBEAT
        await send({"type": "http.response.body", "body": lines, "more_body": True})


async def _until_gone(receive: Any, stream: trio.CancelScope) -> None:
    """Cancel the stream when its reader is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    stream.cancel()
