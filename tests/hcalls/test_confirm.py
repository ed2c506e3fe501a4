"""CONFIRM_OBJECT_FLUSHED: objects that are pending, durable, removed, or never stored."""

import pytest

from hcall_server.keystore.contents import MAX_PENDING_REMOVALS
from hcall_server.keystore.store import Keystore
from tests.guest import SYSTEM, Answer, Guest, make_partition

PENDING, FLUSHED = Answer(0, 0), Answer(0, 1)
GONE = Answer(-7, 1)
TRANSIENT = 0x0200_0000


def store_of(guest: Guest) -> Keystore:
    store = guest.partition.keystore
    assert store is not None
    return store


def flush(guest: Guest) -> None:
    store = store_of(guest)
    store.contents.mark_flushed(store.contents.snapshot().generation)


def test_a_write_is_pending_until_it_is_flushed() -> None:
    """R-20: A new object can be read at once. CONFIRM returns 1 only when the object is durable."""
    guest = Guest(make_partition())
    guest.write(SYSTEM, b"label", b"data")
    assert guest.read(SYSTEM, b"label").status == 0
    assert guest.confirm(SYSTEM, b"label") == guest.confirm(SYSTEM, b"label") == PENDING
    flush(guest)
    assert guest.confirm(SYSTEM, b"label") == FLUSHED


def test_a_removal_is_pending_until_it_is_flushed() -> None:
    """R-20: After a removal CONFIRM returns 0 while it is pending, then H_NOT_FOUND with 1."""
    guest = Guest(make_partition())
    guest.write(SYSTEM, b"label", b"data")
    flush(guest)
    guest.remove(SYSTEM, b"label")
    assert guest.read(SYSTEM, b"label") == Answer(-7)
    assert guest.confirm(SYSTEM, b"label") == PENDING
    flush(guest)
    assert guest.confirm(SYSTEM, b"label") == GONE


def test_what_never_was_is_durably_absent() -> None:
    """R-20: For a label that never existed, CONFIRM returns H_NOT_FOUND with 1, whatever else is pending."""
    guest = Guest(make_partition())
    guest.write(SYSTEM, b"label", b"data")
    assert guest.confirm(SYSTEM, b"another") == GONE


def test_an_object_that_was_removed_before_any_flush_is_pending_too() -> None:
    """R-20: An object that was removed before any flush is pending: its WRITE may have reached NVRAM."""
    guest = Guest(make_partition())
    guest.write(SYSTEM, b"label", b"data")
    guest.remove(SYSTEM, b"label")
    assert guest.confirm(SYSTEM, b"label") == PENDING
    flush(guest)
    assert guest.confirm(SYSTEM, b"label") == GONE


def test_a_new_object_in_the_place_of_a_removed_one_is_pending() -> None:
    """R-20: If an object is removed and written again, a flush of the removal does not confirm the WRITE."""
    guest = Guest(make_partition())
    guest.write(SYSTEM, b"label", b"old")
    guest.remove(SYSTEM, b"label")
    after_removal = store_of(guest).contents.generation
    guest.write(SYSTEM, b"label", b"new")
    store_of(guest).contents.mark_flushed(after_removal)
    assert guest.confirm(SYSTEM, b"label") == PENDING
    flush(guest)
    assert guest.confirm(SYSTEM, b"label") == FLUSHED


def test_a_flush_covers_what_was_there_when_it_began() -> None:
    """R-20: A flush confirms the changes before its start. A change during the commit is still pending."""
    guest = Guest(make_partition())
    guest.write(SYSTEM, b"before", b"data")
    snapshot = store_of(guest).contents.snapshot()
    guest.write(SYSTEM, b"after", b"data")
    store_of(guest).contents.mark_flushed(snapshot.generation)
    assert guest.confirm(SYSTEM, b"before") == FLUSHED
    assert guest.confirm(SYSTEM, b"after") == PENDING
    assert [held.label for held in snapshot.objects] == [b"before"]


def test_a_flush_covers_no_removal_that_came_after_it_began() -> None:
    """R-20: A removal directly after the start of a flush is still pending: NVRAM has the object."""
    guest = Guest(make_partition())
    guest.write(SYSTEM, b"label", b"data")
    snapshot = store_of(guest).contents.snapshot()
    guest.remove(SYSTEM, b"label")
    store_of(guest).contents.mark_flushed(snapshot.generation)
    assert guest.confirm(SYSTEM, b"label") == PENDING
    flush(guest)
    assert guest.confirm(SYSTEM, b"label") == GONE


