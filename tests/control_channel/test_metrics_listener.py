"""The metrics listener: GET /metrics over TCP, refusals of everything else, and bounds for each client."""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
import trio

from hcall_abi.errors import OperatorError
from hcall_abi.rules import service as rules
from hcall_server.control_channel import metrics_listener
from hcall_server.control_channel.metrics_http import LONGEST_HEAD, can_begin, head_of, status_of
from hcall_server.control_channel.metrics_listener import MAX_CONNECTIONS, serve_metrics
from hcall_server.service.settings import Settings
from tests.control_channel.rig import make_machine

GET = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"


@asynccontextmanager
async def listening() -> AsyncIterator[int]:
    """The metrics of a machine at a free port; cancelled at the end."""
    machine = make_machine()
    with socket.create_server(("127.0.0.1", 0)) as listener, trio.fail_after(20):
        listener.setblocking(False)
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_metrics, machine, listener)
            yield listener.getsockname()[1]
            nursery.cancel_scope.cancel()


async def until_closed(stream: trio.SocketStream) -> bytes:
    """Return all that the server sends before it closes."""
    return b"".join([bytes(piece) async for piece in stream])


async def without_end(stream: trio.SocketStream) -> None:
    """Send until the server does not take it any more."""
    while True:
        await stream.send_all(b"more")


async def asked(port: int, request: bytes) -> bytes:
    """Send bytes, and return the whole answer."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(request)
        return await until_closed(stream)


async def test_metrics_are_all_there_is() -> None:
    """A scrape gets the figures of the control channel; another path is 404 and another method is 405."""
    async with listening() as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        for _ in range(2):
            found = await client.get("/metrics")
            assert found.status_code == 200
            assert found.headers["content-type"].startswith("text/plain; version=")
            assert 'swpks_info{level="FW950"' in found.text
        statuses = {
            ("GET", "/"): 404,
            ("GET", "/v1/system"): 404,
            ("GET", "/metrics?x=1"): 404,
            ("GET", "/metrics/"): 404,
            ("POST", "/v1/stop"): 404,
            ("HEAD", "/"): 404,
            ("POST", "/metrics"): 405,
            ("OPTIONS", "/metrics"): 405,
        }
        for (method, path), status in statuses.items():
            refused = await client.request(method, path)
            assert (refused.status_code, refused.headers.get("allow")) == (
                status,
                "GET, HEAD" if status == 405 else None,
            )
            assert "swpks_info" not in refused.text


@pytest.mark.parametrize(
    "request_bytes,status",
    [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"\x16\x03\x01\r\n\r\n", 400),
        (b"GET  /metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET /metrics\n\n", 400),
        (b"GET /metrics HTTP/1.1\r\nx: " + b"y" * LONGEST_HEAD, 431),
        (b"POST /metrics HTTP/1.1\r\ncontent-length: 200000\r\n\r\n" + b"z" * 200_000, 405),
        (b"GET /metrics HTTP/1.0\n\n", 200),
        (b"GET http://x/metrics HTTP/1.1\r\nhost: x\r\n\r\n", 200),
        (b"GET HTTP://[::1]:9100/metrics HTTP/1.1\r\nhost: x\r\n\r\n", 200),
        (b"GET http://x/v1/metrics HTTP/1.1\r\nhost: x\r\n\r\n", 404),
        (b"GET http:///metrics HTTP/1.1\r\nhost: x\r\n\r\n", 404),
        (b"GET /metrics HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nhost: x\r\nx : y\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nhost: x\r\n y\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nx: \0\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nx: a\rb\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nx:\r\ny: \xe9\t\r\n\r\n", 200),
    ],
)
async def test_odd_requests_have_an_answer(request_bytes: bytes, status: int) -> None:
    """A request that is no HTTP/1, too long or followed by a body gets an answer that arrives."""
    async with listening() as port:
        answer = await asked(port, request_bytes)
        head, _, content = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        length = re.search(rb"content-length: (\d+)", head)
        assert length is not None
        assert int(length[1]) == len(content)
        assert b"\r\nconnection: close" in head


@pytest.mark.parametrize(
    "target,status", [(b"/metrics", 200), (b"http://x/metrics", 200), (b"/", 404), (b"/a HTTP/1.1\r\nb", 400)]
)
async def test_head_has_no_content(target: bytes, status: int) -> None:
    """HEAD gets the headers of GET, with the length of the content, and no byte of it."""
    async with listening() as port:
        answer = await asked(port, b"HEAD %b HTTP/1.1\r\n\r\n" % target)
        head, _, content = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert re.search(rb"content-length: [1-9]", head)
        assert content == b""


@pytest.mark.parametrize(
    "sent",
    [
        bytes.fromhex("16030100"),
        b"SSH-2.0-x\r\n",
        b"HCAL\0",
        b" ",
        b"GET /metrics HTTP/2",
        b"GET /metrics X",
        b"GET /metrics\n",
        b"GET /\0",
    ],
)
async def test_another_protocol_does_not_wait(sent: bytes) -> None:
    """Bytes that begin no request get 400 at once, without an empty line, and long before the deadline."""
    async with listening() as port:
        with trio.fail_after(metrics_listener.CONNECTION_SECONDS / 2):
            assert (await asked(port, sent)).startswith(b"HTTP/1.1 400 ")


def test_each_beginning_of_a_request_may_go_on() -> None:
    """No prefix of a correct request is refused."""
    for request in (GET, b"HEAD http://x/metrics HTTP/1.0\n\n"):
        assert [n for n in range(len(request)) if not can_begin(request[:n])] == []


async def test_a_request_may_come_in_pieces() -> None:
    """A head is read to its end, and a client that leaves before it harms nothing."""
    async with listening() as port:
        async with await trio.open_tcp_stream("127.0.0.1", port) as left:
            await left.send_all(GET[:10])
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            for each in GET:
                await stream.send_all(bytes([each]))
            assert (await until_closed(stream)).startswith(b"HTTP/1.1 200 ")


async def test_silent_clients_keep_no_place() -> None:
    """If more clients come than there are places, the oldest one ends, and a scrape gets through."""
    async with listening() as port, trio.open_nursery() as nursery:
        silent = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(MAX_CONNECTIONS)]
        assert (await asked(port, GET)).startswith(b"HTTP/1.1 200 ")
        assert await until_closed(silent[0]) == b""
        await silent[-1].send_all(GET)
        assert (await until_closed(silent[-1])).startswith(b"HTTP/1.1 200 ")
        for each in silent:
            nursery.start_soon(each.aclose)


async def test_a_slow_client_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not finish its request is ended by the deadline."""
    monkeypatch.setattr(metrics_listener, "CONNECTION_SECONDS", 0.05)
    async with listening() as port:
        assert await asked(port, GET[:-2]) == b""


