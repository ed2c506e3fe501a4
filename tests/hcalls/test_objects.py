"""WRITE, READ and REMOVE: sizes at their limits, space, labels, and the registers of a refusal."""

import pytest

from hcall_abi.levels import KEYSTORE_LEVELS
from tests.guest import CONSUMERS, FIRMWARE, OVERHEAD, SYSTEM, Answer, Guest, console_sets, make_partition

H_NOT_FOUND, H_NO_MEM, H_RESOURCE, H_TOO_BIG = -7, -9, -16, -64
H_P3, H_P6 = -56, -59
KIB = 1024


def test_an_object_is_written_read_and_removed() -> None:
    """R-07, R-08: An object is written, read, removed and written again, each with its status."""
    guest = Guest(make_partition())
    assert guest.read(SYSTEM, b"label") == Answer(H_NOT_FOUND)
    assert guest.write(SYSTEM, b"label", b"data") == Answer(0)
    assert guest.write(SYSTEM, b"label", b"other") == Answer(H_RESOURCE)
    assert guest.read(SYSTEM, b"label") == Answer(0, 4, 0, b"data")
    assert guest.remove(SYSTEM, b"label") == Answer(0)
    assert guest.remove(SYSTEM, b"label") == Answer(H_NOT_FOUND)
    assert guest.read(SYSTEM, b"label") == Answer(H_NOT_FOUND)
    assert guest.write(SYSTEM, b"label", b"other") == Answer(0)
    assert guest.read(SYSTEM, b"label") == Answer(0, 5, 0, b"other")


def test_each_consumer_has_its_own_names() -> None:
    """R-03: Three consumers can each have an object with the same label, and remove only their own."""
    guest = Guest(make_partition())
    for consumer in CONSUMERS:
        assert guest.write(consumer, b"label", b"of %d" % consumer) == Answer(0)
    assert guest.remove(2, b"label") == Answer(0)
    assert guest.read(1, b"label").written == b"of 1"
    assert guest.read(2, b"label") == Answer(H_NOT_FOUND)
    assert guest.read(3, b"label").written == b"of 3"


@pytest.mark.parametrize("length,status", [(0, H_P3), (1, 0), (255, 0), (256, H_P3)])
def test_labels_have_1_to_255_bytes(length: int, status: int) -> None:
    """R-07: Every call with a label refuses 0 and 256 bytes, and accepts 1 and 255."""
    guest, label = Guest(make_partition()), b"\xff" * length
    assert guest.write(SYSTEM, label, b"data").status == status
    assert guest.read(SYSTEM, label).status == status
    assert guest.confirm(SYSTEM, label).status == status
    assert guest.remove(SYSTEM, label).status == status


def test_labels_are_bytes() -> None:
    """R-07: Labels are bytes: zeros, common prefixes and bytes that are no text make different labels."""
    guest = Guest(make_partition())
    labels = [b"\0", b"\0\0", b"a", b"a\0", b"A", b"P\0K\0", b"\xff\xfe", "é".encode()]
    for n, label in enumerate(labels):
        assert guest.write(SYSTEM, label, b"%d" % n) == Answer(0)
    assert [guest.read(SYSTEM, label).written for label in labels] == [b"%d" % n for n in range(len(labels))]


def test_data_comes_back_byte_for_byte() -> None:
    """R-07: READ returns the written bytes, of every value and of odd lengths."""
    guest = Guest(make_partition("FW1110", 128))
    for length in (1, 63, 4000, 4096, 65535):
        data = (bytes(range(256)) * 256)[-length:]
        assert guest.write(SYSTEM, b"label", data) == Answer(0)
        assert guest.read(SYSTEM, b"label", room=65535) == Answer(0, length, 0, data)
        guest.remove(SYSTEM, b"label")


@pytest.mark.parametrize(
    "level,kbytes,longest",
    [("FW950", 4, 4 * KIB), ("FW950", 64, 0xFFFF), ("FW1110", 4, 128 * KIB), ("FW1110", 128, 128 * KIB)],
)
def test_the_largest_object(level: str, kbytes: int, longest: int) -> None:
    """R-07, R-74: Up to the level's limit an object must fit into the store. Above it, H_P6 is returned."""
    guest = Guest(make_partition(level, kbytes))
    fits = min(longest, kbytes * KIB - OVERHEAD - 1)
    assert guest.write(SYSTEM, b"l", bytes(longest + 1)) == Answer(H_P6)
    if fits < longest:
        assert guest.write(SYSTEM, b"l", bytes(longest)) == Answer(H_NO_MEM)
    assert guest.write(SYSTEM, b"l", bytes(fits)) == Answer(0)
    assert guest.read(SYSTEM, b"l", room=fits).r4 == fits


