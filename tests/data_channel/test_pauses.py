"""A pause of the server process counts in no deadline, so no peer loses time (spec/protocol.md#sessions)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from hcall_abi.faults import parse_fault
from hcall_abi.frames import GoodbyeReason, Hello
from hcall_client.calls import get_config
from hcall_client.errors import HcallError
from hcall_server.machine.awake import COUNTED, AwakeClock
from hcall_server.machine.limits import Limits
from hcall_server.nvram.memory import MemoryNvram
from hcall_server.service.assembly import assemble
from hcall_server.service.settings import PartitionSettings, Settings
from swpks.testing.seams import simulated_seams
from tests.data_channel.support import Service, make_machine, read, write
from tests.writeback.workers import TaskWorker

IDLE = GoodbyeReason.IDLE_TOO_LONG
HOUR = 3600.0


class Time:
    """The time of the host, which goes on while the server is stopped."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def raw() -> Time:
    """The time of the host, which the loop's clock reads."""
    return Time()


@pytest.fixture
def awake(raw: Time) -> AwakeClock:
    """The clock of the test's loop."""
    return AwakeClock(raw)


async def live(raw: Time, seconds: float) -> None:
    """Let time pass while the server runs."""
    await wait_all_tasks_blocked()
    for _ in range(round(seconds * 5)):
        raw.seconds += 0.2
        await wait_all_tasks_blocked()


async def pause(raw: Time, seconds: float = HOUR) -> None:
    """Stop the server for this time, then let it run again."""
    raw.seconds += seconds
    await wait_all_tasks_blocked()


def test_time_passes_as_it_is_expected(raw: Time) -> None:
    """A sleep of the requested length is no pause, and neither is work between two readings."""
    clock = AwakeClock(raw)
    begin = clock.now()
    assert clock.deadline_to_sleep_time(begin + 100) == 100
    raw.seconds += 100 + COUNTED
    assert clock.current_time() == pytest.approx(begin + 100 + COUNTED)
    raw.seconds += COUNTED
    assert clock.now() == pytest.approx(begin + 100 + 2 * COUNTED)
    assert clock.pauses == 0


@pytest.mark.parametrize("asked", [None, 0.5, -3.0])
def test_a_pause_counts_next_to_nothing(raw: Time, asked: float | None) -> None:
    """A pause counts as COUNTED seconds, whether the loop slept or worked before it."""
    clock = AwakeClock(raw)
    begin = clock.now()
    if asked is not None:
        clock.deadline_to_sleep_time(begin + asked)
    raw.seconds += HOUR
    assert clock.now() == clock.current_time() == pytest.approx(begin + COUNTED)
    assert clock.pauses == 1
    assert "1 pauses" in repr(clock)


def test_a_loop_that_is_held_up_for_ever_still_has_deadlines(raw: Time) -> None:
    """If a guest keeps the loop busy, the clock still advances at each reading."""
    clock = AwakeClock(raw)
    begin = clock.now()
    for _ in range(100):
        raw.seconds += 30
        clock.now()
    assert clock.now() >= begin + 100 * COUNTED


async def test_deadlines_start_again_after_a_pause(
    nursery: trio.Nursery, awake: AwakeClock, raw: Time
) -> None:
    """After a pause, a connection that is unopened, idle or slow has its full time again once."""
    limits = Limits(idle_seconds=20)
    service = await Service.start(nursery, make_machine("alpha", limits=limits))
    unopened, idle, slow = service.connect(), await service.session(), service.connect_socket()
    await unopened.expect(Hello)
    await slow.open()
    await slow.call(write(b"big", bytes(60_000)))
    await slow.send(*slow.frames([read(b"big")] * 10))
    await live(raw, 9)
    await pause(raw)
    await live(raw, 8)
    assert service.machine.counters.goodbyes == {}
    await live(raw, 4)
    assert service.machine.counters.goodbyes == {IDLE: 1, GoodbyeReason.TOO_SLOW_TO_READ: 1}
    assert await unopened.goodbye() == IDLE
    await live(raw, 5)
    await idle.call(read(b"big"))
    service.close()


async def test_what_came_in_a_pause_is_read_first(
    nursery: trio.Nursery, awake: AwakeClock, raw: Time
) -> None:
    """A client is served if its OPEN arrived while the server was stopped."""
    service = await Service.start(nursery, make_machine("alpha"))
    peer = service.connect_socket()
    await peer.expect(Hello)
    await live(raw, 9)
    raw.seconds += HOUR
    assert (await peer.open()).status == 0
    await peer.call(write(b"a"))
    service.close()


async def test_pause_after_pause_keeps_no_silent_peer(
    nursery: trio.Nursery, awake: AwakeClock, raw: Time
) -> None:
    """Repeated pauses do not give a silent peer new time again and again: it loses its place."""
    service = await Service.start(nursery, make_machine("alpha"))
    silent = service.connect()
    await silent.expect(Hello)
    for _ in range(100):
        await pause(raw)
        await silent.stream.send_all(b"")
    assert await silent.goodbye() == IDLE


async def test_a_busy_fault_lasts_as_long_as_the_guest_could_see(
    nursery: trio.Nursery, awake: AwakeClock, raw: Time
) -> None:
    """R-75: The `seconds` of a busy plan count only while the server runs."""
    service = await Service.start(nursery, make_machine("alpha"))
    service.machine.set_faults("alpha", [parse_fault("GET_CONFIG=H_BUSY,seconds=5")])
    peer = await service.session()
    for wait in (lambda: live(raw, 3), lambda: pause(raw), lambda: live(raw, 2)):
        with pytest.raises(HcallError, match="H_BUSY"):
            await peer.call(get_config())
        await wait()
    await peer.call(get_config())


async def test_every_deadline_of_the_loop_is_one_of_the_server(awake: AwakeClock, raw: Time) -> None:
    """Deadlines of Trio also do not count a pause; the server uses them for requests and stops."""
    with trio.move_on_after(10) as scope:
        await live(raw, 9)
        await pause(raw)
        await live(raw, 0.6)
        assert not scope.cancel_called
        await live(raw, 0.4)
    assert scope.cancelled_caught


class Hanging(TaskWorker):
    """A worker whose jobs end when the test releases them."""

    def __init__(self) -> None:
        self.go_on = trio.Event()

    async def run(self, job: Callable[[], None]) -> None:
        """Wait, then run the job."""
        await self.go_on.wait()
        job()


async def test_a_pause_is_no_stall(nursery: trio.Nursery, awake: AwakeClock, raw: Time) -> None:
    """R-23: A commit that takes long because of a pause is not stalled; one that hangs is."""
    worker = Hanging()
    seams = simulated_seams(nvram=MemoryNvram(), worker=worker, clock=awake.now)
    machine = assemble(seams, Settings(partition=(PartitionSettings.of("alpha", 8),)))
    await nursery.start(machine.run)
    machine.start()
    await live(raw, 1)
    states = []
    for wait in (lambda: pause(raw), lambda: live(raw, 2)):
        states.append(machine.encryptor.health.state)
        await wait()
    assert [*states, machine.encryptor.health.state] == ["flushing", "flushing", "stalled"]
    worker.go_on.set()
