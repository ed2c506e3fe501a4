"""Connections and sessions need a place. They wait for it, and each partition has a share.

spec/protocol.md#sessions has the arithmetic.
"""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from hcall_abi.exchange import SessionState
from hcall_abi.frames import GoodbyeReason, Hello, OpenStatus
from hcall_server.machine.limits import Limits
from hcall_server.machine.sessions import Link, Sessions
from hcall_server.platform.partition import Partition
from tests.data_channel.support import Peer, Service, make_machine, write
from tests.data_channel.test_reaper import pass_time

IDLE = GoodbyeReason.IDLE_TOO_LONG


async def serving(nursery: trio.Nursery, *names: str, **limits: int) -> Service:
    """A machine with these partitions and limits."""
    return await Service.start(nursery, make_machine(*names, limits=Limits(**limits)))


class Crowd:
    """Connections that are made at the same time and wait for HELLO."""

    def __init__(self, nursery: trio.Nursery, service: Service) -> None:
        self.peers: list[Peer] = []
        self._nursery = nursery
        self._service = service

    def connect(self, name: str | None = "alpha") -> Peer:
        """Make one more connection. A listener of all partitions (None) demands a proof."""
        peer = self._service.connect(name, demand_proof=name is None)
        self.peers.append(peer)
        self._nursery.start_soon(peer.expect, Hello)
        return peer

    async def greeted(self) -> list[Peer]:
        """Return the connections that have received HELLO and not sent OPEN."""
        await wait_all_tasks_blocked()
        return [peer for peer in self.peers if peer.session.state is SessionState.GREETED]


async def test_a_burst_waits_and_nobody_is_ended(nursery: trio.Nursery) -> None:
    """R-01: With all places taken, new connections wait and none is ended. Each OPEN frees a place."""
    service = await serving(nursery, "alpha", max_unopened=4)
    crowd = Crowd(nursery, service)
    for _ in range(12):
        crowd.connect()
    for left in range(12, 0, -1):
        waiting = await crowd.greeted()
        assert len(waiting) == len(service.machine.sessions.unopened) == min(4, left)
        assert (await waiting[0].open()).status == OpenStatus.OPENED
    for peer in crowd.peers:
        await peer.call(write(b"%d" % id(peer)))
    assert service.machine.counters.goodbyes == {}


async def test_who_holds_a_place_and_is_silent_makes_room(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    """A connection that sends no OPEN loses its place to others after a fifth of `open_seconds`.

    Each of those then has its own time.
    """
    service = await serving(nursery, "alpha", max_unopened=4)
    crowd = Crowd(nursery, service)
    silent = [crowd.connect() for _ in range(4)]
    await pass_time(mock_clock, 5)
    assert await crowd.greeted() == silent
    late = [crowd.connect() for _ in range(5)]
    assert await crowd.greeted() == silent
    await pass_time(mock_clock, 1)
    assert [await peer.goodbye() for peer in silent] == [IDLE] * 4
    lucky = await crowd.greeted()
    assert len(lucky) == 4
    await pass_time(mock_clock, 1)
    assert await crowd.greeted() == lucky
    assert (await lucky[0].open()).status == OpenStatus.OPENED
    assert len(await crowd.greeted()) == 4
    await pass_time(mock_clock, 5)
    assert (await next(peer for peer in late if peer not in lucky).open()).status == OpenStatus.OPENED


async def test_each_listener_has_places_of_its_own(nursery: trio.Nursery) -> None:
    """R-01: Each listener has its own places. Peers at one listener do not delay those at another."""
    service = await serving(nursery, "alpha", "beta", max_unopened=2)
    crowd = Crowd(nursery, service)
    for name in ("alpha", None) * 6:
        crowd.connect(name)
    assert len(await crowd.greeted()) == 4
    assert (await service.connect("beta").open()).status == OpenStatus.OPENED


async def test_four_partitions_cannot_lock_a_fifth_out(nursery: trio.Nursery) -> None:
    """R-01: Idle sessions of four partitions can take all common places, but a fifth keeps its share."""
    names = ["a", "b", "c", "d", "e"]
    service = await serving(nursery, *names, max_sessions=8, min_sessions=2, max_connections=32)
    for name in names[:4]:
        opened = 0
        while (await service.connect(name).open()).status == OpenStatus.OPENED:
            opened += 1
        # 2 of the server's 32 sessions are reserved for "e", so "d" gets only 6.
        assert opened == {"d": 6}.get(name, 8)
    share = [await service.session("e") for _ in range(2)]
    assert (await service.connect("e").open()).status == OpenStatus.TOO_MANY_SESSIONS
    for peer in share:
        await peer.call(write(b"%d" % share.index(peer)))


async def test_a_partition_that_is_activated_late_has_its_share(nursery: trio.Nursery) -> None:
    """R-01: A partition that is activated late gets its share of sessions, and no other session is ended."""
    service = await serving(nursery, "a", max_sessions=8, min_sessions=2, max_connections=8)
    early = [await service.session("a") for _ in range(8)]
    service.machine.changes.create("late", 8)
    service.machine.power_on("late")
    share = [await service.session("late") for _ in range(2)]
    assert (await service.connect("late").open()).status == OpenStatus.TOO_MANY_SESSIONS
    for peer in (*early, *share):
        await peer.call(write(b"%d" % id(peer)))
    await early[0].stream.aclose()
    await wait_all_tasks_blocked()
    assert (await service.connect("a").open()).status == OpenStatus.TOO_MANY_SESSIONS


@pytest.mark.parametrize("running", [1, 5, 40, 200])
def test_the_sum_of_all_sessions(running: int) -> None:
    """All sessions are at most max_connections, or the sum of all shares if that is larger."""
    limits = Limits()
    sessions = Sessions(limits)
    machine = make_machine(*(f"p{n}" for n in range(1, running + 1)), kbytes=0)
    partitions = list(machine.system.partitions.values())
    numbers = [each.number for each in partitions]
    for greedy in partitions:
        _fill(sessions, greedy, numbers)
    assert all(sessions.count(number) >= limits.min_sessions for number in numbers)
    assert sessions.session_count <= max(limits.max_connections, running * limits.min_sessions)
    if running >= 4:
        assert sessions.session_count >= limits.max_connections


def _fill(sessions: Sessions, partition: Partition, running: list[int]) -> None:
    while sessions.has_room(partition.number, running):
        sessions.open(Link(0.0, lambda: None), partition)
