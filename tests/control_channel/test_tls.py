"""The control channel over TCP in this process: handshakes, their limits, and other clients."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from cryptography.x509.oid import ExtendedKeyUsageOID
from trio.testing import MockClock, wait_all_tasks_blocked

from hcall_abi.errors import OperatorError
from hcall_abi.rules import service as rules
from hcall_client.console import Console, ConsoleUnreachable, show_health, show_system
from hcall_client.control_transport import TlsFiles, transport_to
from hcall_server.control_channel import http, serve, tls
from hcall_server.control_channel.tls import ServerFiles, server_context
from hcall_server.machine.noise import BURST, FIRST
from tests.certificates import Authority
from tests.control_channel.rig import make_machine, over_socket, served
from tests.rules.breaking import logged

REQUEST = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def files(authority: Authority) -> TlsFiles:
    return authority.server()


@pytest.fixture(scope="module")
def client(authority: Authority) -> TlsFiles:
    return authority.client()


@pytest.fixture
def machine():
    machine = make_machine()
    machine.system.create("a", 8)
    return machine


@asynccontextmanager
async def over_tcp(machine: Any, files: TlsFiles) -> AsyncIterator[int]:
    """The control channel of `machine` at a free port; the fixture cancels it at the end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with trio.open_nursery() as nursery:
            run = partial(serve.serve_control, tls=server_context(ServerFiles(*files)))
            await nursery.start(run, machine, listener)
            yield listener.getsockname()[1]
            nursery.cancel_scope.cancel()


@pytest.fixture
async def port(machine, files) -> AsyncIterator[int]:
    async with over_tcp(machine, files) as port:
        yield port


