"""A keystore that is switched off and on again."""

import os

import pytest

from hcall_abi.consumers import Consumer
from hcall_abi.levels import FW1110
from hcall_server.keystore.access import Credentials
from hcall_server.keystore.refusals import NotFound
from hcall_server.platform.system import ManagedSystem

OS = Consumer.OPERATING_SYSTEM


def test_what_the_old_store_held_is_pending_until_the_new_one_is_durable() -> None:
    """R-20, R-21, R-33: If the keystore is disabled and enabled, a pending removal stays pending."""
    system = ManagedSystem(FW1110, bytes(16), os.urandom)
    partition = system.create("a", 64)
    store = partition.keystore
    assert store is not None
    store.objects.write(Credentials(OS, b""), b"x", 0, b"data")
    store.contents.mark_flushed(store.contents.generation)
    store.objects.remove(Credentials(OS, b""), b"x")
    before = store.contents.generation
    system.set_attributes("a", {"keystore_kbytes": 0})
    assert partition.profile.image_generation == before
    system.set_attributes("a", {"keystore_kbytes": 64})
    again = partition.keystore
    assert again is not None
    assert again.contents.generation > before
    assert again.contents.dirty
    assert again.objects.confirm(Credentials(OS, b""), b"x") is False
    again.contents.mark_flushed(again.contents.generation)
    with pytest.raises(NotFound):
        again.objects.confirm(Credentials(OS, b""), b"x")


def test_a_store_that_never_was_has_nothing_pending() -> None:
    """R-30: After the first enabling of a keystore, nothing is pending in it."""
    system = ManagedSystem(FW1110, bytes(16), os.urandom)
    store = system.create("a", 4).keystore
    assert store is not None
    assert not store.contents.dirty
