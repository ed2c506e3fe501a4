"""The control channel over TCP: mutual TLS 1.3 (spec/control.md#over-tcp).

Only a server that was started with `--control` loads this module.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, cast

import trio

from hcall_abi.errors import PeerError
from hcall_abi.rules import service as rules
from hcall_abi.tls_files import check_mode, no_passphrase, openssl_words, unreadable
from hcall_server.control_channel.by_hand import answer_by_hand
from hcall_server.machine.logs import explained
from hcall_server.machine.noise import PeerLog

HANDSHAKE_SECONDS = 5.0
"""Seconds in which a client has to finish its handshake."""

PARTING_SECONDS = 1.0
"""Seconds in which a refused client has to read the reason."""

_PLAIN_HTTP = ("HTTP_REQUEST", "HTTPS_PROXY_REQUEST")
"""Names of OpenSSL for a client that speaks HTTP without TLS."""


class ServerFiles(NamedTuple):
    """Files in PEM: the certificate of the server with its chain, its private key, the CA of its clients."""

    cert: Path
    key: Path
    ca: Path


def server_context(files: ServerFiles) -> ssl.SSLContext:
    """Return the context of a server; OperatorError if the files can't be read or do not match.

    The files are read once, here.  If a file changes, the next start reads it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0  # no session is resumed: each connection shows a certificate
    context.set_alpn_protocols(["http/1.1"])
    for path in files:
        _check_file(path, private=path == files.key)
    _read(files.ca, lambda: context.load_verify_locations(cafile=files.ca))
    _read(files.cert, lambda: context.load_cert_chain(files.cert, files.key, password=no_passphrase))
    return context


def _check_file(path: Path, *, private: bool) -> None:
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None
    check_mode(path, mode, private=private)


def _read(path: Path, load: Callable[[], None]) -> None:
    try:
        load()
    except OSError as error:  # the errors of OpenSSL are OSErrors
        raise unreadable(path, error) from None


class TlsStream(trio.abc.HalfCloseableStream):
    """A TLS connection after its handshake.

    It has the methods and the `socket` of a plain stream.
    """

    def __init__(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        self._stream = stream
        self.socket = stream.transport_stream.socket

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`."""
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Return when the connection takes bytes again."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Return the received bytes; b"" at the end, even if the peer did not announce the end."""
        return await self._stream.receive_some(max_bytes)

    async def send_eof(self) -> None:
        """Do nothing: TLS of Trio can't end one direction alone, and `aclose` ends both."""
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.aclose()


class TlsHandshakes:
    """Makes the handshakes with clients.

    If a client has no certificate of the CA, it is refused and logged.
    """

    def __init__(self, context: ssl.SSLContext, log: PeerLog) -> None:
        self._context = context
        self._log = log

    def __repr__(self) -> str:
        return "TlsHandshakes()"

    async def admit(self, plain: trio.SocketStream) -> TlsStream | None:
        """Make the handshake; None if the client is refused.  The caller closes `plain`."""
        made = _Context(self._context)
        # Clients of HTTP may close without the alert close_notify.  With https_compatible, that is no error.
        stream = trio.SSLStream(plain, cast(ssl.SSLContext, made), server_side=True, https_compatible=True)
        reason, kind = f"no handshake within {HANDSHAKE_SECONDS:.0f} seconds", "time"
        with trio.move_on_after(HANDSHAKE_SECONDS):
            try:
                await stream.do_handshake()
            except trio.BrokenResourceError as error:
                reason, kind = _failure(error)
            else:
                return TlsStream(stream)
        refused = PeerError(rules.TLS_HANDSHAKE, f"{_peer(plain)}: {reason}")
        self._log.info("control.handshake_failed", kind=kind, **explained(refused))
        with trio.move_on_after(PARTING_SECONDS), suppress(trio.BrokenResourceError):
            await plain.send_all(answer_by_hand(refused) if kind in _PLAIN_HTTP else made.outgoing.read())
        return None


class _Context:
    """Makes the TLS object of one connection, and gives access to its outgoing bytes."""

    # If a handshake fails, OpenSSL writes an alert with the reason into the outgoing bytes.  Trio does not
    # send them, so the client would only see that the connection closes.  `admit` sends them itself.

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self.outgoing = ssl.MemoryBIO()

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, **options: Any) -> ssl.SSLObject:
        """Return the object by which `trio.SSLStream` speaks TLS."""
        self.outgoing = outgoing
        return self._context.wrap_bio(incoming, outgoing, **options)


def _failure(error: trio.BrokenResourceError) -> tuple[str, str]:
    """Return the reason of a failed handshake, and its kind.

    The kind comes from a fixed list of OpenSSL, so that kinds in the log stay few.
    """
    cause = error.__cause__
    if not isinstance(cause, ssl.SSLError):
        return "the connection is broken", "broken"
    kind = cause.reason or type(cause).__name__
    detail = getattr(cause, "verify_message", "")  # only errors about a certificate have it
    return f"{openssl_words(kind)}{f' ({detail})' if detail else ''}", kind


def _peer(plain: trio.SocketStream) -> str:
    """Return the address of a client, for the log."""
    try:
        host, port = plain.socket.getpeername()[:2]
    except OSError:
        return "a client that has left"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
