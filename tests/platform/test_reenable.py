"""A keystore that is switched off and on again."""

import os

import pytest

from hcall_abi.consumers import Consumer
from hcall_abi.levels import FW1110
from hcall_abi.statuses import Status
from hcall_server.keystore.refusal import Refusal
from hcall_server.platform.system import ManagedSystem

OS = Consumer.OPERATING_SYSTEM


def test_what_the_old_store_held_is_pending_until_the_new_one_is_durable() -> None:
    """R-20, R-21, R-33: a removal is not confirmed by disabling and enabling the keystore."""
    system = ManagedSystem(FW1110, bytes(16), os.urandom)
    partition = system.create("a", 64)
    store = partition.keystore
    assert store is not None
    store.write(OS, b"", b"x", 0, b"data")
    store.mark_flushed(store.generation)
    store.remove(OS, b"", b"x")
    before = store.generation
    system.set_attributes("a", {"keystore_kbytes": 0})
    assert partition.profile().image_generation == before
    system.set_attributes("a", {"keystore_kbytes": 64})
    again = partition.keystore
    assert again is not None
    assert again.generation > before
    assert again.dirty
    assert again.confirm(OS, b"", b"x") is False
    again.mark_flushed(again.generation)
    with pytest.raises(Refusal) as gone:
        again.confirm(OS, b"", b"x")
    assert (gone.value.status, gone.value.outputs) == (Status.H_NOT_FOUND, (1,))


def test_a_store_that_never_was_has_nothing_pending() -> None:
    """R-30: enabling the keystore of a new partition leaves nothing to wait for."""
    system = ManagedSystem(FW1110, bytes(16), os.urandom)
    store = system.create("a", 4).keystore
    assert store is not None
    assert not store.dirty
