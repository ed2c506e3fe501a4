"""The lane serves many sockets in one task, without a task switch for each call.

Work that may wait stays in a task of its own.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from hcall_abi.errors import ScarcityError
from hcall_abi.frames import Goodbye, GoodbyeReason, HReturn
from hcall_client.calls import get_config
from hcall_server.data_channel.lane import Lane, Seat
from hcall_server.machine.turns import CALLS, Quantum, Turns
from tests.data_channel.support import Peer, Service, make_machine, read, write
from tests.rules.breaking import logged


@pytest.fixture
async def service(nursery: trio.Nursery) -> AsyncIterator[Service]:
    """A machine with the partitions alpha and beta, whose connections are in the lane."""
    made = await Service.start(nursery, make_machine("alpha", "beta"), lane=True)
    yield made
    made.close()


@pytest.fixture
def rides(monkeypatch: pytest.MonkeyPatch) -> list[Seat]:
    """The connections that entered the lane, in order."""
    found: list[Seat] = []
    enter = Lane.enter

    def noted(lane: Lane, seat: Seat) -> bool:
        found.append(seat)
        return enter(lane, seat)

    monkeypatch.setattr(Lane, "enter", noted)
    return found


def write_now(peer: Peer, calls: int) -> None:
    """Send this number of calls while no other task runs."""
    data = b"".join(peer.session.send(frame) for frame in peer.frames([get_config()] * calls))
    assert os.write(peer.stream.socket.fileno(), data) == len(data)  # type: ignore[attr-defined]


async def test_calls_wake_no_task(service: Service, rides: list[Seat]) -> None:
    """A connection enters the lane once and stays there for all of its calls."""
    peer = await service.session()
    await peer.call(write(b"a", b"data"))
    for _ in range(20):
        assert (await peer.call(read(b"a"))).data == b"data"
    assert len(rides) == 1
    assert "IDLE" in repr(rides[0])
    assert repr(service.lane) == "Lane(1 sockets)"


async def test_bytes_behind_the_open_are_served(service: Service) -> None:
    """Bytes that arrived before the socket entered the lane are served too."""
    peer = await service.session()
    frames = peer.frames([write(b"a"), read(b"a")])
    await peer.send(*frames)
    assert [(await peer.expect(HReturn)).status for _ in frames] == [0, 0]


async def test_an_end_right_behind_the_calls_is_seen(service: Service, rides: list[Seat]) -> None:
    """With calls and the end of the stream in one event, the calls are answered, and the connection ends."""
    peer = await service.session()
    await wait_all_tasks_blocked()
    assert len(rides) == 1
    await peer.send(*peer.frames([write(b"a")] + [read(b"a")] * (2 * CALLS)))
    await peer.stream.send_eof()  # type: ignore[attr-defined]
    for _ in range(1 + 2 * CALLS):
        assert (await peer.expect(HReturn)).status == 0
    assert await peer.event() is None
    await wait_all_tasks_blocked()
    assert len(service.machine.sessions) == 0


async def test_answers_that_do_not_fit_are_sent_by_the_task(service: Service, rides: list[Seat]) -> None:
    """If a socket's buffer is full, the connection leaves the lane and returns later.

    No byte is lost or repeated.
    """
    peer = service.connect_socket()
    await peer.open()
    await peer.call(write(b"big", bytes(range(256)) * 200))
    await peer.send(*peer.frames([read(b"big")] * 40))
    for _ in range(40):
        answer = await peer.expect(HReturn)
        assert answer.writes[0].data == bytes(range(256)) * 200
    assert len(rides) > 1
    await peer.call(read(b"big"))


async def test_a_bug_ends_its_connection_alone(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error while a socket is served ends its connection only; the lane goes on."""
    one, other = await service.session(), await service.session("beta")
    await wait_all_tasks_blocked()
    (link,) = service.machine.sessions.of(1)

    def fails(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(link.calls, "answer", fails)
    await one.send(*one.frames([get_config()]))
    assert await one.event() is None
    assert service.machine.counters.crashed == 1
    await other.call(write(b"still served"))


async def test_an_ipl_and_a_power_off_reach_who_is_in_the_lane(service: Service) -> None:
    """R-04: An IPL or a power-off reaches sockets in the lane: GOODBYE 2, and no call of the old IPL runs."""
    peer = await service.session()
    await wait_all_tasks_blocked()
    service.machine.ipl("alpha")
    assert await peer.goodbye() == GoodbyeReason.IPL_OR_POWER_OFF
    assert repr(service.lane) == "Lane(0 sockets)"


async def test_a_socket_is_out_of_the_set_before_it_is_closed(service: Service) -> None:
    """A socket leaves the lane before it is closed.

    So the next socket that gets its descriptor number can enter the lane.
    """
    for number in range(50):
        peer = await service.session()
        await peer.call(write(b"%d" % number))
        await peer.stream.aclose()
        await wait_all_tasks_blocked()
    assert repr(service.lane) == "Lane(0 sockets)"


async def test_a_set_that_takes_no_more_leaves_the_task(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a socket can't enter the lane, its task serves the connection, and no session is lost."""

    def full(*_: object) -> bool:
        return False

    monkeypatch.setattr(Lane, "enter", full)
    peer = await service.session()
    await peer.call(write(b"a", b"data"))
    assert (await peer.call(read(b"a"))).data == b"data"


def test_a_full_set_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the epoll set is full, `enter` returns False, and the socket is not in the lane."""

    class Full:
        """An epoll set that is full."""

        def register(self, *_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    ours, theirs = socket.socketpair()
    with ours, theirs:
        lane = Lane(Turns(lambda: 0.0))
        lane.close()
        monkeypatch.setattr(lane, "_epoll", Full())
        seat = Seat.__new__(Seat)
        seat.descriptor = ours.fileno()
        assert lane.enter(seat) is False
        lane.leave(seat)


def descriptors() -> int:
    """Return the number of open descriptors of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("where,what", [(select, "epoll"), (os, "eventfd")])
def test_without_a_descriptor_there_is_no_lane(
    where: ModuleType, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a free descriptor, the error has its rule, and no descriptor stays open."""

    def none(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    before = descriptors()
    monkeypatch.setattr(where, what, none)
    with pytest.raises(ScarcityError, match="the lane of the data channel"):
        Lane(Turns(lambda: 0.0))
    assert descriptors() == before


@pytest.mark.parametrize("lane", [True, False], ids=["lane", "task"])
async def test_a_flood_lets_its_neighbour_pass(nursery: trio.Nursery, lane: bool) -> None:
    """R-01: a hundred calls of one partition wait; a call of another partition waits for one turn of them."""
    service = await Service.start(nursery, make_machine("alpha", "beta"), lane=lane)
    flood, neighbour = service.connect_socket("alpha"), service.connect_socket("beta")
    for peer in (flood, neighbour):
        assert (await peer.open()).status == 0
    await wait_all_tasks_blocked()
    ran: list[int] = []
    counts = service.machine.counters.calls
    (link,) = service.machine.sessions.of(2)
    inner = link.calls.answer

    def noted(*arguments: object) -> object:
        ran.append(counts[1].total())
        return inner(*arguments)  # type: ignore[arg-type]

    link.calls.answer = noted  # type: ignore[method-assign, assignment]
    write_now(flood, 100)
    write_now(neighbour, 1)
    await neighbour.expect(HReturn)
    assert ran[0] <= CALLS
    service.close()


@pytest.mark.parametrize("lane", [True, False], ids=["lane", "task"])
async def test_a_client_that_says_goodbye_is_not_lost(nursery: trio.Nursery, lane: bool) -> None:
    """A client that closes its socket directly after GOODBYE does not count as lost."""
    service = await Service.start(nursery, make_machine("alpha"), lane=lane)
    peer = service.connect_socket("alpha")
    assert (await peer.open()).status == 0
    await wait_all_tasks_blocked()
    theirs = peer.stream.socket.fileno()  # type: ignore[attr-defined]
    os.write(theirs, peer.session.send(Goodbye(GoodbyeReason.DONE, "")))
    await peer.stream.aclose()
    with logged("connection.lost") as lines:
        await wait_all_tasks_blocked()
    assert (service.machine.counters.lost, lines) == (0, [])
    assert len(service.machine.sessions) == 0


async def test_a_turn_of_who_has_left_does_nothing(service: Service, rides: list[Seat]) -> None:
    """A turn that was in the queue when its connection ended runs no call."""
    peer: Peer = await service.session()
    await wait_all_tasks_blocked()
    service.machine.power_off("alpha")
    assert await peer.goodbye() == GoodbyeReason.IPL_OR_POWER_OFF
    assert rides[0].serve(Quantum(CALLS, 1e9)) is False
