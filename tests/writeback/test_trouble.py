"""The encryptor while NVRAM fails: no change is lost or counts as flushed, and health reports it (R-23)."""

from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from hcall_abi.faults import NvramFault
from hcall_abi.rules.rule import Fault
from hcall_server.nvram import Trouble
from hcall_server.sealing import open_system
from hcall_server.writeback.book import Book
from hcall_server.writeback.health import FIRST_RETRY, LAST_RETRY, STALL
from hcall_server.writeback.worker import InlineWorker, Job, Landed
from swpks.testing.etcd.network import Fate
from tests.nvram.backends import Backend, EtcdBackend, backend_of
from tests.writeback.rig import FLUSHED, GONE, PENDING, Rig
from tests.writeback.workers import ParkedWorker

KINDS: list[Trouble] = ["full", "io", "busy", "corrupt"]
OVER: list[tuple[Trouble, str]] = [*((kind, "memory") for kind in KINDS), ("io", "sqlite"), ("io", "etcd")]
"""Kinds of faults and back ends: a back end of its own does not see the kind."""


def step(rig: Rig, n: int) -> None:
    """Change the store: write an object and, from the third step on, remove an older one."""
    rig.write(b"label %d" % n)
    if n > 2:
        rig.remove(b"label %d" % (n - 2))


async def history(rig: Rig, steps: int) -> list[bool]:
    """Change and flush repeatedly, and check; return the result of each flush."""
    went = []
    for n in range(1, steps + 1):
        step(rig, n)
        before = rig.objects()
        went.append(await rig.encryptor.flush())
        assert rig.objects() == before
        assert rig.confirm(b"label %d" % n) == (FLUSHED if went[-1] else PENDING)
        if went[-1]:
            assert rig.power_cut().objects() == rig.objects()
    return went


@pytest.fixture
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """The back end of NVRAM that the test names."""
    return backend_of(request.param, tmp_path)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("kind, backend", OVER, indirect=["backend"])
@pytest.mark.parametrize("nth", range(1, 7))
async def test_any_commit_may_fail(nth: int, kind: Trouble, after: bool, backend: Backend) -> None:
    """R-23, R-21: If a commit fails, before or after it took effect, the next one includes its changes."""
    rig = Rig(plan=[NvramFault(kind, after=after, nth=nth)], backend=backend)
    went = await history(rig, 6)
    assert went == [n != nth for n in range(1, 7)]
    assert await rig.encryptor.flush()
    assert rig.confirm(b"label 6") == FLUSHED
    assert rig.confirm(b"label 4") == GONE
    assert rig.power_cut().objects() == rig.objects() == {b"label 5": b"data", b"label 6": b"data"}
    assert rig.kinds == [kind, None]
    rig.journal.close()


FAILING: tuple[Fate, ...] = ("refused", "lost", "late", "unanswered", "unavailable")


@pytest.mark.parametrize("fate", [*FAILING, "repeated"])
@pytest.mark.parametrize("nth", range(1, 7))
async def test_any_request_to_etcd_may_fail(nth: int, fate: Fate) -> None:
    """R-23, R-21: the same for each request of a flush; a repeated one is no failure.

    A late request arrives at the end, after newer commits, and has no effect any more.
    """
    backend = EtcdBackend()
    rig = Rig(backend=backend)
    network, sent = backend.lab.networks[0], 0

    def fates(path: str) -> Fate:
        nonlocal sent
        sent += 1
        return fate if sent == nth else "answered"

    network.fates, network._lateness = fates, lambda: 1000
    went = await history(rig, 6)
    assert went == [n != nth or fate == "repeated" for n in range(1, 7)]
    assert await rig.encryptor.flush()
    network.deliver_all()
    assert backend.records() == rig.journal.records
    assert rig.confirm(b"label 6") == FLUSHED
    assert rig.power_cut().objects() == rig.objects() == {b"label 5": b"data", b"label 6": b"data"}
    assert rig.kinds == ([] if fate == "repeated" else ["io", None])


async def test_everything_of_a_failed_flush_is_tried_again() -> None:
    """R-23: After a failed flush, the next one writes all of it: partitions, a profile, the system record."""
    rig = Rig(3, plan=[NvramFault("full")])
    rig.encryptor.system_changed(rig.system)
    rig.write(b"label")
    rig.write(b"label", n=1)
    rig.changed(2)
    assert not await rig.encryptor.flush()
    assert (rig.journal.journal, rig.encryptor.pending) == ([], True)
    assert await rig.encryptor.flush()
    assert len(rig.journal.journal[0]) == 5
    assert [each.objects() for each in (rig.power_cut(),)] == [{b"label": b"data"}]


