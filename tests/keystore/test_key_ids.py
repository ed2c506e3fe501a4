"""UNWRAP finds its key by the id in the wrapped object, among any number of keys, while the key exists."""

import pytest

from hcall_abi.consumers import Consumer
from hcall_server.keystore import key_ids
from hcall_server.keystore.image import StoredObject
from hcall_server.keystore.key_ids import KeyIds, key_id_of
from hcall_server.keystore.store import Keystore
from tests.guest import FIRMWARE, SYSTEM, WRAPPING, Answer, Guest, make_partition
from tests.hcalls.keyholder import LABEL, PASSWORD, SECRET, again, guest, store, unwrap, wrapped

TRANSIENT = 0x0200_0000


@pytest.fixture
def derived(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """A list of the key ids that are derived from now on."""
    found: list[bytes] = []
    derive = key_ids.key_id_of

    def noting(key: bytes) -> bytes:
        found.append(derive(key))
        return found[-1]

    monkeypatch.setattr(key_ids, "key_id_of", noting)
    return found


def with_keys(count: int, objects: tuple[StoredObject, ...] = ()) -> Guest:
    """Return a guest with `count` wrapping keys of its operating system, and the stored `objects`."""
    keys = (StoredObject(3, b"%d" % n, WRAPPING, n.to_bytes(32, "big")) for n in range(count))
    user = Guest(make_partition("NEXT", 128, objects=[*keys, *objects]))
    assert user.set_password(SYSTEM, PASSWORD) == Answer(0)
    return user


def by_search(keystore: Keystore, key_id: bytes) -> list[bytes]:
    """Return the labels of the keys with an id, found by a search through all objects."""
    objects = keystore.contents._objects.items()
    return [
        label for (owner, label), held in objects
        if owner == 3 and held.policy & WRAPPING and key_id_of(held.data) == key_id
    ]  # fmt: skip


@pytest.mark.parametrize("count", [1, 10, 500])
def test_an_id_is_derived_once_a_key(derived: list[bytes], count: int) -> None:
    """R-71: an id is derived once, when its key is loaded or made. WRAP, UNWRAP and refusals derive none."""
    user = with_keys(count)
    assert len(set(derived)) == len(derived) == count
    assert user.gen_key(SYSTEM, LABEL, password=PASSWORD) == Answer(0)
    assert user.write(SYSTEM, b"no key", bytes(32), password=PASSWORD) == Answer(0)
    assert len(derived) == count + 1
    derived.clear()
    blob = wrapped(user)
    orphan = user.wrap(SYSTEM, b"0", SECRET, password=PASSWORD).written
    assert unwrap(user, blob).written == unwrap(user, orphan).written == SECRET
    assert user.remove(SYSTEM, b"0", password=PASSWORD) == Answer(0)
    assert unwrap(user, orphan) == Answer(-7)
    user.ipl()
    assert derived == []


def test_a_restart_finds_the_keys_again() -> None:
    """R-71, R-21: ids are not stored, so a restart derives them from the keys."""
    user = guest()
    blob = wrapped(user)
    after = with_keys(3, store(user).contents.snapshot().objects)
    assert unwrap(after, blob).written == SECRET
    assert after.revoke(SYSTEM, LABEL, password=PASSWORD).status == 0
    assert unwrap(with_keys(0, store(after).contents.snapshot().objects), blob) == Answer(-10)
    assert after.unrevoke(SYSTEM, LABEL, password=PASSWORD).status == 0
    assert unwrap(after, blob).written == SECRET
    assert after.remove(SYSTEM, LABEL, password=PASSWORD) == Answer(0)
    assert unwrap(after, blob) == Answer(-7)


def test_a_transient_key_ends_with_the_ipl_and_another_does_not() -> None:
    """R-16, R-71: a TRANSIENT key ends with the IPL.

    A new key under its label unwraps none of its objects.
    """
    user = guest()
    blob, short = wrapped(user), b""
    for _ in range(2):
        assert user.gen_key(SYSTEM, b"short", policy=WRAPPING | TRANSIENT, password=PASSWORD) == Answer(0)
        short = user.wrap(SYSTEM, b"short", SECRET, password=PASSWORD).written
        assert unwrap(user, short).written == SECRET
        again(user)
        assert unwrap(user, short) == Answer(-7)
        assert unwrap(user, blob).written == SECRET
    assert user.gen_key(SYSTEM, b"short", policy=WRAPPING | TRANSIENT, password=PASSWORD) == Answer(0)
    assert unwrap(user, short) == Answer(-7)


def test_a_key_under_two_labels_is_there_until_both_are_gone() -> None:
    """R-71: a store that was edited by hand may have a key twice. UNWRAP finds it until both are removed."""
    key = bytes(range(32))
    twice = (StoredObject(FIRMWARE, b"a", WRAPPING, key), StoredObject(3, b"a", WRAPPING, key))
    user = with_keys(2, (*twice, StoredObject(3, b"b", WRAPPING, key)))
    assert user.set_password(FIRMWARE, PASSWORD) == Answer(0)
    blob = user.wrap(SYSTEM, b"a", SECRET, password=PASSWORD).written
    assert user.revoke(SYSTEM, b"b", password=PASSWORD).status == 0
    assert unwrap(user, blob).written == SECRET
    assert by_search(store(user), key_id_of(key)) == [b"a", b"b"]
    assert user.remove(SYSTEM, b"a", password=PASSWORD) == Answer(0)
    assert unwrap(user, blob) == Answer(-10)
    assert user.remove(SYSTEM, b"b", password=PASSWORD) == Answer(0)
    assert unwrap(user, blob) == Answer(-7)
    assert user.unwrap(FIRMWARE, blob, password=PASSWORD).written == SECRET


def test_what_gives_way_is_no_key_any_more() -> None:
    """R-16: if an object of the hypervisor replaces a key under its label, UNWRAP does not find the key."""
    user = guest()
    blob = wrapped(user)
    store(user).contents.provide(Consumer.OPERATING_SYSTEM, LABEL, 0, b"not a key")
    assert unwrap(user, blob) == Answer(-7)
    assert by_search(store(user), store_id(blob)) == []
    store(user).contents.provide(Consumer.OPERATING_SYSTEM, LABEL, WRAPPING, bytes(32))
    assert by_search(store(user), key_id_of(bytes(32))) == [LABEL]
    again(user)
    assert by_search(store(user), key_id_of(bytes(32))) == []


def store_id(blob: bytes) -> bytes:
    """Return the key's id in a wrapped object (spec/wrapped.md#the-object)."""
    return blob[16:32]


def test_nothing_is_shown() -> None:
    """R-04: the text of `KeyIds` shows only the number of keys."""
    ids = KeyIds()
    ids.add(3, b"label", bytes(32))
    assert repr(ids) == "KeyIds(1 keys)"
