"""The link to a managed system over its control channel (`hcall_server.console.link`).

A place is the path of a control socket, or ``https://HOST:PORT`` with mutual TLS.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import trio

from hcall_abi.control_views import EventView
from hcall_abi.errors import SwpksError
from hcall_abi.requests import ConsoleRequest
from hcall_client.console import Console
from hcall_client.control_transport import TlsFiles, transport_to
from hcall_client.events import watch_events
from hcall_server.machine.logs import Log

T = TypeVar("T")


class SocketLink:
    """The link to one system.  Each request, and the stream of events, has its own connection."""

    def __init__(self, where: str, tls: TlsFiles | None = None) -> None:
        self._where = where
        self._transport = transport_to(where, tls)
        self._console = Console(where if "://" not in where else self._transport)

    def __repr__(self) -> str:
        return f"SocketLink({self._where!r})"

    async def call(self, request: ConsoleRequest[T]) -> T:
        """Make one request of the system, and return its answer."""
        return await self._console.call(request)

    @asynccontextmanager
    async def events(self, console_id: str) -> AsyncIterator[trio.abc.ReceiveChannel[EventView]]:
        """Open the system's stream of events for the console with this id.

        The channel ends when the stream breaks.
        """
        async with watch_events(self._transport, console_id) as events:
            yield _Ending(events, self._where)


class _Ending(trio.abc.ReceiveChannel[EventView]):
    """A channel of events that also ends, without an exception, when its stream fails.

    If the error were raised, the nursery of the stream would put it into an exception group.
    """

    def __init__(self, events: trio.abc.ReceiveChannel[EventView], where: str) -> None:
        self._events = events
        self._where = where

    async def receive(self) -> EventView:
        """Return the next event; EndOfChannel after the last one."""
        try:
            return await self._events.receive()
        except SwpksError as error:
            Log().info("stream.ended", place=self._where, reason=error.message)
            raise trio.EndOfChannel from None

    async def aclose(self) -> None:
        """Close the channel."""
        await self._events.aclose()


class SocketDial:
    """Makes links to places; `tls` names the console's certificate files for places with https."""

    def __init__(self, tls: TlsFiles | None = None) -> None:
        self._tls = tls

    def __call__(self, where: str) -> SocketLink:
        """Return a link to a place; OperatorError if the place is malformed."""
        return SocketLink(where, self._tls)
