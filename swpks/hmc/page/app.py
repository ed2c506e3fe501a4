"""The page as an ASGI application: the page, its stream of overviews, and the refusals."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import trio
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from hcall_abi.errors import PeerError
from hcall_server.control_channel.http import EXEMPT
from hcall_server.machine.logs import Log
from hcall_server.machine.noise import Allowance, PeerLog
from swpks.hmc.lookout import Lookout
from swpks.hmc.page.place import PagePlace, demand_host
from swpks.hmc.page.rendering import Rendering

MAX_VIEWERS = 32
"""Open streams at once."""

HEARTBEAT_SECONDS = 10.0
"""Seconds without an overview after which a comment keeps the stream open."""

RETRY = b"retry: 1000\n\n"
"""The milliseconds after which a browser connects again."""

_METHODS = ("GET", "HEAD")
_ONE_STREAM = ("1.0", "1.1")
"""Versions of HTTP in which a connection ends with its stream."""
_HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
}
_POLICY = (
    "default-src 'none'; script-src 'nonce-{0}'; style-src 'nonce-{0}'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_CLOSED = _POLICY.format("none").replace(" 'nonce-none'", " 'none'")
_log = Log()

Send = Callable[[dict[str, Any]], Awaitable[None]]


class PageApp:
    """The application; `stop` ends its open streams."""

    def __init__(self, lookout: Lookout, place: PagePlace, rendering: Rendering) -> None:
        self._lookout = lookout
        self._place = place
        self._rendering = rendering
        self._viewers = 0
        self._said = PeerLog(Allowance(time.monotonic), _log)
        self._stopping = trio.Event()

    def __repr__(self) -> str:
        return f"PageApp({self._viewers} viewers)"

    def stop(self) -> None:
        """End all open streams, and each later one at once."""
        self._stopping.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        try:
            if refusal := self._refusal(request):
                await refusal(scope, receive, send)
            elif request.url.path == "/events":
                await self._events(scope, receive, send)
            else:
                await (await self._page(request))(scope, receive, send)
        except Exception as error:  # an error of one request must not end the console
            self._said.error("page.failed", exc_info=error)
            with suppress(Exception):  # the answer may have begun
                await _refused(
                    HTTPStatus.INTERNAL_SERVER_ERROR, "the console failed; its log has the reason"
                )(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        """Return the answer to a request that gets no page, None for another one."""
        try:
            demand_host(self._place, request.headers.getlist("host"))
        except PeerError as error:
            return _refused(HTTPStatus.MISDIRECTED_REQUEST, str(error))
        if request.method not in _METHODS:
            refused = _refused(HTTPStatus.METHOD_NOT_ALLOWED, "the page is read only: GET and HEAD")
            refused.headers["allow"] = ", ".join(_METHODS)
            return refused
        if request.url.path not in ("/", "/events"):
            return _refused(HTTPStatus.NOT_FOUND, "the page is at /")
        if request.url.path == "/events" and self._viewers >= MAX_VIEWERS:
            told = f"{self._viewers} live pages are open: close one, or use /?live=0"
            return _refused(HTTPStatus.SERVICE_UNAVAILABLE, told)
        return None

    async def _page(self, request: Request) -> Response:
        number, overview = await self._lookout.look()
        nonce = secrets.token_urlsafe(16)
        live = request.query_params.get("live") != "0"
        text = self._rendering.page(number, overview, nonce, live=live)
        return HTMLResponse(text, headers={**_HEADERS, "content-security-policy": _POLICY.format(nonce)})

    async def _events(self, scope: Any, receive: Any, send: Send) -> None:
        """Send the stream of overviews, until the browser is gone or the console stops."""
        if scope["method"] == "HEAD":
            await _begin(send, scope)
            await send({"type": "http.response.body", "body": b""})
            return
        # A stream has no end, so its connection has no deadline.  A connection of HTTP/2 goes on after its
        # stream, so it keeps its deadline.  No browser speaks HTTP/2 without TLS.
        if EXEMPT in scope.get("state", {}) and scope["http_version"] in _ONE_STREAM:
            scope["state"][EXEMPT]()
        self._viewers += 1
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_gone, receive, nursery.cancel_scope)
                nursery.start_soon(self._end_at_stop, nursery.cancel_scope)
                await _begin(send, scope)
                await self._write(send)
            # This send comes after the nursery, as in the control channel's stream: Hypercorn reports the end
            # of an answer as if the reader had left, and `_until_gone` would cancel this send.
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._viewers -= 1

    async def _write(self, send: Send) -> None:
        await send(_part(RETRY))
        with self._lookout.opened() as viewer:
            while True:
                state = b":\n\n"
                with trio.move_on_after(HEARTBEAT_SECONDS):
                    overview = await viewer.next()
                    state = event(viewer.number, self._rendering.state(viewer.number, overview))
                await send(_part(state))

    async def _end_at_stop(self, stream: trio.CancelScope) -> None:
        await self._stopping.wait()
        stream.cancel()


def event(number: int, html: str) -> bytes:
    """Return the state as an event of the stream."""
    data = "".join(f"data: {line}\n" for line in html.splitlines())
    return f"id: {number}\nevent: state\n{data}\n".encode()


async def _begin(send: Send, scope: Any) -> None:
    headers = {**_HEADERS, "content-type": "text/event-stream", "content-security-policy": _CLOSED}
    if scope["http_version"] in _ONE_STREAM:  # HTTP/2 has no such header
        headers["connection"] = "close"
    pairs = [(key.encode(), value.encode()) for key, value in headers.items()]
    await send({"type": "http.response.start", "status": 200, "headers": pairs})


def _part(body: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": True}


async def _until_gone(receive: Any, stream: trio.CancelScope) -> None:
    """Cancel the stream when its reader is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    stream.cancel()


def _refused(status: HTTPStatus, reason: str) -> PlainTextResponse:
    text = f"{status.value} {status.phrase}: {reason}\n"
    return PlainTextResponse(text, status, headers={**_HEADERS, "content-security-policy": _CLOSED})
