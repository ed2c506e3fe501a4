"""The encryptor while NVRAM works: shared commits, early flushes, and what a commit contains."""

import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from hcall_server.nvram.names import COMMIT, SYSTEM, partition_name
from hcall_server.sealing import SystemRecord, open_partition, open_system
from hcall_server.writeback.encryptor import DEFAULT_DELAY
from tests.writeback.rig import FLUSHED, GONE, PENDING, Rig
from tests.writeback.workers import ParkedWorker

TRANSIENT = 0x0200_0000
CANARY = b"canary canary canary canary"


def record_of(rig: Rig, n: int = 0) -> str:
    return partition_name(rig.partition(n).profile.uuid)


async def test_changes_of_many_partitions_are_one_commit(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """R-20: Changes of several partitions wait a short time and form one commit with one record for each."""
    rig = Rig(20)
    await nursery.start(rig.encryptor.run)
    for n in range(20):
        rig.write(b"label", n=n)
    await trio.sleep(DEFAULT_DELAY * 0.9)
    assert rig.journal.journal == []
    await trio.sleep(DEFAULT_DELAY * 0.2)
    assert [set(changes) for changes in rig.journal.journal] == [
        {COMMIT, *(record_of(rig, n) for n in range(20))}
    ]
    assert not any(rig.store(n).contents.dirty for n in range(20))


async def test_a_waiting_confirm_hurries(mock_clock: MockClock, nursery: trio.Nursery) -> None:
    """R-20: A pending CONFIRM starts the flush at once, so no time passes before it."""
    rig = Rig(2)
    await nursery.start(rig.encryptor.run)
    rig.write(b"label")
    rig.write(b"label", n=1)
    await wait_all_tasks_blocked()
    assert rig.journal.commits == 0
    assert rig.confirm(b"label") == PENDING
    await wait_all_tasks_blocked()
    assert (rig.confirm(b"label"), rig.confirm(b"label", n=1)) == (FLUSHED, FLUSHED)
    assert (rig.journal.commits, trio.current_time()) == (1, 0.0)


async def test_confirm_says_0_then_1() -> None:
    """R-20: CONFIRM returns 0 and then 1. For a removal it ends with H_NOT_FOUND and 1."""
    rig = Rig()
    rig.write(b"label")
    assert rig.confirm(b"label") == PENDING
    assert await rig.encryptor.flush()
    assert rig.confirm(b"label") == FLUSHED
    rig.remove(b"label")
    assert rig.confirm(b"label") == PENDING
    assert await rig.encryptor.flush()
    assert rig.confirm(b"label") == GONE


async def test_nothing_is_flushed_before_its_commit_returns(nursery: trio.Nursery) -> None:
    """R-21: During its commit a change does not count as flushed, however often the guest polls."""
    worker = ParkedWorker()
    rig = Rig(worker=worker)
    rig.write(b"label")
    nursery.start_soon(rig.encryptor.flush)
    await wait_all_tasks_blocked()
    assert len(worker.jobs) == 1
    assert [rig.confirm(b"label") for _ in range(3)] == [PENDING] * 3
    worker.let_go()
    await wait_all_tasks_blocked()
    assert rig.confirm(b"label") == FLUSHED


async def test_asking_during_a_commit_costs_no_second_one(nursery: trio.Nursery) -> None:
    """R-20: A CONFIRM during a commit that contains its change causes no second commit."""
    worker = ParkedWorker()
    rig = Rig(worker=worker)
    await nursery.start(rig.encryptor.run)
    rig.write(b"label")
    rig.confirm(b"label")
    await wait_all_tasks_blocked()
    assert [rig.confirm(b"label") for _ in range(3)] == [PENDING] * 3
    worker.let_go()
    await wait_all_tasks_blocked()
    assert rig.confirm(b"label") == FLUSHED
    assert (len(worker.jobs), rig.encryptor.pending) == (1, False)


async def test_a_change_during_a_commit_takes_the_next_one(nursery: trio.Nursery) -> None:
    """R-20: A change during a commit stays pending, because it is not in the sealed image.

    The next commit contains it.
    """
    worker = ParkedWorker()
    rig = Rig(worker=worker)
    rig.write(b"first")
    nursery.start_soon(rig.encryptor.flush)
    await wait_all_tasks_blocked()
    rig.write(b"second")
    rig.remove(b"first")
    worker.let_go()
    await wait_all_tasks_blocked()
    assert (rig.confirm(b"first"), rig.confirm(b"second")) == (PENDING, PENDING)
    assert rig.power_cut().objects() == {b"first": b"data"}
    nursery.start_soon(rig.encryptor.flush)
    await wait_all_tasks_blocked()
    worker.let_go()
    await wait_all_tasks_blocked()
    assert (rig.confirm(b"first"), rig.confirm(b"second")) == (GONE, FLUSHED)
    assert rig.power_cut().objects() == {b"second": b"data"}


async def test_a_profile_that_changes_during_a_commit_takes_the_next_one(nursery: trio.Nursery) -> None:
    """R-20: An IPL during a commit changes the profile, so the next commit stores its count."""
    worker = ParkedWorker()
    rig = Rig(worker=worker)
    rig.write(b"label")
    nursery.start_soon(rig.encryptor.flush)
    await wait_all_tasks_blocked()
    rig.guests[0].ipl()
    rig.changed()
    worker.let_go()
    await wait_all_tasks_blocked()
    assert rig.encryptor.pending
    nursery.start_soon(rig.encryptor.flush)
    await wait_all_tasks_blocked()
    worker.let_go()
    await wait_all_tasks_blocked()
    assert rig.power_cut().partition().ipl_count == rig.partition().ipl_count + 1


async def test_transient_objects_never_reach_nvram() -> None:
    """R-14: A transient object is in no committed image, and causes no commit."""
    rig = Rig()
    rig.write(b"transient", policy=TRANSIENT)
    assert await rig.encryptor.flush()
    assert rig.journal.journal == []
    for n in range(4):
        rig.write(b"label %d" % n)
        rig.write(b"transient %d" % n, policy=TRANSIENT)
        assert await rig.encryptor.flush()
    images = list(rig.journal.images())
    assert [len(image.objects) for image in images] == [1, 2, 3, 4]
    assert not any(held.policy & TRANSIENT for image in images for held in image.objects)
    assert rig.power_cut().objects() == {b"label %d" % n: b"data" for n in range(4)}


async def test_what_is_at_rest_is_sealed_anew_each_time() -> None:
    """R-02, R-04: Data, label and password are encrypted, and each commit writes another blob."""
    rig = Rig()
    rig.guests[0].set_password(2, CANARY)
    rig.write(CANARY + b" label", CANARY * 9)
    for _ in range(3):
        rig.changed()
        assert await rig.encryptor.flush()
    blobs = [blob for changes in rig.journal.journal for blob in changes.values() if blob]
    assert len(set(blobs)) == len(blobs) == 6
    assert not any(CANARY in blob or b"lpar1" in blob for blob in blobs)


async def test_a_partition_without_a_keystore_has_a_profile_alone() -> None:
    """R-30: Of a partition without a keystore, only the profile is stored. There is no image."""
    rig = Rig(1, kbytes=0)
    rig.changed()
    assert await rig.encryptor.flush()
    assert rig.journal.journal[0].keys() == {record_of(rig), COMMIT}
    found = open_partition(rig.sealer, rig.partition().profile.uuid, rig.journal.records[record_of(rig)])
    assert found == (rig.partition().profile, None)


async def test_disabling_deletes_the_image() -> None:
    """R-33: After a keystore is disabled and flushed, NVRAM has no image of it."""
    rig = Rig()
    rig.write(b"label")
    assert await rig.encryptor.flush()
    rig.remove(b"label")
    rig.system.set_attributes("lpar1", {"keystore_kbytes": 0})
    rig.changed()
    assert await rig.encryptor.flush()
    uuid = rig.partition().profile.uuid
    assert open_partition(rig.sealer, uuid, rig.journal.records[record_of(rig)]).image is None
    assert rig.power_cut().partition().keystore is None


async def test_a_store_that_was_enabled_again_does_not_inherit_the_flush(nursery: trio.Nursery) -> None:
    """R-21, R-33: A commit of the old store confirms no object of the store that was enabled after it."""
    worker = ParkedWorker()
    rig = Rig(worker=worker)
    for label in (b"one", b"two"):
        rig.write(label)
    nursery.start_soon(rig.encryptor.flush)
    await wait_all_tasks_blocked()
    for label in (b"one", b"two"):
        rig.remove(label)
    rig.system.set_attributes("lpar1", {"keystore_kbytes": 0})
    rig.system.power_off("lpar1")
    rig.system.set_attributes("lpar1", {"keystore_kbytes": 8})
    rig.system.power_on("lpar1")
    rig.changed()
    rig.write(b"new")
    worker.let_go()
    await wait_all_tasks_blocked()
    assert rig.confirm(b"new") == PENDING
    nursery.start_soon(rig.encryptor.flush)
    await wait_all_tasks_blocked()
    worker.let_go()
    await wait_all_tasks_blocked()
    assert rig.confirm(b"new") == FLUSHED
    assert rig.power_cut().objects() == {b"new": b"data"}


async def test_the_systems_record_goes_with_the_partitions() -> None:
    """R-20: One commit contains all that is dirty: partitions and the system record."""
    rig = Rig()
    rig.encryptor.system_changed(rig.system)
    rig.write(b"label")
    assert await rig.encryptor.flush()
    assert [set(changes) for changes in rig.journal.journal] == [{SYSTEM, COMMIT, record_of(rig)}]
    assert open_system(rig.sealer, rig.journal.records[SYSTEM]) == SystemRecord.of(rig.system)


async def test_nothing_to_do_is_no_commit() -> None:
    """R-20: If nothing is dirty, a flush does not call NVRAM."""
    rig = Rig(3)
    # Even with nothing to do, the flush lets other tasks run.
    with assert_checkpoints():
        assert await rig.encryptor.flush()
    assert (rig.nvram.counts["commit"], rig.encryptor.health.state) == (0, "idle")


async def test_flushes_take_turns(nursery: trio.Nursery) -> None:
    """R-22: A second flush waits for the first, so an older image never replaces a newer one."""
    worker = ParkedWorker()
    rig = Rig(worker=worker)
    rig.write(b"first")
    nursery.start_soon(rig.encryptor.flush)
    await wait_all_tasks_blocked()
    rig.write(b"second")
    nursery.start_soon(rig.encryptor.flush)
    await wait_all_tasks_blocked()
    assert len(worker.jobs) == 1
    for _ in range(2):
        worker.let_go()
        await wait_all_tasks_blocked()
    assert [len(image.objects) for image in rig.journal.images()] == [1, 2]


async def test_every_consumers_objects_come_back() -> None:
    """R-01, R-03, R-20: After a power cut, each partition and consumer has its own objects."""
    rig = Rig(3)
    for n, guest in enumerate(rig.guests):
        for consumer in (1, 2, 3):
            guest.write(consumer, b"label", b"%d of %d" % (consumer, n), policy=0x0800_0000)
    rig.changed()
    assert await rig.encryptor.flush()
    for n, guest in enumerate(rig.power_cut().guests):
        for consumer in (1, 2, 3):
            assert guest.read(consumer, b"label") == (0, 6, 0x0800_0000, b"%d of %d" % (consumer, n))
            assert guest.confirm(consumer, b"label")[:2] == FLUSHED


async def test_a_flush_with_nothing_to_do_does_not_deafen_the_encryptor(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """R-20: After a flush with nothing to do, a change is flushed as usual."""
    rig = Rig()
    await nursery.start(rig.encryptor.run)
    await wait_all_tasks_blocked()
    assert await rig.encryptor.flush()
    rig.write(b"label")
    await trio.sleep(DEFAULT_DELAY * 2)
    assert not rig.store().contents.dirty


async def test_the_systems_record_is_flushed_without_any_partition(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    """R-20: A changed system record is pending, and is flushed although no partition is dirty."""
    rig = Rig(0)
    rig.system.total_kbytes = 99
    await nursery.start(rig.encryptor.run)
    await trio.sleep(5)
    assert (rig.journal.journal, rig.encryptor.pending) == ([], False)
    rig.encryptor.system_changed(rig.system)
    assert (rig.encryptor.pending, rig.encryptor.health.state) == (True, "waiting")
    await trio.sleep(DEFAULT_DELAY * 0.9)
    assert rig.journal.journal == []
    await trio.sleep(DEFAULT_DELAY * 0.2)
    assert (rig.encryptor.pending, rig.encryptor.health.state) == (False, "idle")
    assert [set(changes) for changes in rig.journal.journal] == [{SYSTEM, COMMIT}]
    assert open_system(rig.sealer, rig.journal.records[SYSTEM]).total_kbytes == 99
