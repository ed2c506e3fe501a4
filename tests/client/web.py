"""A small HTTP server for tests of clients: each connection follows a script."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import trio

from hcall_client.control_transport import TlsFiles

Script = Callable[[bytes, trio.abc.Stream], Awaitable[None]]
"""Gets the head of a request and the stream for the answer; the stream is closed afterwards."""

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\r\n"


def answering(*pieces: bytes) -> Script:
    """A script that sends these bytes as its answer to any request."""

    async def script(_: bytes, stream: trio.abc.Stream) -> None:
        for piece in pieces:
            await stream.send_all(piece)

    return script


def staying(*pieces: bytes) -> Script:
    """As `answering`, but the script leaves the connection open."""

    async def script(_: bytes, stream: trio.abc.Stream) -> None:
        for piece in pieces:
            await stream.send_all(piece)
        await stream.receive_some()

    return script


async def _follow(script: Script, stream: trio.abc.Stream) -> None:
    head = b""
    with suppress(trio.BrokenResourceError):
        async with stream:
            while b"\r\n\r\n" not in head:
                data = await stream.receive_some()
                if not data:
                    return
                head += data
            await script(head, stream)


@asynccontextmanager
async def unix_server(path: Path, script: Script) -> AsyncIterator[Path]:
    """Serve at a Unix socket for the length of a block."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
    async with _serving(script, listener):
        yield path


@asynccontextmanager
async def tls_server(files: TlsFiles, script: Script, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """Serve by TLS at a free port for the length of a block. A client must show a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    context.load_verify_locations(files.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    (plain,) = await trio.open_tcp_listeners(0, host=host)
    listener = trio.SSLListener(plain, context, https_compatible=True)
    async with _serving(script, listener):
        yield plain.socket.getsockname()[1]


@asynccontextmanager
async def _serving(script: Script, listener: trio.abc.Listener) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, partial(_follow, script), [listener])
        yield
        nursery.cancel_scope.cancel()
