"""The event stream on a real socket: its readers, its ends, and the resources that an end frees."""

from __future__ import annotations

from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Any

import msgspec
import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock, wait_all_tasks_blocked

from hcall_abi.bounds import HEARTBEAT_SECONDS, MAX_STREAMS
from hcall_abi.control_views import EventView
from hcall_server.control_channel import http, serve
from hcall_server.control_channel.events import HEARTBEAT, EventStream
from hcall_server.machine.machine import Machine
from hcall_server.machine.streams import opened_stream
from tests.control_channel.rig import make_machine, over_socket, served
from tests.control_channel.streams import CONSOLE, ID, OTHER_ID, Streamed, request, streamed
from tests.control_channel.test_serve import connect, everything, exchange


@pytest.fixture
def machine() -> Machine:
    machine = make_machine()
    machine.changes.create("a", 8)
    return machine


@pytest.fixture
async def path(machine, tmp_path):
    async with served(machine, tmp_path / "control.sock") as path:
        yield path


async def attached(machine: Machine) -> None:
    await machine.attachment.attach(bytes.fromhex(ID), "hmc1")


async def until(condition) -> None:
    """Let the server run until a condition holds."""
    with trio.fail_after(20):
        while not condition():
            await wait_all_tasks_blocked()


async def test_the_first_event_is_hello_and_changes_follow(machine, path) -> None:
    """The first event is hello. Then a spectator gets each change that the console shows, with a number."""
    async with streamed(path) as reader:
        assert b"200" in reader.head.split(b"\r\n")[0]
        assert b"content-type: text/event-stream" in reader.head
        hello = await reader.until("hello")
        machine.power_on("a")
        event = await reader.until("changed")
        assert (event["partition"], event["uuid"]) == ("a", str(machine.system.find("a").profile.uuid))
        assert event["number"] > hello["number"]
        machine.notify_watchers()
        assert msgspec.convert(await reader.until("changed"), EventView).partition == ""
    assert machine.attachment.link is None


async def test_every_change_of_the_console_is_told(machine, path) -> None:
    """Each verb that changes a view sends an event `changed`."""
    async with streamed(path) as reader, over_socket(path) as client:
        await reader.until("hello")
        for method, place, body in (
            ("PUT", "/v1/console", CONSOLE),
            ("POST", "/v1/partitions", {"name": "b"}),
            ("PATCH", "/v1/partitions/a/attributes", {"secure_boot": 1}),
            ("PATCH", "/v1/partitions/b", {"new_name": "c"}),
            ("POST", "/v1/partitions/c/delete", {}),
            ("POST", "/v1/partitions/a/power-on", None),
            ("POST", "/v1/partitions/a/ipl", None),
            ("POST", "/v1/partitions/a/power-off", None),
            ("PATCH", "/v1/system", {"name": "another"}),
        ):
            answer = await client.request(method, place, json=body)
            assert answer.is_success, answer.text
            await reader.until("changed")


async def test_the_console_is_connected_while_its_stream_is_open(machine, path) -> None:
    """The console is connected from the begin to the end of a stream whose header has the console's id."""
    await attached(machine)
    async with streamed(path, ID) as reader:
        await reader.until("hello")
        assert machine.attachment.connected
        assert (await reader.until("take-copy"))["partition"] == "a"
    await until(lambda: not machine.attachment.connected)


async def test_a_stream_of_another_console_is_refused(machine, path) -> None:
    """A stream with the id of another console is refused, whether a console is attached or not."""
    answers = [await exchange(path, request(ID, last=True))]
    await attached(machine)
    answers += [await exchange(path, request(each, last=True)) for each in (OTHER_ID, "x", "")]
    for answer in answers:
        assert answer.startswith(b"HTTP/1.1 409 ")
        assert b'"rule_id":"console.known"' in answer


async def test_no_query_and_no_body_of_head(machine, path) -> None:
    """A stream with a query is refused, as for every verb. HEAD opens no stream."""
    assert (await exchange(path, request(target="/v1/events?since=1", last=True))).startswith(
        b"HTTP/1.1 400 "
    )
    answer = await exchange(path, request(method="HEAD", last=True))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n")
    assert machine.events._watchers == []


async def test_a_newer_stream_of_the_console_ends_the_older(machine, path) -> None:
    """A second stream of the console ends the first one, whose loss the server may not have noticed.

    The console stays connected.
    """
    await attached(machine)
    async with streamed(path, ID) as older, streamed(path, ID) as newer:
        await newer.until("take-copy")
        await older.rest()
        assert await everything(older.stream) == b""
        assert machine.attachment.connected
        machine.notify_watchers()
        await newer.until("changed")


