"""Transports of httpx to a control channel: a Unix socket, or TCP with mutual TLS (spec/control.md#over-tcp).

    transport = transport_to("https://power.example:7443", TlsFiles(cert, key, ca))
    console = Console(transport)
    async with watch_events(transport) as events: ...

Each request has a connection of its own.  So many tasks may use one transport, and it need not be closed.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import trio

from hcall_abi.addresses import is_host
from hcall_abi.errors import OperatorError
from hcall_abi.mistakes import WrongType, kind_of
from hcall_abi.rules import console as rules
from hcall_abi.tls_files import check_mode, no_passphrase, unreadable
from hcall_client.patience import FIRST_PAUSE, LAST_PAUSE

_HTTPS = re.compile(r"https://(?:\[([0-9A-Fa-f:.]+)\]|([^:/?#@\[\]]+)):([0-9]{1,5})/?")
_OPENED = ("connection.connect_tcp.complete", "connection.connect_unix_socket.complete")
"""Steps of httpx after which there is a connected stream."""


class TlsFiles(NamedTuple):
    """Files in PEM: the certificate of this client with its chain, its private key, and the server's CA."""

    cert: Path
    key: Path
    ca: Path


def transport_to(where: str | os.PathLike[str], tls: TlsFiles | None = None) -> httpx.AsyncBaseTransport:
    """Return the transport to a control channel: a path, or ``https://HOST:PORT``, which needs `tls`.

    The server's certificate has to be for HOST, a name or an address.  Files are read here, once.
    Raises OperatorError for any other place, and for files that can't be read or do not fit.
    """
    given: object = where
    if not isinstance(given, str | os.PathLike):
        right = f'not {kind_of(given)}: write "state/run/control.sock"'
        raise WrongType(f"a control channel is at a path, or at https://HOST:PORT, {right}")
    place = os.fsdecode(where)
    if "://" not in place:
        if not place or "\0" in place:
            raise OperatorError(rules.CONSOLE_PLACE, f"{place!r} is no path")
        # `trust_env` is off: a proxy of the environment must not get a console's requests. `verify` has no
        # authorities: a Unix socket has no TLS, but httpx would load those of the system.
        inner = httpx.AsyncHTTPTransport(uds=place, verify=_no_authorities(), trust_env=False, limits=_LIMITS)
        return ControlTransport(inner, httpx.URL("http://swpks"), place)
    host, port = parse_https(place)
    if tls is None:
        raise OperatorError(rules.CONSOLE_PLACE, f"{place} needs a certificate, its key and a CA file")
    inner = httpx.AsyncHTTPTransport(verify=_context(tls), trust_env=False, limits=_LIMITS)
    return ControlTransport(inner, httpx.URL(scheme="https", host=host, port=port), place)


_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=0)
"""No connection is kept: a server closes idle ones, which would meet the next request on its way."""


def parse_https(text: str) -> tuple[str, int]:
    """Return host and port of ``https://HOST:PORT`` (``https://[::1]:7443``); OperatorError for others."""
    match = _HTTPS.fullmatch(text)
    host = (match[1] or match[2]) if match else ""
    if match is None or not 0 < int(match[3]) <= 0xFFFF or not is_host(host):
        raise OperatorError(rules.CONSOLE_PLACE, f"{text!r} is neither a path nor https://HOST:PORT")
    return host, int(match[3])


class ControlTransport(httpx.AsyncBaseTransport):
    """Sends every request to the same place, whatever its URL is."""

    def __init__(self, inner: httpx.AsyncHTTPTransport, base: httpx.URL, place: str) -> None:
        self._inner = inner
        self._base = base
        self._place = place

    def __repr__(self) -> str:
        return f"ControlTransport({self._place!r})"

    def __str__(self) -> str:
        return self._place

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Make one request; while the queue of a Unix socket is full, try again."""
        # A redirect or a mistaken base URL must not send a request, with its keys, to another host.
        base = self._base
        request.url = request.url.copy_with(scheme=base.scheme, host=base.host, port=base.port)
        request.headers["host"] = base.netloc.decode()
        request.stream = _Whole(await request.aread())
        pause = FIRST_PAUSE
        while True:
            try:
                return await self._attempt(request)
            except _QueueIsFull:
                await trio.sleep(pause)  # the caller has a deadline
                pause = min(2 * pause, LAST_PAUSE)

    async def _attempt(self, request: httpx.Request) -> httpx.Response:
        """Make one request; if it fails or is cancelled, close the connection.

        httpx leaves a connection open when it is cancelled in a TLS handshake.
        """
        # This list collects the streams: httpx passes them only to trace functions.
        opened: list[Any] = []

        async def trace(step: str, info: dict[str, Any]) -> None:
            if step in _OPENED:
                opened.append(info["return_value"])
                await _check_connected(opened[-1])

        request.extensions = {**request.extensions, "trace": trace}
        try:
            return await self._inner.handle_async_request(request)
        except BaseException:
            with trio.CancelScope(shield=True):
                for stream in opened:
                    await stream.aclose()
            raise


class _Whole(httpx.AsyncByteStream):
    """The body of a request in one piece.

    httpx has a generator for it.  If the server answers before it has read the body, httpx leaves this
    generator in the middle, and Trio warns.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Pieces([self._content] if self._content else [])


class _Pieces:
    """An iterator over pieces of bytes, which need not be run to its end."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def __aiter__(self) -> _Pieces:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self._pieces:
            raise StopAsyncIteration
        return self._pieces.pop(0)


class _QueueIsFull(Exception):
    """httpx returned a socket without a connection, because the queue of the server is full."""


async def _check_connected(stream: Any) -> None:
    """Raise _QueueIsFull if the socket has no peer.

    If the queue of the server is full, Trio's `open_unix_socket` returns such a socket.
    """
    await trio.lowlevel.checkpoint()
    sock = stream.get_extra_info("socket")
    try:
        sock.getpeername()
    except OSError:
        if sock.family == trio.socket.AF_UNIX:
            raise _QueueIsFull from None


def _no_authorities() -> ssl.SSLContext:
    """Return a TLS context without certificate authorities; httpx would load those of the system."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _context(tls: TlsFiles) -> ssl.SSLContext:
    """Return the TLS context of a client; OperatorError for files that can't be read, or do not fit."""
    context = _no_authorities()
    # Both ends belong to this project, so no older version is needed.
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # `path` is the file at which an error happens: OpenSSL names none.
    path = tls.cert
    try:
        for path in tls:
            check_mode(path, path.stat().st_mode, private=path == tls.key)
        path = tls.ca
        context.load_verify_locations(cafile=path)
        path = tls.cert
        context.load_cert_chain(path, tls.key, password=no_passphrase)
    except (OSError, ValueError) as error:  # the errors of OpenSSL are OSErrors
        raise unreadable(path, error) from None
    return context
