"""A keystore caches the encoded entry of each object. The cached image equals a newly encoded one."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hcall_abi.consumers import Consumer
from hcall_server.keystore.access import Credentials
from hcall_server.keystore.contents import VOLATILE
from hcall_server.keystore.image import StoredObject, StoreImage, object_of
from hcall_server.keystore.keys import Keys
from hcall_server.keystore.refusals import KeystoreRefusal
from hcall_server.keystore.store import Keystore
from hcall_server.platform.partition import Partition
from hcall_server.sealing import decode_image, encode_image
from tests.guest import make_partition
from tests.sealing.samples import images, objects

WRAPPING, TRANSIENT, WORLD, SIGNED = 0x0080_0000, 0x0200_0000, 0x0800_0000, 0x0100_0000
WITH_BOOT_OBJECT = {"keystore_kbytes": 4, "linux_dynamic_key_secure_boot": 1}
OWNERS = st.sampled_from(Consumer)
LABELS = st.sampled_from([b"a", b"b", b"SB_VERSION", b"l" * 200])
POLICIES = st.sampled_from([0, 0, WORLD, TRANSIENT, WRAPPING, WRAPPING, WRAPPING | TRANSIENT])
DATA = st.sampled_from([b"", b"x", bytes(32), b"d" * 1500])


def anew(keystore: Keystore) -> bytes:
    """Return the image with all objects encoded again, without the volatile ones."""
    stored = [each for each in keystore.contents._objects.items() if not each[1].policy & VOLATILE]
    entries = [
        struct.pack(">BBHII", owner, 0, len(label), held.policy, len(held.data)) + label + held.data
        for (owner, label), held in stored
    ]
    return struct.pack(">HHI", 1, 0, len(entries)) + b"".join(entries)


class Histories(RuleBasedStateMachine):
    """R-02, R-14, R-20: After any history of calls, IPLs and restarts, the cached image is right."""

    def __init__(self) -> None:
        super().__init__()
        self.partition: Partition = make_partition("NEXT", attributes=WITH_BOOT_OBJECT)
        self.password = dict.fromkeys(Consumer, b"")

    @property
    def keystore(self) -> Keystore:
        keystore = self.partition.keystore
        assert keystore is not None
        return keystore

    def who(self, owner: Consumer) -> Credentials:
        return Credentials(owner, self.password[owner])

    @initialize()
    def begin(self) -> None:
        """Make a key in most histories, because REVOKE needs one."""
        self.generate(Consumer.OPERATING_SYSTEM, b"a", WRAPPING)

    @rule(owner=OWNERS, label=LABELS, policy=POLICIES, data=DATA)
    def write(self, owner: Consumer, label: bytes, policy: int, data: bytes) -> None:
        with suppress(KeystoreRefusal):
            self.keystore.objects.write(self.who(owner), label, policy, data)

    @rule(owner=OWNERS, label=LABELS, policy=POLICIES)
    def generate(self, owner: Consumer, label: bytes, policy: int) -> None:
        with suppress(KeystoreRefusal):
            self.keystore.objects.generate(self.who(owner), label, policy, 32)

    @rule(owner=OWNERS, label=LABELS)
    def remove(self, owner: Consumer, label: bytes) -> None:
        with suppress(KeystoreRefusal):
            self.keystore.objects.remove(self.who(owner), label)

    @rule(owner=OWNERS, label=LABELS, revoked=st.booleans())
    def revoke(self, owner: Consumer, label: bytes, revoked: bool) -> None:
        with suppress(KeystoreRefusal):
            self.keystore.keys.set_revoked(self.who(owner), label, revoked=revoked)

    @rule(owner=OWNERS, label=LABELS, data=DATA | st.none())
    def update(self, owner: Consumer, label: bytes, data: bytes | None) -> None:
        with suppress(KeystoreRefusal):
            self.keystore.signed.begin(self.who(owner), label, SIGNED)
            self.keystore.signed.update(owner, label, SIGNED, data)

    @rule(owner=OWNERS)
    def remove_signed(self, owner: Consumer) -> None:
        self.keystore.signed.remove_all(owner)

    @precondition(lambda self: not all(self.password.values()))
    @rule(owner=OWNERS)
    def set_password(self, owner: Consumer) -> None:
        with suppress(KeystoreRefusal):
            self.password[owner] = self.keystore.generate_password(owner, 8)

    @rule()
    def ipl(self) -> None:
        self.partition.ipl()
        self.password = dict.fromkeys(Consumer, b"")

    @rule()
    def restart(self) -> None:
        """Load the store from its image, as a restart does. A restart is an IPL too."""
        image = decode_image(encode_image(self.keystore.contents.snapshot()), 7)
        self.partition.keystore = self.partition._new_keystore(image)
        self.ipl()

    @invariant()
    def the_image_is_that_of_the_plain_encoder(self) -> None:
        assert encode_image(self.keystore.contents.snapshot()) == anew(self.keystore)


Histories.TestCase.settings = settings(max_examples=80, stateful_step_count=40)
TestHistories = Histories.TestCase


def test_a_revoked_key_is_revoked_in_the_image() -> None:
    """R-72: After REVOKE the image has the key as revoked, and after UNREVOKE as it was before.

    The entries of other objects stay the same.
    """
    partition = make_partition("NEXT")
    keystore, who = partition.keystore, Credentials(Consumer.OPERATING_SYSTEM, b"")
    assert keystore is not None
    keystore.objects.write(who, b"other", 0, b"data")
    keystore.objects.generate(who, b"key", WRAPPING, 32)
    keys: Keys = keystore.keys
    before = keystore.contents.snapshot()
    word = keys.set_revoked(who, b"key", revoked=True)
    revoked = keystore.contents.snapshot()
    assert [each.policy for each in revoked.objects] == [0, word]
    assert word != WRAPPING
    assert revoked.entries[0] is before.entries[0]
    keys.set_revoked(who, b"key", revoked=False)
    assert keystore.contents.snapshot().entries == before.entries


def test_a_snapshot_does_not_follow_later_changes() -> None:
    """R-20: A snapshot has the objects of its own generation, whatever changes later."""
    keystore, who = make_partition("NEXT").keystore, Credentials(Consumer.OPERATING_SYSTEM, b"")
    assert keystore is not None
    keystore.objects.write(who, b"a", 0, b"first")
    taken = keystore.contents.snapshot()
    keystore.objects.remove(who, b"a")
    keystore.objects.write(who, b"a", 0, b"second")
    keystore.objects.write(who, b"b", 0, b"")
    assert [(each.label, each.data) for each in taken.objects] == [(b"a", b"first")]


@pytest.mark.parametrize("before,after", [(0, TRANSIENT), (TRANSIENT, 0)])
def test_an_object_that_changes_its_sort_enters_or_leaves_the_image(before: int, after: int) -> None:
    """R-14: If an object becomes transient or persistent, the image is right. No h-call does that today."""
    keystore = make_partition("NEXT").keystore
    assert keystore is not None
    contents, key = keystore.contents, (3, b"label")
    for change in (lambda: contents.put(key, after, b"data"), lambda: contents.set_policy(key, after)):
        contents.put(key, before, b"data")
        change()
        assert encode_image(contents.snapshot()) == anew(keystore)


@given(images, st.integers(0, 2**64 - 1))
def test_a_loaded_store_has_the_image_that_it_was_loaded_from(image: StoreImage, generation: int) -> None:
    """R-02: A store that was loaded from an image has the same image, without encoding."""
    persistent = [each for each in image.objects if not each.policy & VOLATILE]
    kept = StoreImage.of(generation, persistent)
    keystore = make_partition("NEXT")._new_keystore(decode_image(encode_image(kept), generation))
    assert keystore is not None
    assert keystore.contents.snapshot() == kept
    assert anew(keystore) == encode_image(kept)


@given(objects)
def test_an_entry_is_read_as_it_was_made(stored: StoredObject) -> None:
    """A cached entry is read as the object that it was made from, and its text shows no data."""
    image = StoreImage.of(1, [stored])
    assert [object_of(entry) for entry in image.entries] == [stored]
    assert image.objects == (stored,)
    assert repr(image) == "StoreImage(generation=1, <1 objects>)"