async def test_open_questions_are_sent_to_a_new_stream(machine, path) -> None:
    """Open questions are sent to each new stream, however soon the console returns."""
    await attached(machine)
    for _ in range(3):
        async with streamed(path, ID) as reader:
            await reader.until("take-copy")


async def test_looks_follow_each_other_in_the_interval(machine, path) -> None:
    """The system looks for changed stores in each interval, and asks the console only after a change."""
    machine.copy_interval = 0.01
    await attached(machine)
    async with streamed(path, ID) as reader, over_socket(path) as client:
        for mode in (1, 2, 1):
            uuid = (await reader.until("take-copy"))["uuid"]
            copy = (await client.get("/v1/partitions/a/copy")).json()
            facts = {field: copy[field] for field in ("uuid", "restores", "generation", "time")}
            assert (await client.put("/v1/partitions/a/copy", json=facts)).status_code == 200
            assert copy["uuid"] == uuid
            machine.system.find("a").keystore.contents.touch()
            machine.set_attributes("a", {"secure_boot": mode})


async def test_streams_are_bounded_and_the_console_has_a_place(machine, path) -> None:
    """Too many spectators get a problem; the console always has a place."""
    await attached(machine)
    async with AsyncExitStack() as stack:
        for _ in range(MAX_STREAMS - 1):
            reader = await stack.enter_async_context(streamed(path))
            await reader.until("hello")
        answer = await exchange(path, request(last=True))
        assert answer.startswith(b"HTTP/1.1 409 ")
        assert b'"rule_id":"events.streams"' in answer
        async with streamed(path, ID) as console:
            await console.until("hello")
            last = await stack.enter_async_context(streamed(path, ID))
            await last.until("hello")
    await until(lambda: not machine.events._watchers)
    async with streamed(path) as reader:
        await reader.until("hello")


async def test_a_stream_takes_no_place_and_has_no_end(machine, tmp_path, monkeypatch) -> None:
    """A stream does not count as a connection, and lasts longer than the lifetime of a connection."""
    monkeypatch.setattr(serve, "MAX_CONNECTIONS", 1)
    monkeypatch.setattr(serve, "LIFETIME_SECONDS", 0.2)
    async with served(machine, tmp_path / "control.sock") as path, streamed(path) as reader:
        await reader.until("hello")
        # The server closes this ordinary connection at the end of its lifetime.
        assert await exchange(path, b"GET ") == b""
        async with over_socket(path) as client:
            assert (await client.get("/health")).status_code == 200
        machine.notify_watchers()
        await reader.until("changed")
        await reader.stream.aclose()
        await until(lambda: not machine.events._watchers)
        async with over_socket(path) as client:
            assert (await client.get("/health")).status_code == 200


async def test_forty_idle_connections_do_not_disturb_a_stream(machine, path) -> None:
    """Forty idle connections take all places, and an open stream goes on."""
    await attached(machine)
    async with AsyncExitStack() as stack, streamed(path, ID) as reader:
        await reader.until("hello")
        for _ in range(40):
            await stack.enter_async_context(await connect(path))
        machine.power_on("a")
        await reader.until("changed")
        assert machine.attachment.connected


async def test_a_reader_that_stops_reading_is_cut(machine, tmp_path, monkeypatch) -> None:
    """A reader that stops reading is cut after the time limit of a send. Then the console counts as away."""
    monkeypatch.setattr(http, "SEND_SECONDS", 0.05)
    await attached(machine)
    async with served(machine, tmp_path / "control.sock") as path, streamed(path, ID):
        with trio.fail_after(20):
            while machine.attachment.connected:
                machine.notify_watchers()
                await wait_all_tasks_blocked()
                await trio.lowlevel.checkpoint()


async def test_the_stop_does_not_wait_for_a_stream(machine, tmp_path) -> None:
    """At a stop, each reader gets the event `stopping`, and its connection ends at once."""
    await attached(machine)
    async with AsyncExitStack() as stack:
        async with served(machine, tmp_path / "control.sock") as path:
            readers = [await stack.enter_async_context(streamed(path, each)) for each in (ID, None)]
            for reader in readers:
                await reader.until("hello")
            began = trio.current_time()
        assert trio.current_time() - began < 1
        for reader in readers:
            assert (await reader.rest())[-1] == "stopping"
            assert await everything(reader.stream) == b""


