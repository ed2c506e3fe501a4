"""Snapshots of the in-process fixtures: a test sets a partition up once, and returns to that state."""

from typing import Any

import pytest

import swpks
from hcall_abi.errors import OperatorError
from hcall_abi.mistakes import WrongType, WrongValue
from swpks.testing import blocking_partition
from swpks.testing.snapshots import NoSnapshot

OS = swpks.Authorization(3)
TRANSIENT = swpks.Policy.TRANSIENT


def test_a_case_leaves_nothing_behind(pks_partition_sync):
    """R-74: objects, TRANSIENT objects, password and labels are as in the snapshot; the session goes on."""
    channel = pks_partition_sync.channel
    owner = channel.call(swpks.gen_password(OS.consumer, 32))
    channel.call(swpks.write_object(owner, b"kept", b"data"))
    channel.call(swpks.write_object(owner, b"transient", b"volatile", TRANSIENT))
    snapshot = pks_partition_sync.snapshot()
    for _ in range(2):
        channel.call(swpks.remove_object(owner, b"kept"))
        channel.call(swpks.remove_object(owner, b"transient"))
        channel.call(swpks.write_object(owner, b"new", b"data"))
        pks_partition_sync.restore(snapshot)
        assert channel.call(swpks.get_object_labels(owner)).labels == (b"kept", b"transient")
        assert channel.call(swpks.read_object(owner, b"transient")).data == b"volatile"
        with pytest.raises(swpks.HcallError):
            channel.call(swpks.read_object(OS, b"kept"))  # without the password
    assert b"volatile" not in repr(snapshot).encode()
    assert owner.password not in repr(snapshot).encode()


def test_an_ipl_between(pks_partition_sync):
    """R-74: passwords, mode and attributes come back after an IPL, and the IPL count does not."""
    owner = pks_partition_sync.channel.call(swpks.gen_password(OS.consumer, 32))
    pks_partition_sync.snapshot()
    channel = pks_partition_sync.ipl("enforce")
    count = pks_partition_sync.partition.ipl_count
    pks_partition_sync.restore()
    assert channel.call(swpks.get_object_labels(owner)).labels == ()
    assert pks_partition_sync.partition.ipl_count == count
    assert pks_partition_sync.partition.secure_boot == swpks.SecureBoot.OFF
    pks_partition_sync.ipl()
    assert pks_partition_sync.partition.secure_boot == swpks.SecureBoot.OFF


@pytest.mark.pks_partition(flush_delay=60.0)
async def test_a_confirmed_object_is_pending_again(pks_partition):
    """R-20, R-74: NVRAM gets the restored contents as a new generation; until then CONFIRM says "not yet"."""
    call = pks_partition.channel.call
    await call(swpks.write_object(OS, b"kept", b"data"))
    assert await pks_partition.flush()
    assert (await call(swpks.confirm_object_flushed(OS, b"kept"))).flushed
    snapshot, before = pks_partition.snapshot(), pks_partition.partition.profile.image_generation
    await call(swpks.remove_object(OS, b"kept"))
    assert await pks_partition.flush()
    pks_partition.restore(snapshot)
    assert pks_partition.partition.profile.image_generation > before + 1
    assert not (await call(swpks.confirm_object_flushed(OS, b"kept"))).flushed
    assert await pks_partition.flush()
    assert (await call(swpks.confirm_object_flushed(OS, b"kept"))).flushed
    commits = pks_partition.nvram.commits
    assert await pks_partition.flush()
    assert pks_partition.nvram.commits == commits  # nothing is left to store


@pytest.mark.pks_partition(kbytes=0)
def test_a_keystore_that_was_off(pks_partition_sync):
    """R-74: the size of the keystore comes back too, in both directions."""
    it = pks_partition_sync
    off = it.snapshot()
    it.power_off()
    it.run(lambda: it.machine.set_attributes("lpar1", {"keystore_kbytes": 8}))
    it.ipl()
    it.channel.call(swpks.write_object(OS, b"label", b"data"))
    on = it.snapshot()
    it.restore(off)
    with pytest.raises(swpks.HcallError):
        it.channel.call(swpks.read_object(OS, b"label"))
    it.restore(on)
    assert it.channel.call(swpks.read_object(OS, b"label")).data == b"data"
    assert it.channel.limits().total_size == 8192


def test_mistakes(pks_partition_sync):
    """R-74: each wrong use names the mistake and the remedy in one line."""
    wrong: Any = "monday"
    with pytest.raises(NoSnapshot, match=r"write snapshot\(\) before it"):
        pks_partition_sync.restore()
    with pytest.raises(WrongType, match=r"not str: write restore\(snapshot\)"):
        pks_partition_sync.restore(wrong)
    with blocking_partition("other") as other:
        foreign = other.snapshot()
    with pytest.raises(WrongValue, match="the snapshot is of another partition than lpar1"):
        pks_partition_sync.restore(foreign)
    snapshot = pks_partition_sync.snapshot()
    pks_partition_sync.power_off()
    with pytest.raises(OperatorError, match=r"lpar1 is powered off; write ipl\(\) first"):
        pks_partition_sync.restore(snapshot)
    with pytest.raises(OperatorError, match=r"write ipl\(\) first"):
        pks_partition_sync.snapshot()
    with pytest.raises(RuntimeError, match="not served any more"):
        other.restore(foreign)


async def test_a_partition_that_moves(pks_partition):
    """R-74: a held partition is neither saved nor restored."""
    snapshot, (machine, partition) = (
        pks_partition.snapshot(),
        (pks_partition.machine, pks_partition.partition),
    )
    machine.holds.begin(partition)
    with pytest.raises(OperatorError, match="takes part in a migration; wait for the end of its job"):
        pks_partition.restore(snapshot)
    machine.holds.end(partition)
    pks_partition.restore(snapshot)
