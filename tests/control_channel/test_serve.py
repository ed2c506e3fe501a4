"""The control channel on a real socket: connections, deadlines, and no effect on the data channel."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from hcall_abi.bounds import MAX_REQUEST_BODY
from hcall_abi.consumers import SecureBoot
from hcall_client.calls import gen_password, read_object, write_object
from hcall_client.channel import open_channel
from hcall_client.errors import HcallError, SessionEnded
from hcall_client.request import Authorization
from hcall_server.control_channel import app, http, serve
from hcall_server.data_channel.connection import serve_stream
from tests.control_channel.rig import make_machine, over_socket, served
from tests.rules.breaking import logged


@pytest.fixture
def machine():
    machine = make_machine()
    machine.system.create("a", 8)
    return machine


@pytest.fixture
async def path(machine, tmp_path):
    async with served(machine, tmp_path / "control.sock") as path:
        yield path


async def connect(path: str) -> trio.SocketStream:
    """Return a connection on which only the test sends bytes."""
    return await trio.open_unix_socket(path)


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


async def flood(stream: trio.abc.SendStream, data: bytes) -> None:
    """Send until the other end has closed."""
    with trio.fail_after(20):
        try:
            while True:
                await stream.send_all(data)
        except trio.BrokenResourceError:
            return


async def exchange(path: str, request: bytes) -> bytes:
    """Return the server's answer to raw bytes, until it closes."""
    async with await connect(path) as stream:
        await stream.send_all(request)
        return await everything(stream)


async def test_one_connection_many_requests(path) -> None:
    """A client reuses its connection, and no header names the server."""
    async with over_socket(path) as client:
        for _ in range(3):
            answer = await client.get("/v1/system")
            assert answer.status_code == 200
            assert "server" not in answer.headers


async def test_a_body_over_the_limit(path) -> None:
    """A body over the limit gets 413 before its end has arrived, and the connection ends."""
    async with over_socket(path) as client:
        answer = await client.post("/v1/partitions", content=b" " * (MAX_REQUEST_BODY + 1))
        assert answer.status_code == 413
    head = b"POST /v1/partitions HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n"
    async with await connect(path) as stream:
        await stream.send_all(head + bytes(MAX_REQUEST_BODY + 5_000))
        assert (await everything(stream)).startswith(b"HTTP/1.1 413 ")


async def test_a_body_that_does_not_come(path, monkeypatch) -> None:
    """A body that takes too long gets 408, so a stalled client does not keep its place."""
    monkeypatch.setattr(app, "REQUEST_BODY_SECONDS", 0.05)
    head = b"POST /v1/partitions HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{"
    assert (await exchange(path, head)).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\0\0\0\0\r\n\r\n",
        b"HCAL\x01\x02\0\0\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /%ff%fe HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n" + b"x-long: " + b"y" * 100_000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_what_is_no_good_http(path, request_bytes) -> None:
    """Bytes that are not valid HTTP get a status 4xx and a closed connection. The next client is served."""
    status = (await exchange(path, request_bytes)).split(b" ", 2)[1]
    assert status.startswith(b"4"), status
    async with over_socket(path) as client:
        assert (await client.get("/health")).status_code == 200


async def test_a_web_socket_is_refused(path) -> None:
    """A request for a web socket is refused."""
    request = (
        b"GET /v1/system HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert (await exchange(path, request)).startswith(b"HTTP/1.1 403 ")


async def test_a_client_that_does_not_read(path, monkeypatch) -> None:
    """A client that does not read loses its connection. Other clients and a stop do not wait for it."""
    monkeypatch.setattr(http, "SEND_SECONDS", 0.05)
    request = b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n"
    async with await connect(path) as stream:
        await flood(stream, request * 100)
        async with over_socket(path) as client:
            assert (await client.get("/health")).status_code == 200


async def test_stopping_does_not_wait_for_idle_clients(machine, tmp_path) -> None:
    """A stop closes idle connections at once, with or without an earlier request."""
    async with served(machine, tmp_path / "control.sock") as path:
        silent, idle = await connect(path), await connect(path)
        await idle.send_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await idle.receive_some()).startswith(b"HTTP/1.1 200 ")
    assert await everything(silent) == b""
    await everything(idle)
    await silent.aclose()
    await idle.aclose()


