"""The stream of a system's events (spec/control.md).

    async with watch_events("state/run/control.sock", console_id) as events:
        async for event in events:
            ...

The loop never ends by itself: it raises ConsoleUnreachable when the stream has ended.
"""

# How the stream ends, and how its reader finds out
#
# A task reads the stream and puts events into a bounded channel. The reader of `watch_events` takes them
# from there.
#
#   - An end of the stream is always an error, never a normal end of the loop. A system sends events for as
#     long as it runs. A loop that ended quietly would leave a console that sees no event and no error.
#   - The reader gets all events that came before the end, and then the reason of the end.
#   - A silence of 30 seconds is an end too. TCP does not notice a host that is gone, and the server sends a
#     comment every 10 seconds for this.
#   - A slow reader is no silence. While the channel is full, the task does not read, and the deadline is
#     off.

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import trio

from hcall_abi.control import CONSOLE_HEADER, EVENT_STREAM, VERBS
from hcall_abi.control_views import EventView
from hcall_abi.errors import SwpksError
from hcall_client.console import (
    DEFAULT_TIMEOUT,
    ConsoleMisspoken,
    ConsoleRequest,
    ConsoleUnreachable,
    answer_of,
)
from hcall_client.control_transport import transport_to
from hcall_client.event_lines import EventParser
from hcall_client.in_thread import in_time
from hcall_client.mistakes import check_loop
from hcall_client.over_httpx import body_of, bounded, client_of, reason_of

SILENCE_SECONDS = 30.0
"""How long the stream may be silent; the server sends a comment every 10 seconds."""

WAITING = 256
"""Events that may wait for their reader.  While so many wait, nothing is read from the connection."""

LONGEST_PROBLEM = 64 * 1024
"""Longest answer in bytes that is no stream, such as a problem."""

_WATCH = ConsoleRequest(next(verb for verb in VERBS if verb.operation == "watchEvents"), str)


@asynccontextmanager
async def watch_events(
    target: str | os.PathLike[str] | httpx.AsyncBaseTransport, console_id: str = ""
) -> AsyncIterator[trio.abc.ReceiveChannel[EventView]]:
    """Open the stream of events of the system at `target`, a path or a transport of `transport_to`.

    With `console_id` it is the stream of that attached console; without it, the stream of a spectator.
    Raises ConsoleRefused if the system refuses the stream, and ConsoleUnreachable if it is not reached.

    If the stream ends, breaks, or sends nothing for `SILENCE_SECONDS`, `receive` first returns the received
    events.  After the last event it raises ConsoleUnreachable.  A comment counts as sent.  If bytes are no
    event, it raises ConsoleMisspoken.
    """
    check_loop("watch_events")
    transport = target if isinstance(target, httpx.AsyncBaseTransport) else transport_to(target)
    failure: Exception | None = None
    async with AsyncExitStack() as stack:
        response = await _opened(stack, transport, console_id)
        events = _Events(transport)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(events.fill, response)
            try:
                # BaseException is not caught: it includes Cancelled, which has to reach the nursery.
                yield events
            except Exception as error:
                failure = error
            nursery.cancel_scope.cancel()
        events.close()
    if failure is not None:  # raised here, where no nursery wraps it into a group
        raise failure


async def _opened(
    stack: AsyncExitStack, transport: httpx.AsyncBaseTransport, console_id: str
) -> httpx.Response:
    """Return the response whose body is the stream; `stack` closes it."""

    async def ask() -> httpx.Response:
        # A timeout of httpx would bound the time between two pieces of a body. `fill` bounds that time
        # already, so httpx gets no timeout.
        client = await stack.enter_async_context(client_of(transport, None))
        # `identity` switches compression off: compressed events would wait in a buffer until a block is full.
        headers = {"accept": EVENT_STREAM, "accept-encoding": "identity"}
        if console_id:
            headers[CONSOLE_HEADER] = console_id
        asked = client.stream(_WATCH.verb.method, _WATCH.path, headers=headers)
        response = await stack.enter_async_context(asked)
        await _check_stream(response)
        return response

    # The opening is a request like others, and has the same timeout.
    try:
        return await in_time(ask, DEFAULT_TIMEOUT)
    except (httpx.HTTPError, OSError) as error:
        raise ConsoleUnreachable(transport, reason_of(error)) from None


async def _check_stream(response: httpx.Response) -> None:
    """Raise the error of a response that is no stream."""
    kind = response.headers.get("content-type", "")
    if response.status_code != 200:
        answer_of(_WATCH, response.status_code, kind, await _short_body(response))
    if kind.split(";", maxsplit=1)[0].strip() != EVENT_STREAM:
        raise ConsoleMisspoken(_WATCH.verb.operation, f"status {response.status_code} and type {kind!r}")


async def _short_body(response: httpx.Response) -> bytes:
    content = await bounded(response, LONGEST_PROBLEM)
    if content is None:
        reason = f"status {response.status_code} and more than {LONGEST_PROBLEM} bytes"
        raise ConsoleMisspoken(_WATCH.verb.operation, reason)
    return content


class _Events(trio.abc.ReceiveChannel[EventView]):
    """Delivers the received events in their order; after the last one, raises the error of the stream."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport
        self._send, self._receive = trio.open_memory_channel[EventView](WAITING)
        self._failure: SwpksError | None = None

    async def receive(self) -> EventView:
        """Return the next event; raises the reason when there will be none."""
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            # If there is no failure, the block has ended, and the task was cancelled before it had a reason.
            if self._failure is None:
                raise
            raise self._failure from None

    async def aclose(self) -> None:
        """Receive no more."""
        await self._receive.aclose()

    def close(self) -> None:
        """Receive no more."""
        self._receive.close()

    async def fill(self, response: httpx.Response) -> None:
        """Read the stream until it ends, and store the reason of the end."""
        with self._send:
            try:
                with trio.CancelScope() as silence:
                    await self._read(response, silence)
                reason = "the stream has ended"
                if silence.cancelled_caught:
                    reason = f"its stream was silent for {SILENCE_SECONDS:.0f} seconds"
                self._failure = ConsoleUnreachable(self._transport, reason)
            except ConsoleMisspoken as error:
                self._failure = error
            except (httpx.HTTPError, OSError) as error:
                self._failure = ConsoleUnreachable(self._transport, reason_of(error))

    async def _read(self, response: httpx.Response, silence: trio.CancelScope) -> None:
        parser = EventParser()
        silence.deadline = trio.current_time() + SILENCE_SECONDS
        async with body_of(response) as chunks:
            async for chunk in chunks:
                for event in parser.feed(chunk):
                    silence.deadline = math.inf  # a slow reader is no silence of the server
                    if event:
                        await self._put(event)
                    silence.deadline = trio.current_time() + SILENCE_SECONDS

    async def _put(self, event: EventView) -> None:
        """Hand an event to the reader, if there still is one."""
        try:
            await self._send.send(event)
        except trio.BrokenResourceError:
            # The reader takes no more events, but its block has not ended. This task must not end the stream,
            # as if the server had ended it. So it sleeps until the end of the block cancels it.
            await trio.sleep_forever()