async def test_a_client_that_stays_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that keeps its side open after the answer is closed after a short time."""
    monkeypatch.setattr(metrics_listener, "PARTING_SECONDS", 0.05)
    async with listening() as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(GET)
        await until_closed(stream)
        with pytest.raises(trio.BrokenResourceError):
            await without_end(stream)


async def test_a_format_that_cannot_be_loaded_is_503(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A shortage at the first scrape is a 503; the next scrape tries again."""
    failures = [OSError(24, "Too many open files")]
    load = metrics_listener._load

    def failing() -> metrics_listener.Expose:
        if failures:
            raise failures.pop()
        return load()

    monkeypatch.setattr(metrics_listener, "_load", failing)
    async with listening() as port:
        assert (await asked(port, GET)).startswith(b"HTTP/1.1 503 ")
        assert (await asked(port, GET)).startswith(b"HTTP/1.1 200 ")


async def test_a_mistake_ends_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the server closes its connection, and the next scrape is served."""
    mistakes = [ValueError("a bug")]
    load = metrics_listener._load

    def loaded() -> metrics_listener.Expose:
        expose = load()

        def once(machine: object) -> bytes:
            if mistakes:
                raise mistakes.pop()
            return expose(machine)  # type: ignore[arg-type]

        return once

    monkeypatch.setattr(metrics_listener, "_load", loaded)
    async with listening() as port:
        assert await asked(port, GET) == b""
        assert (await asked(port, GET)).startswith(b"HTTP/1.1 200 ")


def test_heads_end_at_an_empty_line() -> None:
    """The head of a request has no byte of its body; a head without an end has no status but 431."""
    assert head_of(b"GET /metrics HTTP/1.1\r\nx: y\r\n\r\nbody") == b"GET /metrics HTTP/1.1\r\nx: y"
    assert head_of(b"GET /metrics HTTP/1.1\r\n") is None
    assert status_of(None) == 431


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "[::1]"])
def test_loopback_needs_no_permission(host: str) -> None:
    """An address of this machine alone is served without a further option."""
    found = Settings(metrics=f"tcp:{host}:9100").metrics_over_tcp()
    assert found == (host.strip("[]"), 9100)
    assert Settings().metrics_over_tcp() is None


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.0.2.1", "localhost.example", "127.0.0.1.example"])
def test_other_addresses_need_permission(host: str) -> None:
    """An address that others reach is refused, unless the operator permits it."""
    settings = Settings(metrics=f"tcp:{host}:0")
    with pytest.raises(OperatorError, match="--insecure-listen") as refused:
        settings.metrics_over_tcp()
    assert refused.value.rule is rules.METRICS_LOOPBACK
    permitted = Settings(metrics=f"tcp:{host}:0", insecure_listen=True)
    assert permitted.metrics_over_tcp() == (host.strip("[]"), 0)
