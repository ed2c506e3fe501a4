"""The event stream over real sockets: its events and its ends. It leaves no thread or connection behind."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from hcall_abi.control_views import EventView
from hcall_client import events
from hcall_client.console import ConsoleMisspoken, ConsoleRefused, ConsoleUnreachable
from hcall_client.events import SILENCE_SECONDS, WAITING, watch_events
from tests.client.test_event_lines import encoded
from tests.client.web import STREAM, Script, answering, staying, unix_server

HELLO = EventView(number=1, kind="hello")
CHANGED = EventView(number=2, kind="changed", partition="lpar1", uuid="u")
PROBLEM = (
    b'{"type":"t","title":"t","status":409,"detail":"no","fault":"operator","rule_id":"events.streams",'
    b'"rule":"r","section":"s","code":null}'
)


def answer_of(status: bytes, kind: bytes, body: bytes) -> Script:
    """A script that sends this answer at once."""
    head = b"HTTP/1.1 %s\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n" % (status, kind, len(body))
    return answering(head + body)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


async def test_events_come_as_they_are_sent(path: Path) -> None:
    """The client sends the request of the contract, with the console's id. A comment is not an event."""
    asked = list[bytes]()

    async def script(head: bytes, stream: trio.abc.Stream) -> None:
        asked.append(head.lower())
        await stream.send_all(STREAM + b":\n\n" + encoded(HELLO)[:9])
        await stream.send_all(encoded(HELLO)[9:] + b": life\n")
        await stream.send_all(encoded(CHANGED))
        await stream.receive_some()

    async with unix_server(path, script):
        async with watch_events(path, "5a" * 16) as stream:
            assert [await stream.receive(), await stream.receive()] == [HELLO, CHANGED]
        async with watch_events(str(path)) as stream:
            assert await stream.receive() == HELLO
    attached, spectator = asked
    assert attached.startswith(b"get /v1/events http/1.1\r\n")
    assert b"\r\naccept: text/event-stream\r\n" in attached
    assert b"\r\nswpks-console: " + b"5a" * 16 + b"\r\n" in attached
    assert b"swpks-console" not in spectator


async def test_chunked_answers(path: Path) -> None:
    """The reader accepts a stream in chunks, as Hypercorn sends it."""
    head = STREAM.replace(b"\r\n\r\n", b"\r\ntransfer-encoding: chunked\r\n\r\n")
    data = encoded(HELLO)
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in data)
    async with unix_server(path, answering(head, chunks, b"0\r\n\r\n")), watch_events(path) as stream:
        assert await stream.receive() == HELLO
        with pytest.raises(ConsoleUnreachable, match="the stream has ended"):
            await stream.receive()


@pytest.mark.parametrize("ending", [b"", b"id: 3\n"], ids=["between", "within"])
async def test_the_end_is_an_error(path: Path, ending: bytes) -> None:
    """After the last event, each read raises the error that the stream has ended."""
    script = answering(STREAM, encoded(HELLO), encoded(CHANGED), ending)
    async with unix_server(path, script), watch_events(path) as stream:
        for expected in (HELLO, CHANGED):
            assert await stream.receive() == expected
        for _ in range(2):
            with pytest.raises(ConsoleUnreachable, match=r"control.sock: the stream has ended"):
                await anext(stream)


async def test_an_error_leaves_the_block_unwrapped(path: Path) -> None:
    """The block raises plain exceptions and no group, for errors of the stream and of the caller's code."""
    async with unix_server(path, answering(STREAM)):
        with pytest.raises(ConsoleUnreachable):
            async with watch_events(path) as stream:
                await stream.receive()
        with pytest.raises(KeyError):
            async with watch_events(path):
                raise KeyError


async def test_a_stream_that_is_cut(path: Path) -> None:
    """A body that is shorter than announced is an error."""
    head = STREAM.replace(b"\r\n\r\n", b"\r\ncontent-length: 1000\r\n\r\n")
    async with unix_server(path, answering(head + encoded(HELLO))), watch_events(path) as stream:
        assert await stream.receive() == HELLO
        with pytest.raises(ConsoleUnreachable, match="closed"):
            await stream.receive()


async def test_a_stream_that_misspeaks(path: Path) -> None:
    """An event before a wrong line is still received; the wrong line raises an error."""
    async with (
        unix_server(path, staying(STREAM + encoded(HELLO) + b"garbage\n")),
        watch_events(path) as stream,
    ):
        assert await stream.receive() == HELLO
        with pytest.raises(ConsoleMisspoken, match="'garbage' in the place of 'id'"):
            await stream.receive()


