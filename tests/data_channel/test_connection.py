"""Sessions: batches, isolation, and each end of a session (spec/protocol.md#sessions)."""

from collections import Counter

import pytest
import trio
from trio.testing import MockClock

from hcall_abi.codec import encode
from hcall_abi.frames import MAX_BODY, Goodbye, GoodbyeReason, HCall, Hello, HReturn, Segment
from hcall_abi.statuses import Status
from hcall_client.calls import raw_call, remove_object, set_password
from hcall_client.errors import HcallError
from hcall_server.data_channel.conversation import FLUSH_SIZE, ServerConversation
from hcall_server.machine.turns import CALLS
from tests.data_channel.support import OS, Peer, Service, read, write

PROTOCOL_ERROR, IPL, STOPPING = 1, 2, 4


class CountingStream(trio.abc.Stream):
    """A stream that records the length of each send."""

    def __init__(self, inner: trio.abc.Stream) -> None:
        self.inner = inner
        self.sent: list[int] = []

    async def send_all(self, data) -> None:
        self.sent.append(len(data))
        await self.inner.send_all(data)

    async def receive_some(self, max_bytes=None):
        return await self.inner.receive_some(max_bytes)

    async def wait_send_all_might_not_block(self) -> None:
        await self.inner.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self.inner.aclose()


async def counted(service: Service) -> tuple[Peer, CountingStream]:
    """Return a session whose server end counts its sends from now on."""
    ours, theirs = trio.testing.memory_stream_pair()
    stream = CountingStream(theirs)
    service.transport.serve(stream, "alpha")
    peer = Peer(ours)
    await peer.open()
    stream.sent.clear()
    return peer, stream


async def answers(peer: Peer, count: int) -> list[HReturn]:
    """Return the next HRETURN frames, `count` of them."""
    return [await peer.expect(HReturn) for _ in range(count)]


async def test_calls_are_answered_in_order(service: Service) -> None:
    """Any number of calls may be pending; the answers have the order and the tags of the calls."""
    peer = await service.session()
    calls = peer.frames([write(b"a"), read(b"a"), read(b"b"), remove_object(OS, b"a"), read(b"a")])
    await peer.send(*calls)
    found = await answers(peer, 5)
    assert [each.tag for each in found] == [call.tag for call in calls]
    assert [each.status for each in found] == [0, 0, Status.H_NOT_FOUND, 0, Status.H_NOT_FOUND]


async def test_a_turn_is_answered_by_one_send(service: Service, mock_clock: MockClock) -> None:
    """The answers of each turn are one send.  Time stands still, so no turn ends early."""
    peer, stream = await counted(service)
    await peer.send(*peer.frames([write(b"a")] + [read(b"a")] * (2 * CALLS - 1)))
    await answers(peer, 2 * CALLS)
    assert len(stream.sent) == 2


async def test_a_large_batch_is_answered_in_bounded_pieces(service: Service, mock_clock: MockClock) -> None:
    """Answers are sent once they exceed FLUSH_SIZE, so memory is bounded."""
    peer, stream = await counted(service)
    await peer.call(write(b"a", bytes(30_000)))
    stream.sent.clear()
    await peer.send(*peer.frames([read(b"a")] * 100))
    await answers(peer, 100)
    assert 100 * 30_000 / FLUSH_SIZE - 1 < len(stream.sent) < 20
    assert max(stream.sent) < FLUSH_SIZE + 31_000


async def test_pieces_of_any_size_make_the_same_calls(service: Service) -> None:
    """Single bytes and one large piece give the same calls."""
    peer = await service.session()
    data = b"".join(peer.session.send(call) for call in peer.frames([write(b"a"), read(b"a")]))
    for n in range(len(data)):
        await peer.stream.send_all(data[n : n + 1])
        await trio.lowlevel.checkpoint()
    assert [each.status for each in await answers(peer, 2)] == [0, 0]


