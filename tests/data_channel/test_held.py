"""A CONFIRM that waits for its flush: the flush, later calls, and the ends of the wait (R-20, R-21).

The test ends each commit, and time is virtual.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from hcall_abi.calls import Opcode
from hcall_abi.faults import parse_fault
from hcall_abi.frames import Goodbye, GoodbyeReason, HReturn
from hcall_abi.statuses import Status
from hcall_client.calls import confirm_object_flushed, set_password
from hcall_server.machine.machine import Machine
from tests.data_channel.parked import ParkedService
from tests.data_channel.support import OS, Peer, Service, make_machine, read, write
from tests.rules.breaking import logged
from tests.writeback.workers import ParkedWorker

WAIT = 0.04
CONFIRM = int(Opcode.CONFIRM_OBJECT_FLUSHED)


class Held(ParkedService):
    """A service whose commits end when the test says so. It counts the CONFIRMs that it has answered."""

    def confirms(self, partition: int = 1) -> int:
        """Return the number of answered CONFIRMs of a partition."""
        counts = self.machine.counters.calls[partition]
        return sum(count for (opcode, _), count in counts.items() if opcode == CONFIRM)


@pytest.fixture
def clock(mock_clock: MockClock) -> MockClock:
    """The virtual clock. A test that needs it requests it itself."""
    return mock_clock


@pytest.fixture(params=["task", "lane"])
async def held(
    nursery: trio.Nursery, request: pytest.FixtureRequest, mock_clock: MockClock
) -> AsyncIterator[Held]:
    """Alpha and beta, each with a CONFIRM that waits, over both kinds of connection."""
    disk = ParkedWorker()
    machine = make_machine("alpha", "beta", worker=disk)
    machine.confirm_wait = WAIT
    service = await Service.start(nursery, machine, lane=request.param == "lane")
    await nursery.start(machine.encryptor.run)
    yield Held(service, disk, mock_clock)
    service.close()


def confirm(label: bytes = b"a"):
    """Return a CONFIRM for the operating system."""
    return confirm_object_flushed(OS, label)


async def nothing_comes(peer: Peer) -> None:
    """Check that no bytes arrive."""
    await wait_all_tasks_blocked()
    with trio.move_on_after(0) as scope:
        await peer.event()
        raise AssertionError("bytes arrived")
    assert scope.cancelled_caught


async def test_it_is_answered_when_the_flush_has_landed(held: Held, clock: MockClock) -> None:
    """If one send has a WRITE and its CONFIRM, the WRITE is answered at once.

    The CONFIRM is answered when the WRITE is durable.
    """
    peer = await held.session()
    await peer.send(*peer.frames([write(b"a"), confirm()]))
    assert (await peer.expect(HReturn)).status == 0
    await nothing_comes(peer)
    assert len(held.disk.jobs) > 0, "the commit must start in the turn of the CONFIRM"
    assert held.confirms() == 0
    await held.land()
    assert confirm().parse(await peer.expect(HReturn)).flushed
    assert held.confirms() == 1


async def test_without_the_option_it_says_not_yet_at_once(held: Held, clock: MockClock) -> None:
    """Without the option, CONFIRM says "not yet" at once, so a guest has to poll as on real firmware."""
    held.machine.confirm_wait = 0.0
    peer = await held.session()
    await peer.call(write(b"a"))
    assert not (await peer.call(confirm())).flushed
    await held.land()
    assert (await peer.call(confirm())).flushed


async def test_its_patience_ends(held: Held, clock: MockClock) -> None:
    """If NVRAM does not answer, the guest gets "not yet" after WAIT seconds and may repeat the call."""
    peer = await held.session()
    await peer.call(write(b"a"))
    await peer.send(*peer.frames([confirm()]))
    await held.pass_time(WAIT * 0.9)
    await nothing_comes(peer)
    await held.pass_time(WAIT * 0.2)
    assert not confirm().parse(await peer.expect(HReturn)).flushed
    assert held.confirms() == 1
    await peer.send(*peer.frames([confirm()]))
    await held.land()
    assert confirm().parse(await peer.expect(HReturn)).flushed


async def test_it_sees_two_flushes_end_at_most(held: Held, clock: MockClock) -> None:
    """After two failed flushes the guest gets "not yet", long before its waiting time is over."""
    held.machine.confirm_wait = 3600.0
    peer = await held.session()
    await peer.call(write(b"a"))
    await peer.send(*peer.frames([confirm()]))
    for _ in range(2):
        await wait_all_tasks_blocked()
        held.disk.fail(OSError("no"))
        # The encryptor tries the failed flush again in this second.
        await held.pass_time(1.0)
    assert not confirm().parse(await peer.expect(HReturn)).flushed


async def test_a_change_behind_the_flight_waits_for_the_next_one(held: Held, clock: MockClock) -> None:
    """If a WRITE arrives during a commit, its CONFIRM waits for the next commit."""
    peer, other = await held.session(), await held.session()
    await other.call(write(b"old"))
    await other.send(*other.frames([confirm(b"old")]))
    await wait_all_tasks_blocked()
    await peer.call(write(b"a"))
    await peer.send(*peer.frames([confirm()]))
    await held.land()
    assert confirm().parse(await other.expect(HReturn)).flushed
    assert held.confirms() == 1
    await held.land()
    assert confirm().parse(await peer.expect(HReturn)).flushed


async def test_calls_behind_it_wait_and_other_connections_do_not(held: Held, clock: MockClock) -> None:
    """R-01: Later calls of the connection wait, so answers keep their order. Other connections are served."""
    peer, other = await held.session(), await held.session()
    frames = peer.frames([write(b"a"), confirm(), read(b"a"), confirm()])
    await peer.send(*frames)
    assert (await peer.expect(HReturn)).tag == frames[0].tag
    await nothing_comes(peer)
    assert (await other.call(read(b"a"))).data == b"x"
    await held.land()
    assert [(await peer.expect(HReturn)).tag for _ in frames[1:]] == [each.tag for each in frames[1:]]


End = Callable[[Machine], object]
ENDS: dict[str, tuple[End, GoodbyeReason]] = {
    "ipl": (lambda machine: machine.ipl("alpha"), GoodbyeReason.IPL_OR_POWER_OFF),
    "power off": (lambda machine: machine.power_off("alpha"), GoodbyeReason.IPL_OR_POWER_OFF),
    "stop": (
        lambda machine: machine.sessions.end_all(GoodbyeReason.SERVER_STOPPING, "a signal"),
        GoodbyeReason.SERVER_STOPPING,
    ),
}


@pytest.mark.parametrize("end", ENDS)
async def test_an_end_of_the_session_drops_it(held: Held, clock: MockClock, end: str) -> None:
    """R-04: If the session ends, it gets GOODBYE. The waiting CONFIRM and the calls after it do not run."""
    act, reason = ENDS[end]
    peer = await held.session()
    await peer.call(write(b"a"))
    await peer.send(*peer.frames([confirm(), write(b"of the old IPL")]))
    await nothing_comes(peer)
    act(held.machine)
    assert (await peer.expect(Goodbye)).reason == reason
    await held.land()
    assert held.confirms() == 0
    assert held.machine.counters.calls[1][int(Opcode.WRITE_OBJECT), 0] == 1


async def test_a_landing_in_the_step_of_a_cancellation_runs_nothing(held: Held, clock: MockClock) -> None:
    """If a flush ends between the cancel of a connection and the end of its task, no call runs."""
    peer = await held.session()
    await peer.call(write(b"a"))
    await peer.send(*peer.frames([confirm()]))
    await nothing_comes(peer)
    (link,) = held.machine.sessions
    # The end of a nursery cancels a link in the same way. No GOODBYE is sent.
    link._cancel()
    held.disk.let_go()
    await wait_all_tasks_blocked()
    assert await peer.event() is None
    assert held.confirms() == 0
    assert held.machine.counters.crashed == 0


async def test_a_client_that_leaves_is_forgotten(held: Held, clock: MockClock) -> None:
    """A client may leave while its CONFIRM waits. The session then ends after the flush, without an error."""
    peer = await held.session()
    await peer.call(write(b"a"))
    await peer.send(*peer.frames([confirm()]))
    await nothing_comes(peer)
    await peer.stream.aclose()
    await held.land()
    await held.land()
    assert held.machine.counters.crashed == 0
    assert len(held.machine.sessions) == 0


async def test_a_password_that_was_set_meanwhile_is_demanded(held: Held, clock: MockClock) -> None:
    """A CONFIRM that waited checks the password again. So a password that was set meanwhile is needed."""
    peer, other = await held.session(), await held.session()
    await peer.call(write(b"a"))
    await peer.send(*peer.frames([confirm()]))
    await nothing_comes(peer)
    await other.call(set_password(3, b"a password of some length"))
    with logged("hcall.refused") as lines:
        await held.land()
        assert (await peer.expect(HReturn)).status == Status.H_AUTHORITY
    assert len(lines) == 1
    assert held.confirms() == 1


async def test_a_fault_plan_counts_it_once(held: Held, clock: MockClock) -> None:
    """R-75: For a fault plan, a waiting CONFIRM is one call, whatever it waits for."""
    held.machine.set_faults("alpha", [parse_fault("CONFIRM_OBJECT_FLUSHED=H_BUSY,nth=3")])
    peer = await held.session()
    for label in (b"a", b"b"):
        await peer.call(write(label))
        await peer.send(*peer.frames([confirm(label)]))
        await held.land()
        assert confirm(label).parse(await peer.expect(HReturn)).flushed
    await peer.call(write(b"c"))
    await peer.send(*peer.frames([confirm(b"c")]))
    assert (await peer.expect(HReturn)).status == Status.H_BUSY
    assert held.confirms() == 3


async def test_it_waits_behind_answers_that_the_socket_did_not_take(held: Held, clock: MockClock) -> None:
    """If the socket is full, the lane hands unsent answers and a waiting CONFIRM to the connection's task."""
    peer = held.service.connect_socket("alpha")
    assert (await peer.open()).status == 0
    await peer.call(write(b"large", bytes(30_000)))
    await held.land()
    await peer.send(*peer.frames([*[read(b"large")] * 8, write(b"a"), confirm()]))
    await wait_all_tasks_blocked()
    for _ in range(9):
        assert (await peer.expect(HReturn)).status == 0
    await nothing_comes(peer)
    await held.land()
    await held.land()
    assert confirm().parse(await peer.expect(HReturn)).flushed


async def test_many_wait_for_one_commit(held: Held, clock: MockClock) -> None:
    """The end of one commit answers the CONFIRMs of sixteen sessions of two partitions."""
    peers = [await held.session("alpha" if number % 2 else "beta") for number in range(16)]
    for number, peer in enumerate(peers):
        await peer.send(*peer.frames([write(b"%d" % number), confirm(b"%d" % number)]))
    for _ in range(3):
        await held.land()
    for number, peer in enumerate(peers):
        assert (await peer.expect(HReturn)).status == 0
        assert confirm(b"%d" % number).parse(await peer.expect(HReturn)).flushed
    assert held.confirms(1) + held.confirms(2) == 16