async def test_the_stop_does_not_wait_for_a_reader_that_does_not_read(machine, tmp_path) -> None:
    """A stop cuts the connection of a reader that does not read, long before the time limit of a send."""
    async with AsyncExitStack() as stack:
        async with served(machine, tmp_path / "control.sock") as path:
            await stack.enter_async_context(streamed(path))
            watcher = machine.events._watchers[0]
            # The loop ends when the pipe is full.
            while not watcher._unsent:
                machine.notify_watchers()
                await wait_all_tasks_blocked()
            began = trio.current_time()
        assert trio.current_time() - began < 1


async def test_a_stream_that_begins_during_the_stop_ends_at_once(machine, path) -> None:
    """A stream that is opened during the stop, on an open connection, gets hello and stopping, and ends."""
    machine.events.stop()
    async with streamed(path) as reader:
        assert await reader.rest() == ["hello", "stopping"]


async def test_the_next_request_of_a_stream_is_not_answered(machine, path) -> None:
    """A second request on the connection of a stream gets no answer.

    Otherwise a stream would let its connection serve requests beyond the lifetime of connections.
    """
    async with streamed(path) as reader:
        await reader.until("hello")
        await reader.stream.send_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        await wait_all_tasks_blocked()
        machine.events.stop()
        assert b"HTTP/1.1" not in await everything(reader.stream)


async def written(machine: Machine, console: str | None, send: Any, scope: dict[str, Any]) -> None:
    """Write a stream to a function, without HTTP. Its reader stays until the task is cancelled."""

    async def receive() -> dict[str, Any]:
        await trio.sleep_forever()
        raise AssertionError

    stream = EventStream(machine, console)
    await stream({"method": "GET", **scope}, receive, send)


async def test_a_heartbeat_every_ten_seconds(machine, nursery, autojump_clock: MockClock) -> None:
    """Heartbeats also come between events, so a reader knows that the system runs."""
    sender, receiver = trio.open_memory_channel[dict[str, Any]](0)
    nursery.start_soon(written, machine, None, sender.send, {"http_version": "1.1"})
    begun = await receiver.receive()
    assert (b"connection", b"close") in begun["headers"]
    assert b"hello" in (await receiver.receive())["body"]
    for _ in range(3):
        before = trio.current_time()
        assert (await receiver.receive())["body"] == HEARTBEAT
        assert trio.current_time() - before == pytest.approx(HEARTBEAT_SECONDS)
    nursery.cancel_scope.cancel()


async def test_over_http_2_a_stream_is_not_exempt(machine, nursery) -> None:
    """Over HTTP/2 a stream ends with the lifetime of its connection, which other requests use too."""
    sender, receiver = trio.open_memory_channel[dict[str, Any]](10)
    scope = {"http_version": "2", "state": {http.EXEMPT: lambda: 1 / 0}}
    nursery.start_soon(written, machine, None, sender.send, scope)
    assert (b"connection", b"close") not in (await receiver.receive())["headers"]
    assert b"hello" in (await receiver.receive())["body"]
    nursery.cancel_scope.cancel()


async def test_looks_come_in_the_interval_of_the_settings(machine, autojump_clock: MockClock) -> None:
    """The system sends `take-copy` at most once per interval, also if the store changes all the time.

    The interval is 60 seconds by default.
    """
    await attached(machine)
    times: list[float] = []
    with opened_stream(machine, ID) as reader:
        while len(times) < 4:
            events = await reader.next()
            assert events is not None
            for event in events:
                if event.kind == "take-copy":
                    times.append(trio.current_time())
                    partition = machine.system.find("a")
                    generation = partition.profile.image_generation
                    uuid = partition.profile.uuid
                    await machine.attachment.keep(partition, uuid, restores=0, generation=generation, time=1)
                    partition.keystore.contents.touch()
    assert [after - before for before, after in pairwise(times)] == [60, 60, 60]


def test_a_reader_of_the_tests_takes_pieces() -> None:
    """The reader of these tests joins a chunk that arrives in two pieces."""

    async def read() -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        reader = Streamed(theirs)  # type: ignore[arg-type]
        await ours.send_all(b"head\r\n\r\n5\r\n:\n")
        await reader.begin()
        await ours.send_all(b"\n:\n\r\n0\r\n\r\n")
        assert await reader.lines() == b":\n\n:\n"

    trio.run(read)
