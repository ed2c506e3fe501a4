"""The asynchronous channel against a scripted server: sessions that succeed, and each way to fail."""

import socket

import pytest
import trio
import trio.testing

from hcall_abi.calls import Opcode
from hcall_abi.errors import PeerError
from hcall_abi.frames import MAX_BODY, Goodbye, GoodbyeReason, HCall, OpenStatus, ProofKind, Write
from hcall_abi.rules.rule import Fault
from hcall_abi.structures import build_config
from hcall_client.calls import Authorization, HcallError, raw_call, write_object
from hcall_client.channel import open_channel
from hcall_client.errors import CallTooLarge, OpenRefused, ServerNotProven, SessionEnded
from tests.client.peer import (
    HELLO,
    KEY,
    READ,
    Closed,
    Peer,
    against,
    answer,
    out,
    read_answer,
    refusing,
    write_and_read,
)
from tests.client.test_labels_and_linux import CONFIG


async def test_a_session_from_hello_to_goodbye():
    said = []

    async def script(peer):
        asked = await peer.greet()
        assert (asked.partition, asked.proof_kind, asked.proof, asked.name) == (
            0,
            0,
            bytes(32),
            "hcall_client",
        )
        call = await peer.call()
        assert call.opcode == Opcode.READ_OBJECT
        await peer.send(read_answer(call))
        said.append(await peer.goodbye())

    async with against(script) as channel:
        assert (channel.partition, channel.ipl_count, channel.level) == (7, 3, "FW1110")
        assert (await channel.call(READ)).data == b"data"
        assert channel.ended is None
        assert repr(channel) == "Channel(partition 7, open)"
    assert said == [Goodbye(GoodbyeReason.DONE, "")]
    with pytest.raises(SessionEnded, match="closed by this end"):
        await channel.call(READ)


async def test_both_ends_prove_that_they_hold_the_key():
    async def script(peer):
        asked = await peer.greet(key=KEY)
        assert (asked.partition, asked.proof_kind) == (5, ProofKind.HMAC_SHA256)
        assert any(asked.proof)
        await peer.goodbye()

    async with against(script, partition=5, access_key=KEY):
        pass


async def test_a_server_without_the_key_is_refused():
    """If the server can't prove that it has the key, the client sends a GOODBYE and no call."""

    async def script(peer):
        await peer.greet(key=b"another key")
        assert (await peer.goodbye()).reason == GoodbyeReason.PROTOCOL_ERROR

    assert isinstance(await refusing(script, access_key=KEY), ServerNotProven)


@pytest.mark.parametrize("status", [*list(OpenStatus)[1:], 99])
async def test_a_refused_open_tells_why(status):
    async def script(peer):
        await peer.greet(status=int(status))
        with pytest.raises(Closed):
            await peer.next()

    error = await refusing(script)
    assert isinstance(error, OpenRefused)
    assert error.status == status
    assert error.fault is (Fault.PEER if status == 99 else Fault.OPERATOR)
    assert getattr(status, "name", "99") in str(error)


async def test_a_server_of_another_version_is_refused():
    said = []

    async def script(peer):
        await peer.send(HELLO._replace(lowest=2, highest=3))
        said.append(await peer.next())

    error = await refusing(script)
    assert isinstance(error, OpenRefused)
    assert error.status == OpenStatus.VERSION_NOT_SUPPORTED
    assert [goodbye.reason for goodbye in said] == [0]


@pytest.mark.parametrize("damage", [b"", b"HCAL", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"HCAL" + bytes(60)])
async def test_not_a_server_at_all(damage):
    async def script(peer):
        await peer.raw(damage)
        await peer.stream.aclose()

    assert isinstance(await refusing(script), PeerError)


async def test_goodbye_before_the_session_is_open():
    async def script(peer):
        await peer.send(HELLO, Goodbye(GoodbyeReason.SERVER_STOPPING, "later"))

    error = await refusing(script)
    assert isinstance(error, SessionEnded)
    assert (error.reason, error.text) == (GoodbyeReason.SERVER_STOPPING, "later")


async def test_no_open_request_without_key_or_name():
    ours, _ = trio.testing.memory_stream_pair()
    for options in ({"access_key": b""}, {"name": "x" * 256}, {"partition": 1 << 16}):
        with pytest.raises(ValueError, match="an open request"):
            async with open_channel(ours, **options):
                pass


# Calls


