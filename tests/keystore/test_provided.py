"""Objects that the hypervisor puts into a keystore: no space, no NVRAM, no change by guests (R-16)."""

from hcall_abi.consumers import Consumer
from tests.guest import FIRMWARE, OVERHEAD, SYSTEM, Answer, Guest, make_partition

WORLD, HVPROVISIONED = 0x0800_0000, 0x8
LABEL = b"SB_VERSION"


def provided(guest: Guest | None = None) -> Guest:
    """Return a guest in whose store the hypervisor has put an object of the firmware."""
    found = guest or Guest(make_partition())
    store = found.partition.keystore
    assert store is not None
    store.contents.provide(Consumer.FIRMWARE, LABEL, WORLD, b"\1")
    return found


def test_it_is_read_with_its_status_bit() -> None:
    """R-16: any consumer reads the hypervisor's object without a password. A policy bit marks it."""
    guest = provided()
    guest.set_password(FIRMWARE, b"its password")
    assert guest.read(FIRMWARE, LABEL) == Answer(0, 1, WORLD | HVPROVISIONED, b"\1")
    assert guest.read(SYSTEM, LABEL) == Answer(-7)
    assert guest.all_labels(FIRMWARE, password=b"its password") == [LABEL]


def test_no_guest_removes_or_overwrites_it() -> None:
    """R-16: no guest can remove or overwrite the hypervisor's object, not even its owner."""
    guest = provided()
    assert guest.remove(FIRMWARE, LABEL) == Answer(-10)
    assert guest.write(FIRMWARE, LABEL, b"\0") == Answer(-16)
    assert guest.read(FIRMWARE, LABEL).written == b"\1"


def test_it_takes_no_space_and_is_no_object_of_the_partition() -> None:
    """R-07, R-33: the hypervisor's object uses no space, even in a full store.

    A store that has only this object counts as empty.
    """
    guest = provided()
    store = guest.partition.keystore
    assert store is not None
    assert (guest.config().used, store.contents.object_count, store.contents.dirty) == (0, 0, False)
    full = Guest(make_partition(kbytes=4))
    assert full.write(SYSTEM, b"all", bytes(4096 - OVERHEAD - 3)) == Answer(0)
    assert provided(full).config().used == 4096


def test_it_never_reaches_nvram_and_ends_with_the_ipl() -> None:
    """R-16: the hypervisor's object is not stored in NVRAM, and ends with the IPL.

    CONFIRM does not wait for it.
    """
    guest = provided()
    store = guest.partition.keystore
    assert store is not None
    assert store.contents.snapshot().objects == ()
    assert guest.confirm(FIRMWARE, LABEL) == Answer(0, 1)
    guest.ipl()
    assert guest.read(FIRMWARE, LABEL) == Answer(-7)
    assert provided(guest).read(FIRMWARE, LABEL).status == 0


def test_an_object_of_the_guest_gives_way() -> None:
    """R-16: the hypervisor's object replaces a guest's object under its label, whose space becomes free."""
    guest = Guest(make_partition())
    guest.write(FIRMWARE, LABEL, b"\0" * 100)
    store = guest.partition.keystore
    assert store is not None
    store.contents.mark_flushed(store.contents.generation)
    provided(guest)
    assert guest.read(FIRMWARE, LABEL).written == b"\1"
    assert (guest.config().used, store.contents.object_count, store.contents.dirty) == (0, 0, True)
    assert guest.confirm(FIRMWARE, LABEL) == Answer(0, 0)
    provided(guest)
    store.contents.mark_flushed(store.contents.generation)
    assert guest.confirm(FIRMWARE, LABEL) == Answer(0, 1)
