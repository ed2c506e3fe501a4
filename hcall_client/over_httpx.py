"""Helpers of a console that uses httpx; loaded with the first request that goes over a transport of httpx."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx
import trio

BASE = "http://swpks"
"""A base URL, which httpx requires; the transport ignores its host."""


def client_of(transport: httpx.AsyncBaseTransport, timeout: float | None) -> httpx.AsyncClient:
    """Return a client for one request.

    `timeout` is in seconds for each step of the request, None for no limit.

    The transport stays open: it belongs to the caller, and closing it would end the requests of other tasks.
    """
    return httpx.AsyncClient(transport=_Borrowed(transport), base_url=BASE, timeout=timeout, trust_env=False)


def reason_of(error: BaseException) -> str:
    """Return the text of an error, or of the first of its causes that has a text.

    For instance, an error of httpx may have no text, but its cause in TLS has one.
    """
    found: BaseException | None = error
    # httpx wraps errors of httpcore, which wrap those of ssl. Only the innermost may have a text.
    while found and not str(found):
        found = found.__cause__ or found.__context__  # httpcore raises some "from None"
    return str(found) if found else type(error).__name__


@asynccontextmanager
async def body_of(response: httpx.Response) -> AsyncIterator[AsyncIterator[bytes]]:
    """Yield the pieces of a body as they come; the caller may leave the block at any point.

    httpx reads through nested generators. If a generator is not run to its end, Trio warns. A failed read
    ends all of them, so this function first closes the connection.
    """
    chunks = response.aiter_raw()
    try:
        yield chunks
    finally:
        # The shield is needed because a cancellation often ends the block. The generators have to end then
        # too.
        with trio.CancelScope(shield=True), suppress(httpx.HTTPError):
            await response.aclose()
            async for _ in chunks:
                pass


async def bounded(response: httpx.Response, longest: int) -> bytes | None:
    """Return the body of an answer.

    If the body has more than `longest` bytes, return None, and do not read the rest.
    """
    if response.is_stream_consumed:  # a transport without a network has read the whole body
        return response.content if len(response.content) <= longest else None
    # The size is checked while the body arrives: a bad server may state a wrong length.
    content = bytearray()
    async with body_of(response) as chunks:
        async for chunk in chunks:
            content += chunk
            if len(content) > longest:
                return None
    return bytes(content)


class _Borrowed(httpx.AsyncBaseTransport):
    """A transport that its client does not close."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._transport.handle_async_request(request)