async def test_what_a_batch_changed_is_reported_once(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-20: the encryptor is notified after the batch, and only if the batch changed something."""
    changed = Counter[str]()
    monkeypatch.setattr(service.machine.encryptor, "changed", lambda each: changed.update([each.name]))
    peer = await service.session()
    await peer.send(*peer.frames([read(b"a")] * 8))
    await answers(peer, 8)
    assert changed["alpha"] == 0
    await peer.send(*peer.frames([write(b"a"), write(b"b"), write(b"c")]))
    await answers(peer, 3)
    assert changed["alpha"] == 1
    assert changed["beta"] == 0


async def test_partitions_do_not_see_each_other(service: Service) -> None:
    """R-01: The same label in two partitions names two objects."""
    alpha, beta = await service.session("alpha"), await service.session("beta")
    await alpha.call(write(b"label", b"of alpha"))
    with pytest.raises(HcallError) as caught:
        await beta.call(read(b"label"))
    assert caught.value.status == Status.H_NOT_FOUND
    await beta.call(write(b"label", b"of beta"))
    assert (await alpha.call(read(b"label"))).data == b"of alpha"


async def test_calls_of_two_sessions_of_a_partition_meet(service: Service) -> None:
    """A session reads what another session of the same partition has written."""
    one, two = await service.session(), await service.session()
    await one.call(write(b"label"))
    assert (await two.call(read(b"label"))).data == b"x"


async def test_a_keystore_that_is_off_answers_h_function(service: Service) -> None:
    """R-35: while PKS is off every call returns H_FUNCTION, and the session goes on."""
    service.machine.set_attributes("alpha", {"keystore_kbytes": 0})
    peer = await service.session()
    for _ in range(2):
        await peer.send(*peer.frames([read(b"a")]))
        assert (await peer.expect(HReturn)).status == Status.H_FUNCTION


async def test_an_unknown_opcode_is_answered(service: Service) -> None:
    """An unknown opcode returns H_FUNCTION, and such opcodes do not fill the table of counters."""
    peer = await service.session()
    await peer.send(*peer.frames([raw_call(opcode) for opcode in range(0x10000, 0x10040)]))
    assert {each.status for each in await answers(peer, 64)} == {Status.H_FUNCTION}
    assert service.machine.counters.calls == {1: {(0, Status.H_FUNCTION): 64}}


BAD = {
    "magic": (b"HCAX" + bytes(12), "frame-header"),
    "frame type": (b"HCAL\x01\x09" + bytes(10), "frame-header"),
    "flags": (b"HCAL\x01\x04\x00\x01" + bytes(8), "frame-header"),
    "version": (b"HCAL\x02\x04" + bytes(10), "frame-header"),
    "server's frame": (encode(Hello(1, 1, 1, 0, bytes(32), "")), "states"),
    "too long": (b"HCAL\x01\x04" + bytes(6) + (MAX_BODY + 1).to_bytes(4, "big"), "framing"),
    "overlap": (encode(HCall(1, 2, (0,) * 9, (Segment.written(0, 8), Segment.written(7, 8)))), "hcall"),
    "empty body": (b"HCAL\x01\x04" + bytes(10), "hcall"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("opened", [True, False])
async def test_a_malformed_frame_ends_its_session_alone(service: Service, name: str, opened: bool) -> None:
    """R-01: A bad frame ends its session with the pending answers and GOODBYE 1.

    Another session of the same partition goes on.
    """
    neighbour = await service.session()
    peer = service.connect()
    if opened:
        await peer.open()
        await peer.send(*peer.frames([write(b"before")]))
    await peer.stream.send_all(BAD[name][0])
    if opened:
        assert (await peer.expect(HReturn)).status == 0
    assert await peer.goodbye() == PROTOCOL_ERROR
    assert await neighbour.call(write(b"after")) is None
    assert service.machine.counters.goodbyes == {PROTOCOL_ERROR: 1}


async def test_answers_due_leave_before_the_goodbye(service: Service) -> None:
    """If a good call and a bad frame come in one piece, the call is answered before GOODBYE."""
    peer = await service.session()
    await peer.stream.send_all(peer.session.send(peer.frames([write(b"a")])[0]) + BAD["magic"][0])
    assert (await peer.expect(HReturn)).status == 0
    goodbye = await peer.expect(Goodbye)
    assert goodbye == (
        PROTOCOL_ERROR,
        "frame.magic: bad magic where the frame before it ends; a frame begins with HCAL",
    )


@pytest.mark.parametrize("count", [10, 2 * CALLS, 2 * CALLS + 10])
async def test_all_answers_due_leave_before_the_goodbye(service: Service, count: int) -> None:
    """All calls before a bad frame are answered before GOODBYE, also if that needs several sends."""
    peer, stream = await counted(service)
    await peer.call(write(b"big", bytes(60_000)))
    stream.sent.clear()
    calls = peer.frames([read(b"big")] * count)
    await peer.stream.send_all(b"".join(map(peer.session.send, calls)) + BAD["magic"][0])
    assert [each.tag for each in await answers(peer, count)] == [call.tag for call in calls]
    assert await peer.goodbye() == PROTOCOL_ERROR
    assert len(stream.sent) > 2
    assert service.machine.counters.goodbyes == {PROTOCOL_ERROR: 1}


async def test_nothing_runs_behind_a_bad_frame(service: Service) -> None:
    """No call after a bad frame runs. This also holds while earlier answers are being sent."""
    peer = await service.session()
    await peer.call(write(b"big", bytes(60_000)))
    calls = b"".join(map(peer.session.send, peer.frames([read(b"big")] * 10)))
    late = peer.session.send(peer.frames([write(b"late")])[0])
    await peer.stream.send_all(calls + BAD["magic"][0] + late)
    await answers(peer, 10)
    assert await peer.goodbye() == PROTOCOL_ERROR
    with pytest.raises(HcallError) as caught:
        await (await service.session()).call(read(b"late"))
    assert caught.value.status == Status.H_NOT_FOUND


async def test_an_end_inside_a_frame_is_a_protocol_error(service: Service) -> None:
    """If the client's stream ends inside a frame, that is an error of the protocol."""
    peer = await service.session()
    await peer.stream.send_all(b"HCAL")
    await peer.stream.send_eof()  # type: ignore[attr-defined]
    assert await peer.goodbye() == PROTOCOL_ERROR


async def test_a_half_close_still_gets_its_answers(service: Service) -> None:
    """A client may send its calls, close its sending side, and read the answers."""
    peer = await service.session()
    await peer.send(*peer.frames([write(b"a"), read(b"a")]))
    await peer.stream.send_eof()  # type: ignore[attr-defined]
    assert [each.status for each in await answers(peer, 2)] == [0, 0]
    assert await peer.event() is None


async def test_goodbye_from_the_client_closes(service: Service) -> None:
    """A GOODBYE of the client is not answered, and the bytes after it are not read."""
    peer = await service.session()
    end = encode(Goodbye(0, "thanks"))
    await peer.stream.send_all(end + encode(write(b"late").frame(1)))
    assert await peer.event() is None
    with pytest.raises(HcallError):
        await (await service.session()).call(read(b"late"))


async def test_calls_before_a_goodbye_run(service: Service) -> None:
    """A client may send calls and GOODBYE in one piece."""
    peer = await service.session()
    calls = [encode(write(bytes([65 + n])).frame(n + 1)) for n in range(20)]
    await peer.stream.send_all(b"".join(calls) + encode(Goodbye(0, "")))
    while await peer.stream.receive_some():
        pass
    assert service.machine.counters.crashed == 0
    assert service.machine.counters.calls[1].total() == 20
    assert (await (await service.session()).call(read(b"A"))).data == b"x"


@pytest.mark.parametrize("verb", ["ipl", "power_off"])
async def test_an_ipl_ends_every_session_of_its_partition(service: Service, verb: str) -> None:
    """R-04: An IPL ends every session of its partition, and no password is valid afterwards.

    Sessions of another partition go on.
    """
    sessions = [await service.session() for _ in range(3)]
    beta = await service.session("beta")
    await sessions[0].call(set_password(3, b"a password"))
    await beta.call(set_password(3, b"of beta"))
    getattr(service.machine, verb)("alpha")
    assert [await each.goodbye() for each in sessions] == [IPL] * 3
    if verb == "power_off":
        service.machine.power_on("alpha")
    opened = await service.connect().open()
    assert (opened.status, opened.ipl_count) == (0, 2)
    await (await service.session()).call(write(b"no password needed"))
    with pytest.raises(HcallError):
        await beta.call(write(b"one needed"))


async def test_an_ipl_inside_a_batch_stops_the_batch(service: Service) -> None:
    """R-04: if an IPL comes while answers are being sent, the remaining calls do not run."""
    ours, theirs = trio.testing.lockstep_stream_pair()
    service.transport.serve(theirs, "alpha")
    peer = Peer(ours)
    await peer.open()
    await peer.call(write(b"big", bytes(30_000)))
    calls = [read(b"big")] * 2 * CALLS + [write(b"of the old IPL")]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.send, *peer.frames(calls))
        await trio.testing.wait_all_tasks_blocked()
        service.machine.ipl("alpha")
    with pytest.raises(HcallError) as caught:
        await (await service.session()).call(read(b"of the old IPL"))
    assert caught.value.status == Status.H_NOT_FOUND