def test_an_older_flush_takes_nothing_back() -> None:
    """R-21: If an earlier commit is reported late, flushed objects stay flushed."""
    guest = Guest(make_partition())
    guest.write(SYSTEM, b"label", b"data")
    flush(guest)
    store_of(guest).contents.mark_flushed(0)
    assert guest.confirm(SYSTEM, b"label") == FLUSHED


def test_transient_objects_are_confirmed_at_once() -> None:
    """R-14: A transient object counts as flushed at once, and so does its removal."""
    guest = Guest(make_partition())
    guest.write(SYSTEM, b"label", b"data", policy=TRANSIENT)
    assert not store_of(guest).contents.dirty
    assert guest.confirm(SYSTEM, b"label") == FLUSHED
    guest.remove(SYSTEM, b"label")
    assert not store_of(guest).contents.dirty
    assert guest.confirm(SYSTEM, b"label") == GONE


def test_a_transient_object_does_not_hide_a_pending_removal() -> None:
    """R-14, R-20: After a removal, a transient object with the same label does not confirm the removal."""
    guest = Guest(make_partition())
    guest.write(SYSTEM, b"label", b"old")
    flush(guest)
    guest.remove(SYSTEM, b"label")
    guest.write(SYSTEM, b"label", b"new", policy=TRANSIENT)
    assert guest.confirm(SYSTEM, b"label") == PENDING
    guest.ipl()
    assert guest.confirm(SYSTEM, b"label") == PENDING
    flush(guest)
    assert guest.confirm(SYSTEM, b"label") == GONE


def test_an_ipl_ends_transient_objects_and_no_others() -> None:
    """R-14: An IPL removes transient objects and frees their space. All other objects stay."""
    guest = Guest(make_partition())
    guest.write(SYSTEM, b"stays", b"data")
    flush(guest)
    before = (store_of(guest).contents.snapshot(), guest.config().used)
    for consumer in (1, 2, 3):
        guest.write(consumer, b"goes", b"data", policy=TRANSIENT)
    assert store_of(guest).contents.snapshot() == before[0]
    guest.ipl()
    assert (store_of(guest).contents.snapshot(), guest.config().used) == before
    assert guest.read(SYSTEM, b"goes") == Answer(-7)
    assert guest.read(SYSTEM, b"stays").status == 0


def test_a_transient_immutable_object_goes_as_well() -> None:
    """R-12, R-14: An immutable transient object is removed by the next IPL too."""
    guest = Guest(make_partition())
    guest.write(SYSTEM, b"label", b"data", policy=TRANSIENT | 0x0400_0000)
    assert guest.remove(SYSTEM, b"label") == Answer(-10)
    guest.ipl()
    assert guest.write(SYSTEM, b"label", b"data") == Answer(0)


def test_confirm_asks_for_the_password_first() -> None:
    """R-04: CONFIRM checks the password first. Only the owner learns which objects exist or are pending."""
    guest = Guest(make_partition())
    guest.set_password(SYSTEM, b"right")
    guest.write(SYSTEM, b"label", b"data", policy=0x0800_0000, password=b"right")
    for password in (b"", b"wrong"):
        for label in (b"label", b"absent"):
            assert guest.confirm(SYSTEM, label, password=password) == Answer(-10)
    assert guest.confirm(SYSTEM, b"label", password=b"right") == PENDING


@pytest.mark.parametrize("power_off", [True, False])
def test_a_restart_keeps_what_is_pending(power_off: bool) -> None:
    """R-20: An IPL neither loses a pending change nor makes it count as flushed."""
    guest = Guest(make_partition())
    guest.write(SYSTEM, b"label", b"data")
    if power_off:
        guest.partition.power_off()
    guest.ipl()
    assert guest.confirm(SYSTEM, b"label") == PENDING
    assert store_of(guest).contents.dirty


def test_many_pending_removals_are_all_pending_and_bounded() -> None:
    """R-20, R-23: While NVRAM fails, pending removals use bounded memory, and none counts as flushed."""
    guest = Guest(make_partition("FW1110", 4))
    labels = [b"label %d" % n for n in range(6000)]
    for label in labels:
        assert guest.write(SYSTEM, label, b"x") == guest.remove(SYSTEM, label) == Answer(0)
    assert len(store_of(guest).contents._removed) <= MAX_PENDING_REMOVALS < 6000
    assert {guest.confirm(SYSTEM, label) for label in labels[::500]} == {PENDING}
    flush(guest)
    assert {guest.confirm(SYSTEM, label) for label in labels[::500]} == {GONE}
    assert guest.confirm(SYSTEM, b"never") == GONE
