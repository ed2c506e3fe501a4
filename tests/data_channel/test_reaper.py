"""Deadlines and floods, in virtual time (spec/protocol.md#sessions)."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from hcall_abi.frames import GoodbyeReason, Hello, HReturn
from hcall_server.data_channel.conversation import FLUSH_SIZE
from hcall_server.data_channel.reaper import pause
from hcall_server.data_channel.stream import SocketStream
from hcall_server.machine.limits import Limits
from hcall_server.machine.turns import CALLS
from tests.data_channel.support import Peer, Service, make_machine, read, write

IDLE, TOO_SLOW = GoodbyeReason.IDLE_TOO_LONG, GoodbyeReason.TOO_SLOW_TO_READ


Make = Callable[..., Awaitable[Service]]


@pytest.fixture
def reaped(nursery: trio.Nursery) -> Iterator[Make]:
    """Return a function that makes a machine with other limits."""
    made: list[Service] = []

    async def make(**limits: Any) -> Service:
        service = await Service.start(nursery, make_machine("alpha", "beta", limits=Limits(**limits)))
        made.append(service)
        return service

    yield make
    for service in made:
        service.close()


async def pass_time(clock: MockClock, seconds: float) -> None:
    """Advance virtual time in small steps, so that the reaper runs in each."""
    await wait_all_tasks_blocked()
    for _ in range(round(seconds * 2)):
        clock.jump(0.5)
        await wait_all_tasks_blocked()


@pytest.fixture
def clock(mock_clock: MockClock) -> MockClock:
    """The virtual clock of the test."""
    return mock_clock


async def test_who_opens_no_session_is_sent_away(reaped: Make, clock: MockClock) -> None:
    """A connection without OPEN ends after 10 seconds, whatever bytes arrive meanwhile."""
    service = await reaped()
    silent, dribbling = service.connect(), service.connect()
    for peer in (silent, dribbling):
        await peer.expect(Hello)
    for byte in b"HCAL":
        await pass_time(clock, 2.0)
        await dribbling.stream.send_all(bytes([byte]))
    session = await service.session()
    assert len(service.machine.sessions) == 3
    await pass_time(clock, 3.5)
    assert await silent.goodbye() == IDLE
    assert await dribbling.goodbye() == IDLE
    await session.call(write(b"a"))


async def test_an_idle_session_ends(reaped: Make, clock: MockClock) -> None:
    """An idle session ends, also if its peer has disappeared. Every call begins the time again."""
    service = await reaped(idle_seconds=60)
    idle, busy = await service.session(), await service.session()
    await pass_time(clock, 50)
    await busy.call(write(b"a"))
    await pass_time(clock, 12)
    assert await idle.goodbye() == IDLE
    await busy.call(read(b"a"))
    await pass_time(clock, 62)
    assert await busy.goodbye() == IDLE


async def test_no_idle_limit(reaped: Make, clock: MockClock) -> None:
    """With an idle limit of 0, a session may be silent for ever."""
    service = await reaped(idle_seconds=0)
    idle = await service.session()
    await pass_time(clock, 2 * 3600)
    await idle.call(write(b"a"))


async def test_the_idle_time_begins_when_a_send_ends(reaped: Make, clock: MockClock) -> None:
    """The idle time begins when a send ends, so a slow reader has all of it."""
    service = await reaped(idle_seconds=12)
    peer = service.connect_socket()
    await peer.open()
    await peer.call(write(b"big", bytes(60_000)))
    await peer.send(*peer.frames([read(b"big")]))
    await pass_time(clock, 9)
    await peer.expect(HReturn)
    await pass_time(clock, 9)
    await peer.call(read(b"big"))
    await pass_time(clock, 14)
    assert await peer.goodbye() == IDLE


async def blocked_reader(service: Service, count: int = 100, behind: bytes = b"") -> Peer:
    """Return a session whose client has sent many calls and reads no answer.

    The bytes `behind` are sent after the calls.
    """
    peer = service.connect_socket()
    await peer.open()
    await peer.call(write(b"big", bytes(60_000)))
    calls = map(peer.session.send, peer.frames([read(b"big")] * count))
    await peer.stream.send_all(b"".join(calls) + behind)
    await wait_all_tasks_blocked()
    return peer


async def test_who_does_not_read_is_sent_away(reaped: Make, clock: MockClock) -> None:
    """A client that does not read gets GOODBYE 6 after 10 seconds, as a whole frame.

    Another session is not delayed.
    """
    service = await reaped()
    slow, neighbour = await blocked_reader(service), await service.session()
    await pass_time(clock, 9.5)
    await neighbour.call(read(b"big"))
    assert service.machine.sessions.count(1) == 2
    clock.jump(1.5)
    await wait_all_tasks_blocked()
    assert await slow.goodbye() == TOO_SLOW
    await neighbour.call(read(b"big"))


async def test_who_never_reads_is_dropped(reaped: Make, clock: MockClock) -> None:
    """A client that does not even read the GOODBYE loses its connection."""
    service = await reaped()
    await blocked_reader(service)
    await pass_time(clock, 14)
    assert len(service.machine.sessions) == 0
    assert service.machine.counters.goodbyes == {TOO_SLOW: 1}


async def test_who_breaks_the_protocol_and_does_not_read_is_sent_away(reaped: Make, clock: MockClock) -> None:
    """After a protocol error, the pending answers still have a deadline."""
    service = await reaped()
    peer = await blocked_reader(service, CALLS - 1, b"garbage, and enough of it")
    await pass_time(clock, 11)
    assert await peer.goodbye() == TOO_SLOW
    service = await reaped()
    await blocked_reader(service, CALLS - 1, b"garbage, and enough of it")
    await pass_time(clock, 14)
    assert len(service.machine.sessions) == 0
    assert service.machine.counters.goodbyes == {TOO_SLOW: 1}


async def test_a_slow_reader_holds_bounded_memory(reaped: Make, clock: MockClock) -> None:
    """While answers wait for a slow reader, no call is received or run, so memory is bounded."""
    service = await reaped()
    await blocked_reader(service)
    made = service.machine.counters.bytes_sent
    assert made < FLUSH_SIZE + 3 * 60_100
    assert service.machine.counters.calls[1].total() <= 1 + CALLS


async def test_a_slow_but_steady_reader_gets_everything(reaped: Make, clock: MockClock) -> None:
    """A reader has 10 seconds for each piece of the answers, so a slow and steady one gets all of them."""
    service = await reaped()
    peer = await blocked_reader(service)
    for _ in range(100):
        assert (await peer.expect(HReturn)).status == 0
        clock.jump(0.9)
        await wait_all_tasks_blocked()
    await peer.call(read(b"big"))


def test_the_pause_follows_the_shortest_deadline() -> None:
    """The reaper wakes often enough for the shortest deadline.

    It acts at most a tenth of the deadline late, and never more than a second late.
    """
    assert pause(Limits()) == 1.0
    assert pause(Limits(send_seconds=0.5)) == 0.05
    assert pause(Limits(idle_seconds=0)) == 1.0


async def test_the_stream_reports_a_peer_that_is_gone() -> None:
    """If the peer has gone, the stream raises Trio's own exception, whatever error the kernel returns."""
    import socket

    ours, theirs = socket.socketpair()
    theirs.close()
    stream = SocketStream(ours)
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"x")
    await stream.aclose()
    await stream.aclose()