HALF_A_REQUEST = (
    b"PATCH /v1/partitions/a/attributes HTTP/1.1\r\nhost: x\r\n"
    b"content-type: application/json\r\ncontent-length: 2\r\n\r\n{"
)


async def test_stopping_lets_a_request_end(machine, tmp_path) -> None:
    """At a stop, a request that has begun is answered within the grace."""
    async with trio.open_nursery() as nursery:
        async with served(machine, tmp_path / "control.sock") as path:
            stream = await _half_asked(path)
            nursery.start_soon(_after_a_round, stream)
        assert (await everything(stream)).startswith(b"HTTP/1.1 200 ")
        await stream.aclose()


async def _half_asked(path: str) -> trio.SocketStream:
    """Return a connection whose second request has half of its body."""
    stream = await connect(path)
    await stream.send_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
    answer = b""
    while not answer.endswith(b"}}"):
        answer += await stream.receive_some()
    await stream.send_all(HALF_A_REQUEST)
    await trio.testing.wait_all_tasks_blocked()
    return stream


async def _after_a_round(stream: trio.SocketStream) -> None:
    await trio.testing.wait_all_tasks_blocked()
    await stream.send_all(b"}")


async def test_stopping_does_not_wait_for_ever(machine, tmp_path, monkeypatch) -> None:
    """A request that does not end is cut after the grace of a stop."""
    monkeypatch.setattr(serve, "GRACE_SECONDS", 0.05)
    with trio.fail_after(20):
        async with served(machine, tmp_path / "control.sock") as path:
            stream = await _half_asked(path)
    assert b"HTTP/1.1 200 " not in await everything(stream)
    await stream.aclose()


async def test_connections_are_bounded(machine, tmp_path, monkeypatch) -> None:
    """If all places are taken, one more connection waits until a place is free."""
    monkeypatch.setattr(serve, "MAX_CONNECTIONS", 2)
    async with served(machine, tmp_path / "control.sock") as path, over_socket(path) as client:
        first, second = await connect(path), await connect(path)
        for stream in (first, second):
            await stream.send_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
            assert await stream.receive_some()
        with trio.move_on_after(0.05) as patience:
            await client.get("/health")
        assert patience.cancelled_caught
        await first.aclose()
        assert (await client.get("/health")).status_code == 200
        await second.aclose()


async def test_connections_that_are_gone_take_no_room(machine, tmp_path, monkeypatch) -> None:
    """Closed connections free their places, so a script with one connection per request never waits."""
    monkeypatch.setattr(serve, "MAX_CONNECTIONS", 1)
    async with served(machine, tmp_path / "control.sock") as path:
        with trio.fail_after(20):
            for _ in range(20):
                async with over_socket(path) as client:
                    assert (await client.get("/health")).status_code == 200


