"""How a session of the asynchronous channel ends: by GOODBYE, a cut, a wrong answer, or the caller."""

import socket

import pytest
import trio
import trio.testing

from hcall_abi.errors import PeerError
from hcall_abi.frames import Goodbye, GoodbyeReason, Write
from hcall_client.calls import raw_call
from hcall_client.channel import open_channel
from hcall_client.errors import ConnectionLost, SessionEnded
from tests.client.peer import READ, Peer, against, answer


async def test_goodbye_in_the_middle_ends_every_call():
    """R-04: An IPL ends the session. Pending calls and all later ones raise the reason of the GOODBYE."""

    async def script(peer):
        await peer.greet()
        call = await peer.call()
        await peer.call()
        await peer.send(answer(call, 0, 5), Goodbye(GoodbyeReason.IPL_OR_POWER_OFF, "new\nIPL"))

    async def ask(number):
        try:
            outcome[number] = (await channel.call(raw_call(number))).registers[0]
        except SessionEnded as error:
            outcome[number] = error

    outcome: dict[int, object] = {}
    async with against(script) as channel:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, 1)
            nursery.start_soon(ask, 2)
        ended = await channel.wait_ended()
        assert isinstance(ended, SessionEnded)
        assert (ended.reason, ended.text) == (
            GoodbyeReason.IPL_OR_POWER_OFF,
            "new\N{REPLACEMENT CHARACTER}IPL",
        )
        assert "IPL or power-off" in str(ended)
        with pytest.raises(SessionEnded):
            await channel.pipeline([raw_call(3)] * 2)
    assert sorted(map(str, outcome.values()))[0] == "5"
    assert ended in outcome.values()


@pytest.mark.parametrize("sent", [0, 8, 16, 40])
async def test_a_stream_cut_short_is_no_answer(sent):
    """If the stream ends between frames or inside one, the caller gets an error and no answer."""

    async def script(peer):
        await peer.greet()
        call = await peer.call()
        await peer.raw(peer.session.send(answer(call))[:sent])
        await peer.aclose()

    async with against(script) as channel:
        with pytest.raises(PeerError) as caught:
            await channel.call(READ)
        assert isinstance(caught.value, ConnectionLost) == (sent == 0)


async def test_answers_with_wrong_tags_end_the_session():
    async def script(peer):
        await peer.greet()
        call = await peer.call()
        frame = bytearray(peer.session.send(answer(call)))
        frame[11] ^= 1
        await peer.raw(bytes(frame))
        assert (await peer.goodbye()).reason == GoodbyeReason.PROTOCOL_ERROR

    async with against(script) as channel:
        with pytest.raises(PeerError, match="unexpected tag"):
            await channel.call(READ)


async def test_answers_to_nothing_end_the_session():
    async def script(peer):
        await peer.greet()
        call = await peer.call()
        await peer.send(answer(call))
        await peer.raw(bytes.fromhex("4843414c 01 05 0000 00000009 00000058") + bytes(88))
        await peer.goodbye()

    async with against(script) as channel:
        await channel.call(raw_call(1))
        assert "unexpected tag" in str(await channel.wait_ended())


async def test_a_lying_server_is_left():
    """If an answer writes outside the call's buffers, the call fails.

    The client reports the error to the server and sends nothing more.
    """

    async def script(peer):
        await peer.greet()
        call = await peer.call()
        await peer.send(answer(call, writes=(Write(0, b"x"),)))
        assert (await peer.goodbye()).reason == GoodbyeReason.PROTOCOL_ERROR

    async with against(script) as channel:
        with pytest.raises(PeerError, match="a write of 1 bytes at 0x0"):
            await channel.call(READ)
        with pytest.raises(PeerError, match="a write of 1 bytes at 0x0"):
            await channel.call(READ)


async def test_a_server_that_stops_reading_is_noticed(autojump_clock):
    """If the server has closed its receiving half, calls can't be sent.

    That ends the session, not the program.
    """

    async def script(peer):
        await peer.greet()
        await peer.stream.receive_stream.aclose()
        await trio.sleep(60)

    async with against(script) as channel:
        with pytest.raises(ConnectionLost, match="while sending"):
            await channel.call(READ)
    assert trio.current_time() < 70


async def test_a_stuck_server_does_not_hold_the_client(autojump_clock):
    """Closing tries to send GOODBYE, but does not wait for a server that reads nothing."""
    client, server = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Peer(server).greet)
        async with open_channel(client):
            await trio.testing.wait_all_tasks_blocked()
    assert trio.current_time() == pytest.approx(0.5)


async def test_what_the_block_raises_comes_out_as_it_is():
    """The caller gets the block's own exception, without an exception group of the channel's tasks."""

    async def script(peer):
        await peer.greet()
        await peer.goodbye()

    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(script, Peer(theirs))
        with pytest.raises(KeyError):
            async with open_channel(ours):
                raise KeyError("mine")


async def test_a_cancellation_does_not_replace_what_the_block_raises():
    """If the scope around the channel is cancelled, an error of the block still comes out."""

    async def script(peer):
        await peer.greet()
        assert (await peer.goodbye()).reason == GoodbyeReason.DONE

    def fail(scope):
        scope.cancel()
        raise mine

    mine = ValueError("mine")
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(script, Peer(theirs))
        with trio.CancelScope() as scope, pytest.raises(ValueError, match="mine") as caught:
            async with open_channel(ours):
                fail(scope)
    assert caught.value is mine


async def test_closing_swallows_no_cancellation():
    """A cancelled block raises a plain Cancelled, in no group, and its own scope catches it."""

    async def script(peer):
        await peer.greet()
        await peer.goodbye()

    ours, theirs = trio.testing.memory_stream_pair()
    came_out: list[type[BaseException]] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(script, Peer(theirs))
        with trio.CancelScope() as scope:
            try:
                async with open_channel(ours):
                    scope.cancel()
                    await trio.sleep_forever()
            except BaseException as error:
                came_out.append(type(error))
                raise
    assert came_out == [trio.Cancelled]
    assert scope.cancelled_caught


async def test_cancelling_the_block_closes_the_channel():
    async def script(peer):
        await peer.greet()
        assert (await peer.goodbye()).reason == GoodbyeReason.DONE

    with trio.CancelScope() as scope:
        async with against(script) as channel:
            nonlocal_channel = channel
            scope.cancel()
            await trio.sleep_forever()
    assert nonlocal_channel.ended is not None


async def test_unix_and_tcp_targets(tmp_path):
    """A path is a Unix socket, a pair is host and port. If no server listens, OSError is raised."""

    async def serve(stream):
        peer = Peer(stream)
        await peer.greet()
        await peer.goodbye()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    unix = trio.socket.socket(socket.AF_UNIX)
    await unix.bind(str(tmp_path / "x.sock"))
    unix.listen(1)
    listeners.append(trio.SocketListener(unix))
    address = listeners[0].socket.getsockname()
    async with trio.open_nursery() as nursery:
        await nursery.start(trio.serve_listeners, serve, listeners)
        for target in (tmp_path / "x.sock", str(tmp_path / "x.sock"), address):
            async with open_channel(target) as channel:
                assert channel.partition == 7
        nursery.cancel_scope.cancel()
    with pytest.raises(FileNotFoundError, match="no socket is there"):
        async with open_channel(tmp_path / "y.sock"):
            pass