async def test_answers_find_their_callers():
    """Calls of several tasks at once are answered in order; each caller gets its own answer."""

    async def script(peer):
        await peer.greet()
        calls = [await peer.call() for _ in range(20)]
        await peer.send(*[answer(call, 0, call.registers[0]) for call in calls])

    async def ask(number):
        got[number] = (await channel.call(raw_call(1, [number]))).registers[0]

    got: dict[int, int] = {}
    async with against(script) as channel, trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(ask, number)
    assert got == {number: number for number in range(20)}


async def test_a_pipeline_keeps_order_and_refusals():
    async def script(peer):
        await peer.greet()
        for status in (0, -7, 0):
            call = await peer.call()
            await peer.send(read_answer(call) if status == 0 else answer(call, status))

    async with against(script) as channel:
        results = await channel.pipeline([READ] * 3)
        assert await channel.pipeline([]) == []
    assert [getattr(result, "status", 0) for result in results] == [0, -7, 0]
    assert isinstance(results[1], HcallError)


async def test_limits_are_asked_for_once():
    async def script(peer):
        await peer.greet()
        call = await peer.call()
        block = build_config(CONFIG)
        await peer.send(answer(call, writes=(Write(out(call).address, block),)))
        await peer.goodbye()

    async with against(script) as channel:
        assert await channel.limits() == CONFIG
        assert await channel.limits() == CONFIG


async def test_a_pipeline_larger_than_every_buffer_does_not_deadlock():
    """Neither end waits for ever: 8 MiB of calls and answers pass through socket buffers of a few KiB."""
    data = bytes(4000)
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    async def server(peer):
        await peer.greet()
        while isinstance(call := await peer.next(), HCall):
            await peer.send(answer(call, writes=(Write(out(call).address, data),)))

    request = write_and_read(data)
    streams = [trio.SocketStream(trio.socket.from_stdlib_socket(end)) for end in (ours, theirs)]
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server, Peer(streams[1]))
            async with open_channel(streams[0]) as channel:
                results = await channel.pipeline([request] * 1000)
    assert len(results) == 1000
    await streams[1].aclose()


async def test_a_pipeline_waits_for_room():
    """The bytes that wait to be sent stay bounded, however long the pipeline is."""
    backlog = []

    def requests():
        for _ in range(500):
            backlog.append(len(channel._conversation.outgoing))
            yield write_object(Authorization(3), b"x", bytes(4000))

    async def script(peer):
        await peer.greet()
        for _ in range(500):
            await peer.send(answer(await peer.call()))

    async with against(script) as channel:
        await channel.pipeline(requests())
    assert max(backlog) < 80 * 1024


async def test_a_cancelled_call_harms_no_other():
    """R-20: the late answer of a cancelled call is dropped. The next caller gets its own answer."""
    release = trio.Event()

    async def script(peer):
        await peer.greet()
        first = await peer.call()
        await release.wait()
        await peer.send(answer(first, 0, 1))
        second = await peer.call()
        await peer.send(answer(second, 0, 2))

    async with against(script) as channel:
        with trio.CancelScope() as scope:
            scope.cancel()
            await channel.call(raw_call(1))
        release.set()
        assert (await channel.call(raw_call(2))).registers[0] == 2


async def test_a_cancelled_large_call_is_still_sent_whole():
    """If a caller is cancelled while its call is being sent, the channel still sends the frame whole."""
    got = []

    async def script(peer):
        await peer.greet()
        for _ in range(2):
            call = await peer.call()
            got.append(sum(len(data) for *_, data in call.segments))
            await peer.send(answer(call))
        await peer.goodbye()

    client, server = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(script, Peer(server))
        async with open_channel(client) as channel:
            with trio.CancelScope() as scope:
                nursery.start_soon(cancel_soon, scope)
                await channel.call(write_object(Authorization(3), b"l", bytes(100_000)))
            await channel.call(write_object(Authorization(3), b"l", b"x"))
    assert got == [100_017, 18]


async def cancel_soon(scope):
    await trio.lowlevel.checkpoint()
    scope.cancel()


async def test_a_call_too_large_for_the_server_is_not_sent():
    async def script(peer):
        await peer.greet(hello=HELLO._replace(max_body=1000))
        assert (await peer.goodbye()).reason == GoodbyeReason.DONE

    async with against(script) as channel:
        with pytest.raises(CallTooLarge, match="1000 are the most"):
            await channel.call(write_object(Authorization(3), b"l", bytes(1000)))
        with pytest.raises(CallTooLarge):
            await channel.pipeline([write_object(Authorization(3), b"l", bytes(MAX_BODY))])
