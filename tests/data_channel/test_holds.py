"""The hold of a partition that is about to move, and the meaning of GOODBYE 3 (R-51, R-55).

During a hold no call of the partition runs. GOODBYE 3 promises that each call without an answer did not
run. Each test runs over memory streams and over two kinds of socket: with a task for each socket, and with
all sockets in one task (the lane). Times are virtual.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from hcall_abi.bounds import HOLD_SECONDS
from hcall_abi.calls import CALLS, Opcode
from hcall_abi.faults import parse_fault
from hcall_abi.frames import Goodbye, GoodbyeReason, HReturn, OpenStatus
from hcall_abi.statuses import Status
from hcall_client.calls import get_config, raw_call, set_password
from hcall_client.errors import HcallError
from hcall_client.request import Request
from hcall_server.machine.holds import MODIFYING, Holds
from hcall_server.machine.limits import Limits
from hcall_server.platform.custody import Custody
from hcall_server.platform.partition import Partition
from tests.data_channel.parked import ParkedService
from tests.data_channel.support import OS, Peer, Service, make_machine, read, write
from tests.data_channel.test_held import confirm, nothing_comes
from tests.rules.breaking import logged
from tests.writeback.workers import ParkedWorker


class Held(ParkedService):
    """A running machine with the partition alpha, which a test holds."""

    @property
    def holds(self) -> Holds:
        return self.machine.holds

    @property
    def alpha(self) -> Partition:
        return self.machine.system.find("alpha")

    def answered(self, opcode: Opcode = Opcode.WRITE_OBJECT) -> dict[int, int]:
        """Return how many calls of a kind alpha has answered, by status."""
        counts = self.machine.counters.calls[1]
        return {status: count for (each, status), count in counts.items() if each == opcode}


@pytest.fixture
def clock(mock_clock: MockClock) -> MockClock:
    """The virtual clock."""
    return mock_clock


WAYS = ("memory", "task", "lane", "small lane")
"""Memory streams; sockets with small buffers, each with a task; sockets in the lane; the same, small."""


@pytest.fixture(params=WAYS)
async def held(
    nursery: trio.Nursery, request: pytest.FixtureRequest, mock_clock: MockClock
) -> AsyncIterator[Held]:
    """Alpha and beta over each kind of connection, on a disk whose commits the test releases."""
    disk = ParkedWorker()
    machine = make_machine("alpha", "beta", worker=disk, limits=Limits(idle_seconds=4.0, send_seconds=4.0))
    machine.confirm_wait = 0.04
    service = Service(machine, lane="lane" in request.param)
    if request.param in ("task", "small lane"):
        service.connect = service.connect_socket  # type: ignore[method-assign,assignment]
    await nursery.start(machine.run)
    yield Held(service, disk, mock_clock)
    service.close()


async def test_no_call_runs_in_a_hold(held: Held, clock: MockClock) -> None:
    """During a hold all calls wait in the order of their connection. They run when the hold ends."""
    peer, other = await held.session(), await held.session("beta")
    held.holds.begin(held.alpha)
    await peer.send(*peer.frames([write(b"a", b"1"), read(b"a"), write(b"a", b"2"), read(b"a")]))
    await nothing_comes(peer)
    assert held.answered() == {}
    # The hold of alpha does not stop the calls of beta.
    await other.call(write(b"b"))
    held.holds.end(held.alpha)
    statuses = [(await peer.expect(HReturn)).status for _ in range(4)]
    # The second WRITE is refused, because the first one has taken the label.
    assert statuses == [0, 0, Status.H_RESOURCE, 0]
    assert held.answered() == {0: 1, Status.H_RESOURCE: 1}


async def test_calls_that_ran_before_are_answered(held: Held, clock: MockClock) -> None:
    """A call that ran before the hold is answered. A call that arrives during the hold waits.

    A second begin or end of the hold has no effect.
    """
    peer = await held.session()
    await peer.call(write(b"a"))
    held.holds.begin(held.alpha)
    # A hold that has begun is not begun again.
    held.holds.begin(held.alpha)
    assert held.holds.held(held.alpha)
    await peer.send(*peer.frames([read(b"a")]))
    await nothing_comes(peer)
    held.holds.end(held.alpha)
    held.holds.end(held.alpha)
    assert (await peer.expect(HReturn)).status == 0
    assert not held.holds.held(held.alpha)


async def test_later_modifying_calls_are_refused(held: Held, clock: MockClock) -> None:
    """After HOLD_SECONDS, modifying calls return H_R_STATE, are counted, and are logged once.

    They change nothing.
    """
    peer = await held.session()
    with logged("hcall.refused") as refusals:
        held.holds.begin(held.alpha)
        calls: list[Request[Any]] = [
            write(b"a"),
            set_password(OS.consumer, b"secret"),
            read(b"a"),
            write(b"b"),
        ]
        await peer.send(*peer.frames(calls))
        await held.pass_time(HOLD_SECONDS / 2)
        await nothing_comes(peer)
        await held.pass_time(HOLD_SECONDS / 2)
        assert [(await peer.expect(HReturn)).status for _ in range(2)] == [Status.H_R_STATE] * 2
        # The READ still waits, and the WRITE waits behind the READ.
        await nothing_comes(peer)
    assert held.answered() == {Status.H_R_STATE: 1}
    assert [line["rule_id"] for line in refusals] == ["state.modifiable"] * 2
    assert [line["hcall"] for line in refusals] == ["WRITE_OBJECT", "SET_PASSWORD"]
    held.holds.end(held.alpha)
    assert (await peer.expect(HReturn)).status == Status.H_NOT_FOUND
    assert (await peer.expect(HReturn)).status == 0
    # The call needs no password: the refused SET_PASSWORD set none.
    await peer.call(write(b"a"))


async def test_calls_that_come_late_in_a_hold(held: Held, clock: MockClock) -> None:
    """Late in a hold, a new modifying call is refused at once. An unknown h-call number waits."""
    peer, reader = await held.session(), await held.session()
    held.holds.begin(held.alpha)
    await held.pass_time(HOLD_SECONDS)
    with pytest.raises(HcallError) as refused:
        await peer.call(write(b"a"))
    assert refused.value.status == Status.H_R_STATE
    await reader.send(*reader.frames([raw_call(0x9999)]))
    await nothing_comes(reader)
    held.holds.end(held.alpha)
    assert (await reader.expect(HReturn)).status == Status.H_FUNCTION


def test_the_table_says_which_calls_are_refused() -> None:
    """H_R_STATE is for all calls that modify, and for the two that use a wrapping key."""
    assert {opcode for opcode, spec in CALLS.items() if spec.modifies} < MODIFYING
    assert MODIFYING.isdisjoint({Opcode.READ_OBJECT, Opcode.GET_CONFIG, Opcode.CONFIRM_OBJECT_FLUSHED})


async def test_a_confirm_that_waited_for_its_flush_is_held(held: Held, clock: MockClock) -> None:
    """If the flush of a CONFIRM ends during a hold, the CONFIRM returns 1 after the hold."""
    peer = await held.session()
    await peer.send(*peer.frames([write(b"a"), confirm()]))
    assert (await peer.expect(HReturn)).status == 0
    held.holds.begin(held.alpha)
    await held.land()
    await nothing_comes(peer)
    await held.pass_time(HOLD_SECONDS)
    # No answer comes, because H_R_STATE is no status of CONFIRM.
    await nothing_comes(peer)
    held.holds.end(held.alpha)
    assert confirm().parse(await peer.expect(HReturn)).flushed
    assert held.answered(Opcode.CONFIRM_OBJECT_FLUSHED) == {0: 1}


async def test_a_confirm_may_wait_again_after_a_hold(held: Held, clock: MockClock) -> None:
    """If no flush ends during a hold, a CONFIRM returns "not yet" after the hold."""
    peer = await held.session()
    await peer.send(*peer.frames([write(b"a"), confirm()]))
    assert (await peer.expect(HReturn)).status == 0
    held.holds.begin(held.alpha)
    # The CONFIRM's own waiting time is over. Now only the hold delays its answer.
    await held.pass_time(0.1)
    await nothing_comes(peer)
    held.holds.end(held.alpha)
    await held.pass_time(0.1)
    assert not confirm().parse(await peer.expect(HReturn)).flushed


async def test_a_fault_plan_waits_behind_the_hold(held: Held, clock: MockClock) -> None:
    """A fault plan that is set during a hold starts no call. It counts the calls when they run."""
    peer = await held.session()
    held.holds.begin(held.alpha)
    held.machine.set_faults("alpha", [parse_fault("WRITE_OBJECT=H_BUSY")])
    await peer.send(*peer.frames([write(b"a")]))
    await nothing_comes(peer)
    held.holds.end(held.alpha)
    assert (await peer.expect(HReturn)).status == Status.H_BUSY
    assert (await peer.call(write(b"a"))) is None


async def test_a_held_session_is_neither_idle_nor_slow(held: Held, clock: MockClock) -> None:
    """A hold ends neither a session that waits for an answer nor one that sends nothing."""
    peer, quiet = await held.session(), await held.session()
    held.holds.begin(held.alpha)
    await peer.send(*peer.frames([read(b"a")]))
    for _ in range(10):
        await held.pass_time(1.0)
    await nothing_comes(peer)
    held.holds.end(held.alpha)
    assert (await peer.expect(HReturn)).status == Status.H_NOT_FOUND
    assert (await quiet.call(get_config())).used_space == 0
    for _ in range(10):
        await held.pass_time(1.0)
    assert await quiet.goodbye() == GoodbyeReason.IDLE_TOO_LONG


async def test_goodbye_3_behind_the_answers(held: Held, clock: MockClock) -> None:
    """R-55: The calls that ran are answered before GOODBYE 3. The calls that waited have not run."""
    peer, quiet = await held.session(), await held.session()
    await peer.send(*peer.frames([write(b"a")]))
    await wait_all_tasks_blocked()
    held.holds.begin(held.alpha)
    await peer.send(*peer.frames([write(b"b"), write(b"c")]))
    await wait_all_tasks_blocked()
    held.holds.leave(held.alpha)
    assert (await peer.expect(HReturn)).status == 0
    assert await ending(peer) == (0, GoodbyeReason.MIGRATED)
    assert await ending(quiet) == (0, GoodbyeReason.MIGRATED)
    assert held.answered() == {0: 1}
    assert held.machine.sessions.count(1) == 0
    assert not held.holds.held(held.alpha)


@pytest.mark.parametrize("asked, moment", [(1, 1), (40, 3), (40, 6), (400, 7), (400, 12), (400, 50)])
async def test_a_move_at_any_moment_keeps_the_promise(
    held: Held, asked: int, moment: int, clock: MockClock
) -> None:
    """R-55: the calls that ran are exactly those with answers, at any point between turns and sends."""
    peer = await held.session()
    async with trio.open_nursery() as tasks:
        tasks.start_soon(sent, peer, [write(b"%d" % n, bytes(90)) for n in range(asked)])
        for _ in range(moment):
            await trio.lowlevel.checkpoint()
        held.holds.begin(held.alpha)
        held.holds.leave(held.alpha)
        answers, goodbye = await ending(peer)
        assert goodbye == GoodbyeReason.MIGRATED
        assert answers == sum(held.answered().values())
        tasks.cancel_scope.cancel()


async def sent(peer: Peer, requests: list[Request[Any]]) -> None:
    """Send calls to a server that may end the stream before it has read them all."""
    with suppress(trio.BrokenResourceError):
        await peer.send(*peer.frames(requests))


async def ending(peer: Peer) -> tuple[int, int | None]:
    """Read to the end of the session; return the number of answers, and the reason of a GOODBYE."""
    answers = 0
    with suppress(trio.BrokenResourceError):
        while isinstance(event := await peer.event(), HReturn):
            answers += 1
        return answers, event.reason if isinstance(event, Goodbye) else None
    return answers, None


async def test_open_in_a_hold_and_after_it(held: Held, clock: MockClock) -> None:
    """R-51: OPEN gets status 3 while the partition is held, and 1 after it has left."""
    held.holds.begin(held.alpha)
    assert (await held.service.connect("alpha").open()).status == OpenStatus.NOT_ACTIVATED
    alpha = held.alpha
    # OPEN returns status 3 until the record is durable.
    alpha.set_custody(Custody.RELEASED, 1, b"")
    assert (await held.service.connect("alpha").open()).status == OpenStatus.NOT_ACTIVATED
    held.holds.leave(alpha)
    assert (await held.service.connect("alpha").open()).status == OpenStatus.NO_SUCH_PARTITION
    for custody, status in (
        (Custody.FROZEN, OpenStatus.NOT_ACTIVATED),
        (Custody.PREPARED, OpenStatus.NOT_ACTIVATED),
        (Custody.ARRIVED, OpenStatus.OPENED),
    ):
        alpha.set_custody(custody, 1, b"")
        assert (await held.service.connect("alpha").open()).status == status


async def test_an_answer_that_cannot_be_sent_takes_the_promise_away(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """R-55: If the peer does not read, an answer is lost. So the stream ends without GOODBYE 3."""
    service = Service(make_machine("alpha"))
    await nursery.start(service.machine.run)
    peer = service.connect_socket()
    assert (await peer.open()).status == 0
    await peer.call(write(b"a", bytes(1000)))
    nursery.start_soon(sent, peer, [read(b"a")] * 400)
    await wait_all_tasks_blocked(0.01)
    service.machine.holds.leave(service.machine.system.find("alpha"))
    await trio.sleep(2 * service.machine.limits.goodbye_seconds)
    answers, goodbye = await ending(peer)
    assert goodbye is None
    assert 0 < answers < 400
    service.close()