async def test_a_crash_ends_one_connection(path, monkeypatch) -> None:
    """An error in the HTTP code is logged and ends only its own connection."""
    async with over_socket(path) as kept:
        assert (await kept.get("/health")).status_code == 200

        async def crash(self, stream):
            raise RuntimeError("a bug")

        with monkeypatch.context() as patch:
            patch.setattr(http.Http, "converse", crash)
            assert await exchange(path, b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n") == b""
        assert (await kept.get("/health")).status_code == 200
        assert (await exchange(path, b"GET /health HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_a_stack_that_does_not_load(machine, tmp_path, monkeypatch) -> None:
    """If the HTTP stack can't be loaded, the caller gets a problem. The next request loads it again."""
    real = serve._load

    def broken(machine):
        monkeypatch.setattr(serve, "_load", real)
        raise ImportError("half an installation")

    monkeypatch.setattr(serve, "_load", broken)
    async with served(machine, tmp_path / "control.sock") as path, over_socket(path) as client:
        refused = await client.post("/v1/partitions", json={"name": "a"})
        assert (refused.status_code, refused.json()["rule_id"]) == (500, "request.answered")
        assert (await client.get("/health")).status_code == 200


async def test_a_silent_caller_of_a_stack_that_does_not_load(machine, tmp_path, monkeypatch) -> None:
    """While the HTTP stack can't be loaded, the connection of a silent caller is closed after a time."""
    monkeypatch.setattr(serve, "ASKING_SECONDS", 0.01)
    monkeypatch.setattr(serve, "_load", lambda machine: 1 / 0)
    async with served(machine, tmp_path / "control.sock") as path:
        async with await connect(path) as stream:
            assert await everything(stream) == b""
        assert (await exchange(path, b"GET /health HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 500 ")


async def test_the_same_reason_is_logged_once(machine, tmp_path, monkeypatch) -> None:
    """Without descriptors the loading fails ten times a second. The log has the rule, once."""

    def broken(machine):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(serve, "_load", broken)
    with logged("control.not_loaded") as lines:
        async with served(machine, tmp_path / "control.sock") as path, over_socket(path) as client:
            for _ in range(3):
                refused = await client.get("/health")
                assert (refused.status_code, refused.json()["rule_id"]) == (503, "scarce.descriptors")
    assert [line["rule_id"] for line in lines] == ["scarce.descriptors"]


async def test_the_socket_stays_the_callers(machine, tmp_path) -> None:
    """The control channel leaves the socket open, so a second one can serve it."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "control.sock"))
        listener.listen()
        for _ in range(2):
            async with trio.open_nursery() as nursery:
                await nursery.start(serve.serve_control, machine, listener)
                async with over_socket(str(tmp_path / "control.sock")) as client:
                    assert (await client.get("/health")).status_code == 200
                nursery.cancel_scope.cancel()


async def test_an_ipl_through_the_door(machine, path, nursery) -> None:
    """R-04: An IPL by HTTP ends the sessions with GOODBYE 2. The next session has no password.

    The new session has the secure-boot mode that the console has set.
    """
    machine.power_on("a")
    partition = machine.system.find("a")
    await nursery.start(machine.turns.run)

    def session():
        ours, theirs = trio.testing.memory_stream_pair()
        run = lambda: serve_stream(machine, theirs, partition, demand_proof=False)  # noqa: E731
        nursery.start_soon(run)
        return open_channel(ours)

    os = Authorization(3)
    async with over_socket(path) as client:
        async with session() as channel:
            locked = await channel.call(gen_password(3, 32))
            await channel.call(write_object(locked, b"mine", b"data"))
            with pytest.raises(HcallError):
                await channel.call(read_object(os, b"mine"))
            await client.patch("/v1/partitions/a/attributes", json={"secure_boot": 2})
            assert (await client.post("/v1/partitions/a/ipl")).json()["ipl_count"] == 2
            with pytest.raises(SessionEnded) as ended:
                await channel.call(read_object(locked, b"mine"))
            assert ended.value.reason == 2
        async with session() as channel:
            assert (await channel.call(read_object(os, b"mine"))).data == b"data"
    assert partition.secure_boot is SecureBoot.ENFORCE


def test_the_first_request_leaves_the_data_channel_alone() -> None:
    """The first request loads the HTTP stack; the start does not. Data calls go on during the load."""
    script = Path(__file__).with_name("first_request.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["loaded_before"] == []
    assert "hypercorn" in figures["loaded_after"]
    assert "prometheus_client" not in figures["loaded_after"]
    assert figures["calls_meanwhile"] > 0
