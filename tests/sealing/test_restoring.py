"""A restored partition: its contents are those of the copy, and its counters never decrease."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcall_abi.consumers import Consumer
from hcall_abi.errors import StorageError
from hcall_abi.levels import FW1110
from hcall_abi.rules import backup as rules
from hcall_server.keystore.access import Credentials
from hcall_server.platform.custody import Custody
from hcall_server.platform.profile import LATCH
from hcall_server.platform.system import ManagedSystem
from hcall_server.sealing import PartitionRecord, decode_partition, encode_partition
from hcall_server.sealing.restoring import restored
from tests.sealing.samples import OFF, PROFILE, RECORD, records

LARGEST_GENERATION, LARGEST_COUNT = 2**64 - 1, 2**32 - 1
OS = Credentials(Consumer.OPERATING_SYSTEM, b"")
LARGEST_RESTORES = 2**32 - 1
generations, counts = st.integers(0, LARGEST_GENERATION), st.integers(0, LARGEST_COUNT)


def counters(record: PartitionRecord) -> tuple[int, int]:
    return record.profile.image_generation, record.profile.ipl_count


@given(records, generations, counts)
def test_counters_are_larger_than_any_before_or_refused(
    record: PartitionRecord, generation: int, ipl_count: int
) -> None:
    """Each counter of a restored record is one more than the largest known value.

    If that is the maximum, the restore is refused, so no counter wraps.
    """
    largest = max(record.profile.image_generation, generation), max(record.profile.ipl_count, ipl_count)
    last = record.profile.restores == LARGEST_RESTORES
    if largest[0] == LARGEST_GENERATION or largest[1] == LARGEST_COUNT or last:
        with pytest.raises(StorageError, match="no larger one is left for a restore") as caught:
            restored(record, generation, ipl_count)
        assert caught.value.rule is rules.COPY_COUNTERS
        return
    assert counters(restored(record, generation, ipl_count)) == (largest[0] + 1, largest[1] + 1)


@given(records, st.integers(0, LARGEST_GENERATION - 1), st.integers(0, LARGEST_COUNT - 1))
def test_everything_else_is_as_in_the_copy(record: PartitionRecord, generation: int, ipl_count: int) -> None:
    """All else is as in the copy: objects, attributes except the latch, names, numbers, access key."""
    profile = record.profile._replace(
        image_generation=min(record.profile.image_generation, LARGEST_GENERATION - 1),
        ipl_count=min(record.profile.ipl_count, LARGEST_COUNT - 1),
        restores=min(record.profile.restores, LARGEST_RESTORES - 1),
    )
    back = restored(PartitionRecord(profile, record.image), generation, ipl_count)
    now = back.profile.at_home
    profile = profile.at_home
    off = profile.attributes.with_numbers({LATCH: 0})
    assert now.restores == profile.restores + 1
    same = profile._replace(image_generation=now.image_generation, restores=now.restores)
    assert now == same._replace(attributes=off, ipl_count=now.ipl_count)
    if record.image is None:
        assert back.image is None
    else:
        assert back.image == record.image._replace(generation=now.image_generation)
    assert decode_partition(encode_partition(back), now.uuid, now.image_generation) == back


@given(st.integers(0, LARGEST_RESTORES), st.integers(0, LARGEST_RESTORES))
def test_restores_are_counted_like_the_others(stored: int, seen: int) -> None:
    """A restored record has one restore more than the copy or the present store, whichever has more.

    If that one is at the maximum, the restore is refused.
    """
    record = PartitionRecord(RECORD.profile._replace(restores=stored), RECORD.image)
    if max(stored, seen) == LARGEST_RESTORES:
        with pytest.raises(StorageError, match="count of restores of a partition is 4294967295") as caught:
            restored(record, 0, 0, seen)
        assert caught.value.rule is rules.COPY_COUNTERS
    else:
        assert restored(record, 0, 0, seen).profile.restores == max(stored, seen) + 1


def test_a_restore_of_a_restore_counts_on() -> None:
    """Two restores of one copy get different generations and different IPL counts."""
    one = restored(RECORD, 0, 0)
    two = restored(RECORD, *counters(one))
    assert (counters(one), counters(two)) == ((100, 4), (101, 5))


@pytest.mark.parametrize("record", [RECORD, OFF], ids=["on", "off"])
@pytest.mark.parametrize(
    "seen", [(LARGEST_GENERATION, 0), (0, LARGEST_COUNT)], ids=["generation", "IPL count"]
)
def test_a_counter_at_its_end_is_an_error(record: PartitionRecord, seen: tuple[int, int]) -> None:
    """If a counter is at its maximum, the restore is refused. One below the maximum is accepted."""
    largest = max(seen)
    with pytest.raises(StorageError, match=f"of a partition is {largest}, and no larger one is left"):
        restored(record, *seen)
    assert largest in counters(restored(record, *(max(0, number - 1) for number in seen)))


def test_custody_is_the_callers() -> None:
    """R-51: The caller passes the custody, epoch and peer of a restored partition.

    Those in the record have no effect. By default the custody is OWN, without epoch and peer.
    """
    moved = RECORD._replace(profile=PROFILE._replace(custody=Custody.RELEASED, epoch=3, peer=bytes(16)))
    assert restored(moved, 0, 0).profile[-2:] == (0, b"")
    assert restored(moved, 0, 0).profile.custody is Custody.OWN
    found = restored(RECORD, 0, 0, custody=Custody.ARRIVED, epoch=9, peer=b"p" * 16).profile
    assert (found.custody, found.epoch, found.peer) == (Custody.ARRIVED, 9, b"p" * 16)


def test_the_latch_is_off() -> None:
    """A restored partition has its latch off, so no update without verification is permitted."""
    armed = RECORD.profile._replace(attributes=RECORD.profile.attributes.with_numbers({LATCH: 1}))
    assert restored(PartitionRecord(armed, RECORD.image), 0, 0).profile.attributes.numbers[LATCH] == 0


def test_confirm_is_right_after_a_restore() -> None:
    """R-20: A restored store counts as flushed. Its next change is pending, in a new generation."""
    back = restored(RECORD, 500, 0)
    store = ManagedSystem(FW1110, bytes(16), os.urandom).adopt(back.profile, back.image).keystore
    assert store is not None
    contents = store.contents
    assert (contents.generation, contents.dirty) == (501, False)
    assert not contents.pending((3, b"label"))
    assert not contents.pending((3, b"an object of the days between"))
    store.objects.write(OS, b"new", 0, b"data")
    assert (contents.generation, contents.pending((3, b"new"))) == (502, True)
    assert not contents.pending((3, b"label"))
