"""What a keystore records about changes, flushes, removals and space."""

import pytest

from hcall_abi.levels import LEVELS
from hcall_abi.policies import Policy
from hcall_server.keystore.contents import MAX_PENDING_REMOVALS, Contents
from hcall_server.keystore.image import OBJECT_HEADER, StoredObject, StoreImage, entry_of
from hcall_server.keystore.limits import limits_of

WRAPPING, TRANSIENT, REVOKED = 0x0000_0100, 0x0200_0000, 0x0001_0000
LABEL = (3, b"label")


def contents(image: StoreImage | None = None, *, replaces: int = 0) -> Contents:
    """Return a store of 64 KiB."""
    return Contents(limits_of(LEVELS["NEXT"], 64), image, replaces=replaces)


def test_the_generation_counts_changes() -> None:
    """R-20: each change of a stored object increases the generation.

    A change of a TRANSIENT object does not.
    """
    store = contents(StoreImage(7, ()))
    changes = [
        lambda: store.put(LABEL, 0, b"data"),
        lambda: store.put(LABEL, 0, b"other data"),
        lambda: store.set_policy(LABEL, REVOKED),
        store.touch,
        lambda: store.remove(LABEL),
    ]
    for count, change in enumerate(changes, 8):
        change()
        assert (store.generation, store.snapshot().generation, store.dirty) == (count, count, True)
    store.put(LABEL, TRANSIENT, b"data")
    store.set_policy(LABEL, TRANSIENT | REVOKED)
    store.remove(LABEL)
    assert store.generation == 12


def test_removals_that_are_flushed_take_no_memory() -> None:
    """R-20: only pending removals are counted.

    However many removals are flushed, an absent label is not pending.
    """
    store = contents()
    for _ in range(MAX_PENDING_REMOVALS):
        store.put(LABEL, 0, b"")
        store.remove(LABEL)
        store.mark_flushed(store.generation)
    store.put(LABEL, 0, b"")
    store.remove(LABEL)
    assert store.pending(LABEL)
    assert not store.pending((3, b"never there"))


def test_beyond_4096_removals_every_absent_label_waits() -> None:
    """R-20, R-21: after 4096 removals without a flush, every absent label is pending until the next flush."""
    store = contents()
    for n in range(MAX_PENDING_REMOVALS):
        store.put((3, b"%d" % n), 0, b"")
        store.remove((3, b"%d" % n))
    assert MAX_PENDING_REMOVALS == 4096
    assert store.pending((3, b"0"))
    assert not store.pending((3, b"never there"))
    store.put(LABEL, 0, b"")
    store.remove(LABEL)
    assert all(store.pending(key) for key in (LABEL, (3, b"0"), (3, b"never there")))
    store.mark_flushed(store.generation)
    assert not any(store.pending(key) for key in (LABEL, (3, b"0"), (3, b"never there")))


@pytest.mark.parametrize("generation", [0, 1, 2**40])
def test_an_image_counts_as_flushed(generation: int) -> None:
    """R-21: a store that was loaded from NVRAM is durable, and so is the absence of its labels."""
    store = contents(StoreImage.of(generation, (StoredObject(3, b"label", 0, b"data"),)))
    assert (store.generation, store.flushed, store.awaited, store.dirty) == (generation, generation, 0, False)
    assert not store.pending(LABEL)
    assert not store.pending((3, b"never there"))
    assert store.awaited == 0


def test_an_older_flush_takes_nothing_back() -> None:
    """R-21: commits may be reported in any order; only the newest one counts."""
    store = contents()
    for label in (b"a", b"b"):
        store.put((3, label), 0, b"")
    store.mark_flushed(2)
    store.mark_flushed(1)
    assert (store.flushed, store.dirty) == (2, False)
    assert not store.pending((3, b"b"))


def test_a_store_that_replaces_another_waits_for_its_first_flush() -> None:
    """R-33: an empty store that replaces another one is pending until its flush.

    A crash could restore the old objects.
    """
    store = contents(replaces=9)
    assert (store.generation, store.flushed, store.dirty) == (10, 9, True)
    assert store.pending(LABEL)
    assert store.awaited == 10
    store.mark_flushed(10)
    assert not store.pending(LABEL)
    assert not contents().dirty


def test_an_entry_has_the_documented_header() -> None:
    """R-21: the 12 bytes before an entry are those in spec/sealed.md#partition-image."""
    header = bytes.fromhex("03 00 0005 00018000 00000004")
    assert entry_of(3, b"label", 0x0001_8000, b"data") == header + b"label" + b"data"
    assert OBJECT_HEADER.build(dict(OBJECT_HEADER.parse(header))) == header
    assert OBJECT_HEADER.parse(header).reserved == 0


def test_saved_contents_come_back_and_counters_do_not() -> None:
    """R-20, R-74: a restore is one change of every label; the generation counts on from the highest one."""
    key = int(Policy.WRAPPINGKEY)
    store = contents(StoreImage.of(7, [StoredObject(*LABEL, key, b"k" * 32)]))
    store.put((3, b"volatile"), TRANSIENT, b"data")
    saved, before = store.saved(), (store.objects(), store.used)
    assert "k" * 8 not in repr(saved)
    store.set_policy(LABEL, key | REVOKED)
    store.remove(LABEL)
    store.put((3, b"new"), 0, b"data")
    store.mark_flushed(store.generation)
    for _ in range(2):
        highest = store.generation
        store.restore(saved)
        assert ((store.objects(), store.used), store.generation) == (before, highest + 1)
        assert [each.label for each in store.snapshot().objects] == [LABEL[1]]
        assert store.key_ids.label_of(3, store.key_ids.id_of(*LABEL)) == LABEL[1]
        assert all(map(store.pending, [LABEL, (3, b"new"), (3, b"volatile"), (3, b"never there")]))
        store.mark_flushed(highest)  # a commit that was in flight during the restore
        assert store.dirty
        assert store.pending(LABEL)
        store.mark_flushed(store.generation)
        assert not any(map(store.pending, [LABEL, (3, b"new"), (3, b"volatile")]))
        store.remove(LABEL)
    other = contents(StoreImage(2, ()))
    other.restore(saved)
    assert other.generation == 8