@pytest.fixture
def quick(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> MockClock:
    """Virtual time. The HTTP stack is loaded without a thread, because time would advance during the load."""

    async def at_once(load, reserve):
        await trio.lowlevel.checkpoint()
        return load()

    autojump_clock.autojump_threshold = 0.01
    monkeypatch.setattr(serve, "loaded", at_once)
    return autojump_clock


def console(port: int, client: TlsFiles) -> Console:
    """A console that shows a certificate."""
    return Console(transport_to(f"https://127.0.0.1:{port}", client), 20)


async def plain(port: int, *, small: bool = False) -> trio.SocketStream:
    """Return a connection without TLS. With `small`, its buffer holds few unread bytes."""
    sock = trio.socket.socket(socket.AF_INET)
    if small:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await sock.connect(("127.0.0.1", port))
    return trio.SocketStream(sock)


async def secure(port: int, files: TlsFiles, *, small: bool = False) -> trio.SSLStream[trio.SocketStream]:
    """Return a connection with TLS, after its handshake."""
    context = ssl.create_default_context(cafile=files.ca)
    context.load_cert_chain(files.cert, files.key)
    wire = await plain(port, small=small)
    stream = trio.SSLStream(wire, context, server_hostname="127.0.0.1", https_compatible=True)
    try:
        await stream.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(wire)
        raise
    return stream


async def everything(stream: trio.abc.ReceiveStream) -> bytes:
    """Return all bytes until the other end closes or resets the connection."""
    found = b""
    with trio.fail_after(20):
        try:
            async for chunk in stream:
                found += chunk
        except trio.BrokenResourceError:
            pass
    return found


async def test_requests_over_tls(port, client) -> None:
    """Each verb works as over the Unix socket, with one connection per request or one for all."""
    for _ in range(2):
        assert (await console(port, client).call(show_system())).partitions[0].name == "a"
    stream = await secure(port, client)
    assert (stream.version(), stream.selected_alpn_protocol()) == ("TLSv1.3", None)
    for _ in range(2):
        await stream.send_all(REQUEST)
        answer = b""
        while not answer.endswith(b"}}"):
            answer += await stream.receive_some()
        assert answer.startswith(b"HTTP/1.1 200 ")
    await stream.send_all(REQUEST.replace(b"1.1", b"1.0"))
    assert (await everything(stream)).startswith(b"HTTP/1.1 200 ")
    await stream.aclose()


async def test_who_is_refused(port, client, authority, tmp_path) -> None:
    """A client without a certificate, with a foreign one or a server's is refused and gets the reason."""
    foreign = Authority(tmp_path, "foreign").client()._replace(ca=client.ca)
    server = authority.files("wrong", purpose=ExtendedKeyUsageOID.SERVER_AUTH)
    bare = ssl.create_default_context(cafile=client.ca)
    with logged("control.handshake_failed") as lines:
        for files, alert in [(foreign, "UNKNOWN_CA"), (server, "CERTIFICATE")]:
            with pytest.raises(ConsoleUnreachable, match=f"ALERT_.*{alert}"):
                await console(port, files).call(show_health())
        stream = trio.SSLStream(await plain(port), bare, server_hostname="127.0.0.1", https_compatible=True)
        # In TLS 1.3 the client's handshake ends before the server checks the client's certificate.
        await stream.do_handshake()
        with pytest.raises(trio.BrokenResourceError) as refused:
            await stream.receive_some()
        await stream.aclose()
        assert (await console(port, client).call(show_health())).ok
    assert "CERTIFICATE_REQUIRED" in str(refused.value.__cause__)
    assert {line["rule_id"] for line in lines} == {"tls.handshake"}
    first, second, third = (line["error"] for line in lines)
    assert first.startswith("127.0.0.1:")
    assert "certificate verify failed (unable to get local issuer certificate)" in first
    assert "certificate verify failed (unsuitable certificate purpose)" in second
    assert "peer did not return a certificate" in third


async def test_plain_http_is_refused(port) -> None:
    """A client of plain HTTP gets a readable answer that contains nothing about the system."""
    stream = await plain(port)
    await stream.send_all(REQUEST)
    answer = await everything(stream)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\n")
    assert b'"rule_id":"tls.handshake"' in answer
    await stream.aclose()


@pytest.mark.parametrize(
    "data", [b"\0" * 600, b"HCAL\x01\x02\0\0", b"\x16\x03\x01\x40\x00" + b"\xff" * 900, b"\x16\x03"]
)
async def test_garbage_is_refused(port, client, data) -> None:
    """After garbage the connection ends, and the next client is served."""
    stream = await plain(port)
    await stream.send_all(data)
    await stream.send_eof()
    assert b"HTTP" not in await everything(stream)
    await stream.aclose()
    assert (await console(port, client).call(show_health())).ok


async def test_an_older_tls_is_refused(port, client) -> None:
    """The server accepts TLS 1.3 only."""
    context = ssl.create_default_context(cafile=client.ca)
    context.load_cert_chain(client.cert, client.key)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    stream = trio.SSLStream(await plain(port), context, server_hostname="127.0.0.1")
    with pytest.raises(trio.BrokenResourceError) as refused:
        await stream.do_handshake()
    await trio.aclose_forcefully(stream)
    assert "PROTOCOL_VERSION" in str(refused.value.__cause__)


async def test_nothing_is_served_before_the_handshake(machine, files, monkeypatch) -> None:
    """A request without a client certificate never reaches the HTTP code."""

    async def unexpected(self, stream, exempt):
        pytest.fail("the client was accepted")

    monkeypatch.setattr(http.Http, "converse", unexpected)
    async with over_tcp(machine, files) as port:
        for data in (REQUEST, b"\x16\x03\x01\0\x05hello"):
            stream = await plain(port)
            await stream.send_all(data)
            await everything(stream)
            await stream.aclose()


async def test_a_handshake_has_a_deadline(port, quick: MockClock) -> None:
    """A client that stalls in its handshake loses its connection. Other clients are served."""
    stream = await plain(port)
    await stream.send_all(b"\x16\x03\x01\x02\x00")
    with logged("control.handshake_failed") as lines:
        assert await everything(stream) == b""
    assert trio.current_time() == pytest.approx(5, abs=0.5)
    await stream.aclose()
    assert [line["error"].partition(": ")[2] for line in lines] == ["no handshake within 5 seconds"]


async def test_strangers_without_a_certificate_keep_nobody_out(
    machine, files, client, quick: MockClock
) -> None:
    """If too many handshakes are open, the oldest ones end, so an honest client is answered at once."""
    async with over_tcp(machine, files) as port:
        strangers = [await plain(port) for _ in range(200)]
        await wait_all_tasks_blocked(0.01)
        began = trio.current_time()
        for _ in range(3):
            assert (await console(port, client).call(show_health())).ok
        assert trio.current_time() - began < 1
        assert await everything(strangers[0]) == b""
        assert trio.current_time() - began < 1
        for each in strangers:
            await each.aclose()


async def test_one_connection_too_many_waits(machine, files, client, quick: MockClock) -> None:
    """One connection too many waits after its handshake for a place. It ends at a stop."""
    async with over_tcp(machine, files) as port:
        served_now = [await secure(port, client) for _ in range(serve.MAX_CONNECTIONS)]
        for each in served_now:
            await each.send_all(REQUEST)
            assert (await each.receive_some()).startswith(b"HTTP/1.1 200 ")
        waiting = await secure(port, client)
        await waiting.send_all(REQUEST)
        with trio.move_on_after(1) as waited:
            await waiting.receive_some()
        assert waited.cancelled_caught
        await trio.aclose_forcefully(served_now[0])
        assert (await waiting.receive_some()).startswith(b"HTTP/1.1 200 ")
        late = await secure(port, client)
        await wait_all_tasks_blocked(0.01)
    assert await everything(late) == b""
    for stream in (*served_now, waiting, late):
        await trio.aclose_forcefully(stream)


async def test_strangers_take_no_place_of_the_operator(machine, files, tmp_path) -> None:
    """If all places of TCP are taken, the Unix socket still answers at once."""
    async with over_tcp(machine, files) as port, served(machine, tmp_path / "control.sock") as path:
        stalled = [await plain(port) for _ in range(serve.MAX_CONNECTIONS + 1)]
        async with over_socket(path) as local:
            assert (await local.get("/health")).status_code == 200
        for each in stalled:
            await each.aclose()


async def test_failed_handshakes_are_bounded_in_the_log(port) -> None:
    """Many failed handshakes write few lines. Lines about the Unix socket have their own bound."""
    with logged("control.handshake_failed") as lines:
        for _ in range(BURST + FIRST + 20):
            stream = await plain(port)
            await stream.send_all(b"garbage" * 3)
            await everything(stream)
            await stream.aclose()
    assert FIRST <= len(lines) <= BURST + FIRST + 5


async def test_a_client_that_does_not_read(port, client, monkeypatch) -> None:
    """A client that does not read loses its connection after the time limit of a send."""
    monkeypatch.setattr(http, "SEND_SECONDS", 0.05)
    monkeypatch.setattr(serve, "GRACE_SECONDS", 0.05)
    stream = await secure(port, client, small=True)
    with trio.fail_after(20):
        try:
            while True:
                await stream.send_all(b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * 100)
        except trio.BrokenResourceError:
            pass
    await stream.aclose()
    assert (await console(port, client).call(show_health())).ok


async def test_stopping_waits_for_nobody(machine, files, client, quick: MockClock) -> None:
    """A stop closes idle connections and open handshakes at once."""
    async with over_tcp(machine, files) as port:
        idle, stalled = await secure(port, client), await plain(port)
        await idle.send_all(REQUEST)
        assert (await idle.receive_some()).startswith(b"HTTP/1.1 200 ")
        await stalled.send_all(b"\x16")
        await wait_all_tasks_blocked(0.01)
        began = trio.current_time()
    assert trio.current_time() - began < 1
    assert await everything(stalled) == b""
    await everything(idle)
    await stalled.aclose()
    await idle.aclose()


async def test_a_stack_that_does_not_load(machine, files, client, monkeypatch, quick: MockClock) -> None:
    """While the HTTP stack can't be loaded, connections over TCP wait; then they are answered."""
    real = serve._load

    def broken(machine):
        monkeypatch.setattr(serve, "_load", real)
        raise ImportError("half an installation")

    monkeypatch.setattr(serve, "_load", broken)
    async with over_tcp(machine, files) as port:
        assert (await console(port, client).call(show_health())).ok


async def test_a_bug_in_a_handshake_ends_one_connection(port, client, monkeypatch) -> None:
    """An unexpected error in a handshake is logged, and the connection's place is free again."""

    async def crash(self, stream):
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch, logged("control.connection_failed") as lines:
        patch.setattr(tls.TlsHandshakes, "admit", crash)
        stream = await plain(port)
        assert await everything(stream) == b""
        await stream.aclose()
    assert len(lines) == 1
    assert (await console(port, client).call(show_health())).ok


def test_files_that_make_no_sense(authority, files, tmp_path: Path) -> None:
    """A file of TLS that can't be used is refused at the start.

    The error has its name and not its contents.
    """
    other = authority.files("other", "localhost")
    empty = tmp_path / "empty.pem"
    empty.touch(0o600)
    hidden = authority.files("hidden", passphrase=b"word")
    for wrong, message in [
        (files._replace(ca=tmp_path / "none"), "none: No such file"),
        (files._replace(cert=tmp_path / "none"), "none: No such file"),
        (files._replace(key=tmp_path / "none"), "none: No such file"),
        (files._replace(key=Path("a\0b")), "embedded null"),
        (files._replace(key=tmp_path), "is not a plain file"),
        (files._replace(ca=empty), "empty.pem: no certificate or crl found"),
        (files._replace(cert=empty), r"empty.pem: no start line|empty.pem: .*pem"),
        (files._replace(key=other.key), "server.crt: key values mismatch"),
        (hidden, "without a passphrase"),
    ]:
        with pytest.raises(OperatorError, match=message) as caught:
            server_context(ServerFiles(*wrong))
        assert caught.value.rule is rules.TLS_FILES
    for mode in (0o640, 0o604, 0o610):
        other.key.chmod(mode)
        with pytest.raises(OperatorError, match=f"mode {mode:04o}; set it to 0600") as caught:
            server_context(ServerFiles(*other))
        assert caught.value.rule is rules.TLS_KEY_PRIVATE