async def test_an_ipl_reaches_those_who_do_not_read(service: Service) -> None:
    """An IPL also ends a session that is blocked in a send, with a whole last frame."""
    peer = service.connect_socket()
    await peer.open()
    await peer.call(write(b"big", bytes(60_000)))
    await peer.send(*peer.frames([read(b"big")] * 20))
    await trio.testing.wait_all_tasks_blocked()
    service.machine.ipl("alpha")
    assert service.machine.sessions.count(1) == 0
    assert await peer.goodbye() == IPL


@pytest.mark.parametrize("verb", ["ipl", "power_off"])
async def test_an_ipl_reaches_those_who_broke_the_protocol_and_do_not_read(
    service: Service, verb: str
) -> None:
    """R-04: After a protocol error, pending answers do not keep a session open over an IPL."""
    peer = service.connect_socket()
    await peer.open()
    await peer.call(write(b"big", bytes(60_000)))
    calls = b"".join(map(peer.session.send, peer.frames([read(b"big")] * 10)))
    await peer.stream.send_all(calls + BAD["magic"][0])
    await trio.testing.wait_all_tasks_blocked()
    getattr(service.machine, verb)("alpha")
    assert service.machine.sessions.count(1) == 0
    assert await peer.goodbye() == IPL


async def test_a_client_that_vanishes_hurts_nobody(service: Service) -> None:
    """The server goes on if a peer closes in the middle of a send."""
    neighbour = await service.session()
    peer = service.connect_socket()
    await peer.open()
    await peer.call(write(b"big", bytes(60_000)))
    await peer.send(*peer.frames([read(b"big")] * 20))
    await trio.testing.wait_all_tasks_blocked()
    await peer.stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert (await neighbour.call(read(b"big"))).data == bytes(60_000)
    assert service.machine.counters.lost == 1
    assert service.machine.sessions.count(1) == 1


async def test_a_bug_in_a_call_ends_one_connection(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in one call ends its connection, and not the server."""
    neighbour = await service.session()
    peer = await service.session()

    def broken(*_args: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(ServerConversation, "_reply", broken)
    await peer.send(Goodbye(0, ""))
    assert await peer.event() is None
    assert service.machine.counters.crashed == 1
    await neighbour.call(write(b"a"))


async def test_stopping_says_goodbye_to_all(service: Service) -> None:
    """A stop sends GOODBYE 4 to sessions, and to connections that have no session yet."""
    session = await service.session()
    unopened = service.connect()
    await unopened.expect(Hello)
    service.machine.sessions.end_all(GoodbyeReason.SERVER_STOPPING, "stopping")
    assert await session.goodbye() == STOPPING
    assert await unopened.goodbye() == STOPPING
    with trio.fail_after(1):
        await service.machine.sessions.wait_empty()