async def test_the_newest_system_record_wins() -> None:
    """R-23: A newer system record is written, not the one of the failed commit."""
    rig = Rig(0, plan=[NvramFault("io")])
    rig.encryptor.system_changed(rig.system)
    assert not await rig.encryptor.flush()
    rig.system.total_kbytes = 99
    rig.encryptor.system_changed(rig.system)
    assert await rig.encryptor.flush()
    assert open_system(rig.sealer, rig.journal.records["system"]).total_kbytes == 99


def test_a_system_record_that_changes_during_a_failed_flight_stays_dirty() -> None:
    """R-23: If the system record changes during a failed flight, it stays dirty."""
    rig, book = Rig(), Book()
    book.add(rig.partition(), 1.0)
    book.take()
    seal = lambda sealer: b""  # noqa: E731
    book.add_own("system", seal, 2.0)
    book.put_back()
    batch = book.take()
    assert (batch.own, list(batch.snapshots), batch.since) == ({"system": seal}, [1], 1.0)


class Watch(InlineWorker):
    """Records the time of each attempt to commit."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def start(self, job: Job, landed: Landed) -> None:
        self.times.append(trio.current_time())
        super().start(job, landed)


async def test_tries_come_later_and_later(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """R-23: Pauses between attempts double up to five seconds. After a success they begin at 50 ms again."""
    watch = Watch()
    rig = Rig(worker=watch)
    rig.nvram.set_faults(NvramFault("full", times=None))
    await nursery.start(rig.encryptor.run)
    rig.write(b"label")
    await trio.sleep(60)
    pauses = [round(later - earlier, 3) for earlier, later in zip(watch.times, watch.times[1:], strict=False)]
    assert pauses == sorted(pauses)
    assert FIRST_RETRY <= pauses[0] < 3 * FIRST_RETRY
    assert LAST_RETRY <= pauses[-1] < 1.1 * LAST_RETRY
    assert 12 < len(watch.times) < 25
    assert len(rig.told) == rig.encryptor.health.failures == len(watch.times)
    rig.nvram.set_faults()
    await trio.sleep(6)
    assert rig.confirm(b"label") == FLUSHED
    rig.nvram.set_faults(NvramFault("full", times=None))
    rig.write(b"another")
    tried = len(watch.times)
    await trio.sleep(0.5)
    assert len(watch.times) >= tried + 3


@pytest.mark.parametrize(
    "confirmed,times", [(True, [0.0, 0.05]), (False, [0.05, 0.15])], ids=["a CONFIRM waits", "no CONFIRM"]
)
async def test_a_waiting_confirm_hurries_after_a_failure_too(
    confirmed: bool, times: list[float], autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """R-20, R-23: With a CONFIRM, the retry comes after the pause of 50 ms.

    Without one, the retry also waits for other changes.
    """
    watch = Watch()
    rig = Rig(2, worker=watch, plan=[NvramFault("full")])
    await nursery.start(rig.encryptor.run)
    rig.write(b"label", n=1)
    rig.write(b"label")
    if confirmed:
        rig.confirm(b"label")
    await trio.sleep(1)
    assert watch.times == pytest.approx(times)
    assert (rig.confirm(b"label"), rig.confirm(b"label", n=1)) == (FLUSHED, FLUSHED)


async def test_pauses_double_from_50_ms_to_five_seconds(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """R-23: Each pause is twice the one before. A CONFIRM waits, so nothing else delays the attempts."""
    watch = Watch()
    rig = Rig(worker=watch)
    rig.nvram.set_faults(NvramFault("full", times=None))
    await nursery.start(rig.encryptor.run)
    rig.write(b"label")
    rig.confirm(b"label")
    await trio.sleep(18)
    pauses = [later - earlier for earlier, later in zip(watch.times, watch.times[1:], strict=False)]
    assert pauses == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])


async def test_changes_go_on_while_nvram_is_away(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """R-23: While NVRAM fails, the guest reads and writes, and CONFIRM returns 0. Later all is durable."""
    rig = Rig()
    rig.nvram.set_faults(NvramFault("io", times=None))
    await nursery.start(rig.encryptor.run)
    for n in range(1, 30):
        step(rig, n)
        assert rig.guests[0].read(3, b"label %d" % n).status == 0
        assert rig.confirm(b"label %d" % n) == PENDING
        await trio.sleep(0.3)
    assert rig.journal.journal == []
    rig.nvram.set_faults()
    await trio.sleep(2 * LAST_RETRY)
    assert rig.confirm(b"label 29") == FLUSHED
    assert rig.confirm(b"label 3") == GONE
    assert rig.power_cut().objects() == rig.objects()
    assert len(rig.journal.journal) == 1


async def test_health_tells_the_whole_story(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    """R-23: Health has each state from idle to retrying, the number of pending changes and their age."""
    worker = ParkedWorker()
    rig = Rig(2, worker=worker, plan=[NvramFault("full")])
    encryptor = rig.encryptor
    story: list[tuple[object, ...]] = []

    def look() -> None:
        health = encryptor.health
        story.append((health.state, health.ok, health.pending, health.oldest_pending))

    look()
    rig.write(b"label")
    mock_clock.jump(1)
    rig.write(b"label", n=1)
    look()
    nursery.start_soon(encryptor.flush)
    await wait_all_tasks_blocked()
    look()
    mock_clock.jump(STALL + 1)
    look()
    rig.write(b"another")
    look()
    worker.let_go()
    await wait_all_tasks_blocked()
    look()
    assert encryptor.health.last_error == "NVRAM: full (a planned fault)"
    nursery.start_soon(encryptor.flush)
    await wait_all_tasks_blocked()
    look()
    worker.let_go()
    await wait_all_tasks_blocked()
    look()
    assert story == [
        ("idle", True, 0, 0.0),
        ("waiting", True, 2, 1.0),
        ("flushing", True, 2, 1.0),
        ("stalled", False, 2, STALL + 2),
        ("stalled", False, 2, STALL + 2),
        ("retrying", False, 2, STALL + 2),
        ("retrying", False, 2, STALL + 2),
        ("idle", True, 0, 0.0),
    ]
    health = encryptor.health
    assert (health.commits, health.failures) == (1, 1)
    assert health._replace(last_error=None) == health


async def test_a_commit_stalls_after_two_seconds(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    """R-23: A commit of more than two seconds is stalled, and health is not good."""
    rig = Rig(worker=ParkedWorker())
    rig.write(b"label")
    # A change may wait long for its flush. That is no stall.
    mock_clock.jump(60)
    nursery.start_soon(rig.encryptor.flush)
    await wait_all_tasks_blocked()
    mock_clock.jump(2.0)
    assert (rig.encryptor.health.state, rig.encryptor.health.ok) == ("flushing", True)
    mock_clock.jump(0.001)
    assert (rig.encryptor.health.state, rig.encryptor.health.ok) == ("stalled", False)
    nursery.cancel_scope.cancel()


async def test_a_stall_ends_by_itself(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    """R-23: When a stalled commit ends, its change is durable. No second commit is made."""
    worker = ParkedWorker()
    rig = Rig(worker=worker)
    await nursery.start(rig.encryptor.run)
    rig.write(b"label")
    rig.confirm(b"label")
    await wait_all_tasks_blocked()
    mock_clock.jump(60)
    await wait_all_tasks_blocked()
    assert (rig.encryptor.health.state, rig.confirm(b"label")) == ("stalled", PENDING)
    worker.let_go()
    await wait_all_tasks_blocked()
    assert (rig.encryptor.health.state, rig.confirm(b"label")) == ("idle", FLUSHED)
    assert rig.journal.commits == 1


def keep(job: Job) -> None:
    """Do nothing: the cancelled commit did not take effect."""


def do(job: Job) -> None:
    """Run the job: the cancelled commit took effect without a report."""
    job()


@pytest.mark.parametrize("fate", [keep, do])
async def test_a_cancelled_flush_keeps_things_dirty(fate: Callable[[Job], None]) -> None:
    """R-21, R-23: After a cancelled flush its changes are pending: they may not be in NVRAM."""
    worker = ParkedWorker()
    rig = Rig(2, worker=worker)
    rig.encryptor.system_changed(rig.system)
    rig.write(b"label")
    rig.changed(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.encryptor.flush)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    fate(worker.jobs[0])
    assert rig.encryptor.pending
    assert rig.encryptor.health.pending == 2
    assert rig.confirm(b"label") == PENDING
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.encryptor.flush)
        await wait_all_tasks_blocked()
        worker.let_go()
    assert rig.confirm(b"label") == FLUSHED
    assert len(rig.journal.records) == 4
    assert not rig.encryptor.pending


async def test_a_cancelled_pause_loses_nothing(autojump_clock: MockClock) -> None:
    """R-23: If `run` is cancelled in a pause, no change is lost. A later flush can store all."""
    rig = Rig(plan=[NvramFault("busy")])
    rig.write(b"label")
    with trio.move_on_after(FIRST_RETRY * 1.5):
        await rig.encryptor.run()
    assert (rig.encryptor.health.failures, rig.encryptor.pending) == (1, True)
    assert await rig.encryptor.flush()
    assert rig.power_cut().objects() == {b"label": b"data"}


async def test_trouble_is_told_once_it_is_over() -> None:
    """R-23: Each failure is reported with its error, and the recovery once as None.

    A success without an earlier failure is not reported.
    """
    rig = Rig()
    troubles: list[Trouble | None] = [None, "full", "io", None, None, "busy", None]
    for trouble in troubles:
        if trouble:
            rig.nvram.set_faults(NvramFault(trouble, times=None))
        else:
            rig.nvram.set_faults()
        rig.write(b"label %d" % len(rig.objects()))
        await rig.encryptor.flush()
    assert rig.kinds == ["full", "io", None, "busy", None]
    assert all(error.fault is Fault.STORAGE for error in rig.told if error)