async def test_silence_ends_a_stream(path: Path, autojump_clock: MockClock) -> None:
    """A comment restarts the limit of silence; an unfinished line does not."""
    del autojump_clock
    started = trio.current_time()

    async def script(_: bytes, stream: trio.abc.Stream) -> None:
        await stream.send_all(STREAM)
        for _comment in range(5):
            await trio.sleep(SILENCE_SECONDS - 1)
            await stream.send_all(b":\n\n")
        while True:
            await trio.sleep(1)
            await stream.send_all(b"i")

    async with unix_server(path, script), watch_events(path) as stream:
        with pytest.raises(ConsoleUnreachable, match="silent for 30 seconds"):
            await stream.receive()
    assert trio.current_time() - started == pytest.approx(5 * 29 + 30, abs=1)


async def test_a_slow_reader_is_no_silence(path: Path, autojump_clock: MockClock) -> None:
    """A reader may take the events late: they wait for the reader, and none is lost."""
    del autojump_clock
    many = [EventView(number=each, kind="changed") for each in range(3 * WAITING)]
    async with unix_server(path, staying(STREAM, *map(encoded, many))), watch_events(path) as stream:
        await trio.sleep(10 * SILENCE_SECONDS)
        assert [await stream.receive() for _ in many] == many


async def test_a_block_may_be_left_with_events_in_it(path: Path) -> None:
    """The block can be left although more events arrive than the buffer holds."""
    many = [encoded(EventView(number=each, kind="changed")) for each in range(2 * WAITING)]
    async with unix_server(path, staying(STREAM, *many)), watch_events(path):
        await trio.testing.wait_all_tasks_blocked(0.01)


async def test_a_receive_may_be_cancelled(path: Path, autojump_clock: MockClock) -> None:
    """After a cancelled `receive` the stream goes on and loses no event."""
    del autojump_clock
    more = trio.Event()

    async def script(_: bytes, stream: trio.abc.Stream) -> None:
        await stream.send_all(STREAM)
        await more.wait()
        await stream.send_all(encoded(HELLO))
        await stream.receive_some()

    async with unix_server(path, script), watch_events(path) as stream:
        with trio.move_on_after(1) as waited:
            await stream.receive()
        assert waited.cancelled_caught
        more.set()
        assert await stream.receive() == HELLO


async def test_it_is_cancelled_at_once(path: Path, autojump_clock: MockClock) -> None:
    """A cancel during opening or reading takes no time, closes the connection, and leaves no thread."""
    del autojump_clock
    ended = trio.Event()
    threads = threading.active_count()

    async def script(_: bytes, stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        ended.set()

    async with unix_server(path, script):
        with trio.move_on_after(1):
            async with watch_events(path):
                pytest.fail("nothing was answered")
        await ended.wait()
    path.unlink()
    async with unix_server(path, staying(STREAM)):
        with trio.CancelScope() as scope:
            async with watch_events(path) as stream:
                scope.cancel()
                await stream.receive()
    assert trio.current_time() == pytest.approx(1, abs=0.5)
    assert threading.active_count() == threads


async def test_a_reader_that_closes_its_end(path: Path) -> None:
    """After `aclose` later events are dropped, and the block ends."""
    async with unix_server(path, staying(STREAM, encoded(HELLO))), watch_events(path) as stream:
        await stream.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive()
        await trio.testing.wait_all_tasks_blocked(0.01)


async def test_a_problem_refuses_the_stream(path: Path) -> None:
    """If the system refuses the stream with a problem, the error has the rule in that problem."""
    async with unix_server(path, answer_of(b"409 Conflict", b"application/problem+json", PROBLEM)):
        with pytest.raises(ConsoleRefused, match="no") as caught:
            async with watch_events(path):
                pytest.fail("the stream was opened")
    assert caught.value.rule.id == "events.streams"


@pytest.mark.parametrize(
    "script,reason",
    [
        (answer_of(b"200 OK", b"application/json", b"{}"), "status 200 and type 'application/json'"),
        (answer_of(b"404 Not Found", b"text/html", b"<html>"), "status 404"),
        (answer_of(b"409 Conflict", b"application/problem+json", b"{}"), "a body of another shape"),
        (answer_of(b"500 Oh", b"text/html", bytes(events.LONGEST_PROBLEM + 1)), "more than 65536 bytes"),
    ],
)
async def test_answers_that_are_no_stream(path: Path, script: Script, reason: str) -> None:
    """If another program answers on the socket, the error says so."""
    async with unix_server(path, script):
        with pytest.raises(ConsoleMisspoken, match=reason):
            async with watch_events(path):
                pytest.fail("the stream was opened")


async def test_nobody_is_there(path: Path, autojump_clock: MockClock) -> None:
    """If there is no socket or no answer, opening the stream raises an error."""
    del autojump_clock
    with pytest.raises(ConsoleUnreachable, match=f"server at {path}: .*No such file"):
        async with watch_events(path):
            pytest.fail("the stream was opened")

    async def silent(_: bytes, stream: trio.abc.Stream) -> None:
        await stream.receive_some()

    async with unix_server(path, silent):
        with pytest.raises(ConsoleUnreachable, match="did not answer in time"):
            async with watch_events(path):
                pytest.fail("the stream was opened")
