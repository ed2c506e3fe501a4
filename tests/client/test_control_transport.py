"""Transports of httpx to a control channel: a Unix socket that may be full, and TCP with mutual TLS."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import pytest
import trio
from trio.testing import MockClock

from hcall_abi.errors import OperatorError
from hcall_abi.rules import console as rules
from hcall_abi.rules import service
from hcall_client.console import Console, ConsoleUnreachable, show_metrics
from hcall_client.control_transport import TlsFiles, parse_https, transport_to
from hcall_client.events import watch_events
from tests.certificates import Authority
from tests.client.test_event_lines import encoded
from tests.client.test_events import HELLO
from tests.client.web import STREAM, answering, staying, tls_server, unix_server

METRICS = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nx\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def server(authority: Authority) -> TlsFiles:
    return authority.server()


@pytest.fixture(scope="module")
def client(authority: Authority) -> TlsFiles:
    return authority.client()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_calls_and_events_by_tls(server: TlsFiles, client: TlsFiles, host: str) -> None:
    """One transport carries many calls, also at the same time, and an event stream beside them."""
    script = answering(METRICS)
    address = f"[{host}]" if ":" in host else host
    bound = "127.0.0.1" if host == "localhost" else host
    async with tls_server(server, script, bound) as port:
        console = Console(transport_to(f"https://{address}:{port}", client))
        for _ in range(2):
            assert await console.call(show_metrics()) == "x\n"
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(console.call, show_metrics())
    script = staying(STREAM + encoded(HELLO))
    async with (
        tls_server(server, script, bound) as port,
        watch_events(transport_to(f"https://{address}:{port}", client)) as events,
    ):
        assert await events.receive() == HELLO


async def test_the_request_names_the_host(server: TlsFiles, client: TlsFiles) -> None:
    """The Host header has the transport's address."""
    asked = list[bytes]()

    async def script(head: bytes, stream: trio.abc.Stream) -> None:
        asked.append(head)
        await stream.send_all(METRICS)

    async with tls_server(server, script) as port:
        await Console(transport_to(f"https://127.0.0.1:{port}", client)).call(show_metrics())
    assert asked[0].startswith(b"GET /metrics HTTP/1.1\r\n")
    assert b"\r\nhost: 127.0.0.1:%d\r\n" % port in asked[0].lower()


async def test_a_server_with_another_name(authority: Authority, client: TlsFiles) -> None:
    """A certificate of our CA for another host is refused."""
    files = authority.files("elsewhere", "power.example")
    async with tls_server(files, answering(METRICS)) as port:
        with pytest.raises(ConsoleUnreachable, match=r"not valid for '127\.0\.0\.1'"):
            await Console(transport_to(f"https://127.0.0.1:{port}", client)).call(show_metrics())


async def test_a_foreign_server(tmp_path: Path, server: TlsFiles, client: TlsFiles) -> None:
    """A certificate of a CA that the client does not trust is refused."""
    ours = client._replace(ca=Authority(tmp_path, "other").file)
    async with tls_server(server, answering(METRICS)) as port:
        place = f"https://127.0.0.1:{port}"
        with pytest.raises(ConsoleUnreachable, match=f"at {place}: .*CERTIFICATE_VERIFY_FAILED"):
            await Console(transport_to(place, ours)).call(show_metrics())
        with pytest.raises(ConsoleUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
            async with watch_events(transport_to(place, ours)):
                pytest.fail("a foreign server was accepted")


async def test_a_server_that_does_not_speak(client: TlsFiles, autojump_clock: MockClock) -> None:
    """If the server sends nothing, the call ends at its timeout, and its connection is closed."""
    del autojump_clock
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ConsoleUnreachable, match="did not answer in time"):
            await Console(transport_to(place, client)).call(show_metrics())
        accepted, _ = listener.accept()
        with accepted:
            accepted.settimeout(20)
            while accepted.recv(4096):
                pass


async def test_nobody_listens(client: TlsFiles) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConsoleUnreachable, match=f"127.0.0.1:{port}: "):
        await Console(transport_to(f"https://127.0.0.1:{port}", client)).call(show_metrics())


