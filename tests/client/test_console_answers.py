"""Answers whose length is missing, wrong or too large: an error of the protocol, never a traceback."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec
import pytest

from hcall_abi.control_views import Problem
from hcall_client import console, patient_http
from hcall_client.console import (
    BlockingConsole,
    Console,
    ConsoleMisspoken,
    ConsoleRefused,
    ConsoleUnreachable,
)
from hcall_client.control_transport import transport_to

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"
SMALL = 1000
LARGE = console.restore_copy(bytes(1 << 20))
"""A request whose body is larger than the buffer of a socket."""


@contextmanager
def answering(folder: Path, answer: bytes) -> Iterator[str]:
    """A server that sends `answer` to one request and closes its connection; the value is its socket."""
    path = str(folder / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            served, _ = listener.accept()
            with served:
                served.recv(4096)
                try:
                    served.sendall(answer)
                except (BrokenPipeError, ConnectionResetError):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield path
        thread.join(20)


@pytest.fixture
def small(monkeypatch) -> None:
    """Set a small bound for the size of answers."""
    monkeypatch.setattr(console, "LARGEST_ANSWER", SMALL)
    monkeypatch.setattr(patient_http, "LARGEST_ANSWER", SMALL)
    monkeypatch.setattr(patient_http, "LARGEST_HEAD", SMALL)


WRONG = {
    "none": HEAD + b"\r\ntext",
    "closed": HEAD + b"connection: close\r\n\r\ntext",
    "word": HEAD + b"content-length: x\r\n\r\ntext",
    "negative": HEAD + b"content-length: -1\r\n\r\ntext",
    "one byte more": HEAD + b"content-length: 1001\r\n\r\n" + bytes(1001),
    "far too much": HEAD + b"content-length: 1" + b"0" * 30 + b"\r\n\r\ntext",
    "digits": HEAD + b"content-length: 1" + b"0" * 5000 + b"\r\n\r\ntext",
    "large pieces": HEAD + b"transfer-encoding: chunked\r\n\r\n7d0\r\n" + b"x" * 2000 + b"\r\n0\r\n\r\n",
    "negative piece": HEAD + b"transfer-encoding: chunked\r\n\r\n-1\r\n" + b"x" * 9000,
    "a head without end": b"HTTP/1.1 100 Continue\r\n\r\n" * 200,
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_length_breaks_the_protocol(tmp_path, small, name) -> None:
    """An answer whose length is missing, wrong or too large raises an error, so it can't fill the memory."""
    with answering(tmp_path, WRONG[name]) as path, pytest.raises(ConsoleMisspoken):
        BlockingConsole(path, 10).call(console.show_metrics())


@pytest.mark.parametrize("answer", [HEAD + b"content-length: 9\r\n\r\ntext", HEAD])
def test_half_an_answer_is_none(tmp_path, answer) -> None:
    """An answer that ends before its announced length is refused: its end may have been lost."""
    with answering(tmp_path, answer) as path, pytest.raises((ConsoleUnreachable, ConsoleMisspoken)):
        BlockingConsole(path, 10).call(console.show_metrics())


@pytest.mark.parametrize("close", [b"", b"connection: close\r\n"])
def test_an_honest_answer_is_read(tmp_path, small, close) -> None:
    """An answer of the largest allowed size is read, also if the server then closes the connection."""
    answer = HEAD + close + b"content-length: 1000\r\n\r\n" + b"x" * SMALL
    with answering(tmp_path, answer) as path:
        assert BlockingConsole(path, 10).call(console.show_metrics()) == "x" * SMALL


REFUSAL = Problem(
    type="about:blank",
    title="Not Found",
    status=404,
    detail="there is no partition 'lpar9'",
    fault="operator",
    rule_id="partition.known",
    rule="",
    section="",
)


@pytest.mark.parametrize("over_httpx", [False, True], ids=["path", "httpx"])
async def test_a_refusal_before_the_body_is_read(tmp_path, over_httpx) -> None:
    """The server answers by the header and closes: the client can't send its body, and reads the answer."""
    content = msgspec.json.encode(REFUSAL)
    head = b"HTTP/1.1 404 \r\ncontent-type: application/problem+json\r\ncontent-length: %d\r\n\r\n"
    with (
        answering(tmp_path, head % len(content) + content) as path,
        pytest.raises(ConsoleRefused, match="no partition 'lpar9'"),
    ):
        await Console(transport_to(path) if over_httpx else path, 10).call(LARGE)


def test_a_server_that_closes_before_the_body_is_read(tmp_path) -> None:
    """Without an answer, the failed send is the reason."""
    with answering(tmp_path, b"") as path, pytest.raises(ConsoleUnreachable, match=r"Broken pipe|reset"):
        BlockingConsole(path, 10).call(LARGE)


@pytest.mark.parametrize("name", ["one byte more", "large pieces"])
async def test_the_way_of_httpx_has_the_same_bound(tmp_path, small, name) -> None:
    """A console over httpx applies the same bound."""
    with answering(tmp_path, WRONG[name]) as path, pytest.raises(ConsoleMisspoken):
        await Console(transport_to(path), 10).call(console.show_metrics())


async def test_an_answer_without_a_network_has_it_too(small) -> None:
    """The bound also holds for a transport of httpx that has already read the whole answer."""
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=bytes(SMALL + 1)))
    with pytest.raises(ConsoleMisspoken):
        await Console(transport, 10).call(console.show_metrics())