@pytest.mark.parametrize("level", KEYSTORE_LEVELS)
@pytest.mark.parametrize("label", [b"l", b"l" * 255])
def test_no_memory_exactly_at_the_boundary(level: str, label: bytes) -> None:
    """R-07: The last free byte of the store can be used, but no byte more. A refused WRITE uses no space."""
    room = 4 * KIB - len(label) - OVERHEAD
    guest = Guest(make_partition(level, 4))
    assert guest.write(SYSTEM, label, bytes(room + 1)) == Answer(H_NO_MEM)
    assert guest.config().used == 0
    assert guest.write(SYSTEM, label, bytes(room)) == Answer(0)
    assert guest.config().used == guest.config().total == 4 * KIB
    assert guest.write(FIRMWARE, b"x", b"y") == Answer(H_NO_MEM)
    assert guest.remove(SYSTEM, label) == Answer(0)
    assert guest.write(FIRMWARE, b"x", b"y") == Answer(0)


def test_space_is_shared_by_the_consumers_and_counts_transient_objects() -> None:
    """R-07: Used space counts label, data and overhead of each object, of any owner and also if transient."""
    guest, used = Guest(make_partition("FW1110", 4)), 0
    for consumer in CONSUMERS:
        for policy in (0, 0x0200_0000, 0x0400_0000):
            label, data = b"%d %x" % (consumer, policy), bytes(consumer * 100)
            assert guest.write(consumer, label, data, policy=policy) == Answer(0)
            used += len(label) + len(data) + OVERHEAD
            assert guest.config().used == used


@pytest.mark.parametrize("policy", [0, 0x0800_0000, 0x4800_0000])
@pytest.mark.parametrize("room,status", [(0, H_TOO_BIG), (9, H_TOO_BIG), (10, 0), (11, 0), (0xFFFF, 0)])
def test_a_buffer_too_small_is_told_the_size(policy: int, room: int, status: int) -> None:
    """R-07: If the buffer is too small, READ returns H_TOO_BIG, the size in r4 and the policy in r5.

    It copies no data.
    """
    guest = Guest(make_partition(mode=1))
    guest.write(SYSTEM, b"label", b"ten bytes.", policy=policy)
    written = b"" if status else b"ten bytes."
    assert guest.read(SYSTEM, b"label", room=room) == Answer(status, 10, policy, written)


def test_a_refused_read_tells_no_size() -> None:
    """R-10: READ of an unreadable object returns its policy and no size, whatever the buffer is."""
    guest = Guest(make_partition(mode=2))
    guest.write(SYSTEM, b"label", b"ten bytes.", policy=0x2000_0000)
    guest.ipl(mode=1)
    for room in (0, 10, 4096):
        assert guest.read(SYSTEM, b"label", room=room) == Answer(-10, 0, 0x2000_0000)


def test_reading_writes_the_object_and_nothing_beyond_it() -> None:
    """R-07: READ writes the object's bytes, and leaves the rest of a larger buffer unchanged."""
    guest = Guest(make_partition())
    guest.write(SYSTEM, b"label", b"data")
    assert guest.read(SYSTEM, b"label", room=4096).written == b"data"


def test_space_beyond_the_policy() -> None:
    """WRITE checks first whether the object exists, then the policy, then the space."""
    guest = Guest(make_partition("FW1110", 4))
    guest.write(SYSTEM, b"there", b"x")
    assert guest.write(SYSTEM, b"there", bytes(5000), policy=0x2000_0000) == Answer(H_RESOURCE)
    assert guest.write(SYSTEM, b"new", bytes(5000), policy=0x2000_0000) == Answer(-10)
    assert guest.write(SYSTEM, b"new", bytes(5000)) == Answer(H_NO_MEM)


def test_a_grown_store_has_more_room() -> None:
    """R-32: old objects stay, and the added space can be used."""
    guest = Guest(make_partition("FW1110", 4))
    guest.write(SYSTEM, b"label", bytes(4000))
    guest.partition.power_off()
    console_sets(guest.partition, {"keystore_kbytes": 5})
    guest.partition.power_on()
    config = guest.config()
    assert (config.total, config.used) == (5 * KIB, 4000 + 5 + OVERHEAD)
    assert guest.write(SYSTEM, b"more", bytes(1000)) == Answer(0)
    assert guest.write(SYSTEM, b"too much", bytes(1000)) == Answer(H_NO_MEM)
