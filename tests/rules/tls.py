"""Rules of the control channel over TCP: the settings and files of both ends, and the handshake."""

from __future__ import annotations

import socket
from functools import partial
from pathlib import Path

import trio

from hcall_abi.rules.rule import Rule
from hcall_client.control_transport import TlsFiles, transport_to
from hcall_server.control_channel.serve import serve_control
from hcall_server.control_channel.tls import ServerFiles, server_context
from hcall_server.service.settings import Settings
from tests.certificates import Authority
from tests.control_channel.rig import make_machine
from tests.rules.breaking import Breaks, breaks, logged, refused, row_of

PLACE = "https://localhost:1"


def _no_certificate(folder: Path) -> Rule:
    """Break a rule: a program connects without TLS. The log line names the rule."""

    async def talk() -> None:
        context = server_context(ServerFiles(*Authority(folder).server()))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            async with trio.open_nursery() as nursery:
                await nursery.start(partial(serve_control, tls=context), make_machine(), listener)
                stream = await trio.open_tcp_stream(*listener.getsockname())
                async with stream:
                    await stream.send_all(b"GET /health HTTP/1.0\r\n\r\n")
                    async for _ in stream:
                        pass
                nursery.cancel_scope.cancel()

    with logged("control.handshake_failed") as lines:
        trio.run(talk)
    (line,) = lines
    return row_of(line)


def _key_for_all(folder: Path) -> Rule:
    """Break a rule: the key file of a client, and then of a server, can be read by other users."""
    files = Authority(folder).client()
    files.key.chmod(0o644)
    rule = refused(transport_to, PLACE, files)
    assert refused(server_context, ServerFiles(*files)) is rule
    return rule


def _no_file(folder: Path) -> Rule:
    rule = refused(transport_to, PLACE, TlsFiles(folder / "a", folder / "b", folder / "c"))
    assert refused(server_context, ServerFiles(folder / "a", folder / "b", folder / "c")) is rule
    return rule


BREAKS: Breaks = {
    "console.place": breaks(transport_to, "http://localhost:1"),
    "tls.complete": breaks(Settings(control="tcp:localhost:1", tls_cert="a").control_over_tcp),
    "tls.files": _no_file,
    "tls.key-private": _key_for_all,
    "tls.handshake": _no_certificate,
}