async def test_a_path(tmp_path: Path) -> None:
    """One transport carries several calls over a Unix socket, one after the other."""
    async with unix_server(tmp_path / "control.sock", answering(METRICS)) as path:
        console = Console(transport_to(path))
        for _ in range(3):
            assert await console.call(show_metrics()) == "x\n"
    assert repr(transport_to("a/b")) == "ControlTransport('a/b')"


async def test_a_full_queue_is_waited_for(tmp_path: Path, autojump_clock: MockClock) -> None:
    """If the queue of the listening socket is full, the transport tries to connect until its timeout."""
    del autojump_clock
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(path))
        listener.listen(0)
        first.connect(str(path))
        console = Console(transport_to(path), 5)
        with pytest.raises(ConsoleUnreachable, match="did not answer in time"):
            await console.call(show_metrics())
        assert trio.current_time() == pytest.approx(5)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_serve_later, listener)
            assert await console.call(show_metrics()) == "x\n"


async def _serve_later(listener: socket.socket) -> None:
    """Empty the queue after a while, then answer the next request."""
    await trio.sleep(2)
    listener.accept()[0].close()
    listener.setblocking(False)
    await trio.lowlevel.wait_readable(listener)
    accepted = trio.socket.from_stdlib_socket(listener.accept()[0])
    async with trio.SocketStream(accepted) as stream:
        while b"\r\n\r\n" not in await stream.receive_some():
            pass
        await stream.send_all(METRICS)


async def test_a_transport_of_another_is_not_closed() -> None:
    """The console leaves a transport of its caller open: to close it would end requests of other tasks."""

    class Kept(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            return httpx.Response(200, content=b"x\n", headers={"content-type": "text/plain"})

        async def aclose(self) -> None:
            pytest.fail("it was closed")

    console = Console(Kept())
    for _ in range(2):
        assert await console.call(show_metrics()) == "x\n"


@pytest.mark.parametrize(
    "where",
    [
        "",
        "a\0b",
        "http://127.0.0.1:1",
        "https://127.0.0.1",
        "https://127.0.0.1:0",
        "https://127.0.0.1:65536",
        "https://127.0.0.1:1/v1",
        "https://user@127.0.0.1:1",
        "https://::1:1",
        "https://a b:1",
        "ftp://x:1",
    ],
)
def test_places_that_make_no_sense(where: str, client: TlsFiles) -> None:
    with pytest.raises(OperatorError) as caught:
        transport_to(where, client)
    assert caught.value.rule is rules.CONSOLE_PLACE


def test_https_needs_files() -> None:
    with pytest.raises(OperatorError, match="needs a certificate") as caught:
        transport_to("https://localhost:1")
    assert caught.value.rule is rules.CONSOLE_PLACE
    assert parse_https("https://[::1]:7443/") == ("::1", 7443)


def test_files_that_make_no_sense(authority: Authority, client: TlsFiles, tmp_path: Path) -> None:
    """A TLS file that can't be used is refused before anything is sent, and the message names the file."""
    other = authority.client("other")
    empty = tmp_path / "empty.pem"
    empty.touch()
    hidden = authority.files("hidden", passphrase=b"word")
    for files, message in [
        (client._replace(ca=tmp_path / "none"), "none: No such file"),
        (client._replace(ca=empty), "empty.pem: no certificate or crl found"),
        (client._replace(cert=tmp_path / "none"), "none: No such file"),
        (client._replace(key=tmp_path / "none"), "none: No such file"),
        (client._replace(key=tmp_path), "is not a plain file"),
        (client._replace(key=other.key), "client.crt: key values mismatch"),
        (hidden, "without a passphrase"),
    ]:
        with pytest.raises(OperatorError, match=message) as caught:
            transport_to("https://localhost:1", files)
        assert caught.value.rule is service.TLS_FILES
    other.key.chmod(0o640)
    with pytest.raises(OperatorError, match="set it to 0600") as caught:
        transport_to("https://localhost:1", other)
    assert caught.value.rule is service.TLS_KEY_PRIVATE
