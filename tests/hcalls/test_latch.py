"""The latch permits one PK without verification. Also: what a replayed update does."""

import struct
from typing import Any

import pytest

from hcall_abi.consumers import Consumer
from hcall_abi.rules import updates as rules
from hcall_abi.variables import WIPE_SENTENCE
from hcall_client.guests import authvar
from hcall_server.keystore.signed import LatchUse
from tests.guest import BOOT_LOADER, FIRMWARE, SYSTEM, Answer, auth_block, console_sets
from tests.hcalls.owner import ARMED, PASSWORD, Owner, first_pk, set_up
from tests.secvar.keys import BEFORE, NOW, kek, pk, stranger, update

H_AUTHORITY, H_NO_MEM = -10, -9
H_P4, H_P6 = -57, -59
LATER = NOW._replace(minute=59)


def test_the_latch_is_for_one_pk() -> None:
    """R-36: The latch permits one PK; the next one must be signed. The console can arm the latch again."""
    guest = Owner()
    assert guest.update("PK", first_pk()) == Answer(0)
    assert not guest.partition.attributes.keystore_signed_updates_without_verification
    assert guest.update("PK", first_pk()) == Answer(H_P6)
    assert guest.update("PK", update("PK", stranger().lists, stranger())) == Answer(H_AUTHORITY)
    assert guest.update("PK", update("PK", stranger().lists)) == Answer(0)
    console_sets(guest.partition, ARMED)
    assert guest.update("PK", first_pk()) == Answer(0)
    assert guest.stored("PK") == struct.pack("<BHBBBBB", 0, *BEFORE) + pk().lists


def test_the_latch_stays_armed_until_a_pk_gets_in() -> None:
    """R-36: A refused PK, or an update of another variable, leaves the latch armed."""
    guest = Owner()
    for payload in (b"", first_pk()[:39], authvar.payload(BEFORE, b"-", b"no list")):
        assert guest.update("PK", payload).status < 0
    assert guest.update("KEK", update("KEK", kek().lists)) == Answer(H_AUTHORITY)
    # The armed latch accepts any policy.
    assert guest.update("PK", first_pk(), policy=0x0900_0000) == Answer(0)
    assert guest.update("PK", first_pk()) == Answer(H_P4)
    assert not guest.partition.attributes.keystore_signed_updates_without_verification


def test_pk_and_latch_are_one_change() -> None:
    """R-22, R-36: A PK and its latch have one generation, so each commit has both changes or neither."""
    guest = Owner()
    guest.flush()
    assert guest.update("PK", first_pk()) == Answer(0)
    keystore = guest.partition.keystore
    assert keystore is not None
    assert (
        guest.partition.profile.image_generation
        == keystore.contents.generation
        == keystore.contents.snapshot().generation
    )
    assert not guest.partition.profile.attributes.keystore_signed_updates_without_verification


def test_a_refused_space_keeps_the_latch() -> None:
    """R-36: A PK that does not fit is refused, and the latch stays armed."""
    guest = Owner(kbytes=4)
    guest.write(SYSTEM, b"big", bytes(3700), password=PASSWORD)
    assert guest.update("PK", first_pk()) == Answer(H_NO_MEM)
    assert guest.partition.attributes.keystore_signed_updates_without_verification


WIPE = authvar.payload(BEFORE, b"-", bytes(44) + WIPE_SENTENCE)
COMMON_PK = authvar.variable_label("PK").replace(b"\2\x10", b"\4\x10")
NOT_LINUX: list[dict[str, Any]] = [
    {"authorization": auth_block(BOOT_LOADER)},
    {"authorization": auth_block(FIRMWARE)},
    {"label": COMMON_PK},
    {"label": COMMON_PK, "authorization": auth_block(BOOT_LOADER)},
]
"""Arguments that replace Linux's, so that the PK is not Linux's."""


@pytest.mark.parametrize("other", NOT_LINUX)
def test_the_latch_is_for_linux_alone(other: dict[str, Any]) -> None:
    """R-03, R-36: The latch is for the PK of Linux only.

    The PK of another consumer or label must be signed.
    """
    guest = Owner()
    before = guest.picture()
    signed, unsigned = update("PK", pk().lists), authvar.payload(NOW, b"-", b"")
    for payload, status in ((first_pk(), H_P6), (WIPE, H_P6), (unsigned, H_P6), (signed, H_AUTHORITY)):
        assert guest.update("PK", payload, **other) == Answer(status)
        assert guest.picture() == before
    assert guest.partition.take_latch_use() is None
    assert guest.update("PK", first_pk()) == Answer(0)
    assert guest.partition.take_latch_use() is LatchUse.PK_TAKEN


@pytest.mark.parametrize("other", NOT_LINUX)
def test_a_verified_update_of_another_pk_leaves_the_latch(other: dict[str, Any]) -> None:
    """R-36, R-70: A signed update of a PK that is not Linux's leaves the latch armed.

    The wipe sentence is refused for that PK.
    """
    guest = Owner()
    consumer = other.get("authorization", auth_block(SYSTEM))[1]
    label = other.get("label", authvar.variable_label("PK"))
    store = guest.partition.keystore
    assert store is not None
    store.signed.update(Consumer(consumer), label, 0x0100_0000, pk().variable)
    assert guest.update("PK", update("PK", bytes(44) + WIPE_SENTENCE), **other) == Answer(H_AUTHORITY)
    assert guest.refusals[-1].rule is rules.UPDATE_WIPE_ARMED
    assert guest.update("PK", update("PK", stranger().lists), **other) == Answer(0)
    assert guest.partition.attributes.keystore_signed_updates_without_verification
    assert guest.update("PK", WIPE) == Answer(0)
    left = store.signed.data(Consumer(consumer), label)
    assert (left is None) == (consumer == SYSTEM)


def test_what_the_latch_was_used_for() -> None:
    """R-36: The use of the latch is reported once: PK stored, PK deleted, or all keys deleted."""
    guest = Owner()
    nothing = authvar.payload(NOW, b"-", b"")
    for payload, use in (
        (first_pk(), LatchUse.PK_TAKEN), (nothing, LatchUse.PK_DELETED), (WIPE, LatchUse.ALL_DELETED)
    ):  # fmt: skip
        console_sets(guest.partition, ARMED)
        assert guest.update("PK", payload) == Answer(0)
        assert guest.partition.take_latch_use() is use
        assert guest.partition.take_latch_use() is None


def test_a_replayed_append_to_kek() -> None:
    """R-70: A replayed append to KEK adds the same keys again, until they do not fit. No key is lost."""
    guest = Owner(kbytes=4)
    assert guest.update("PK", first_pk()) == Answer(0)
    payload = update("KEK", kek().lists, append=True)
    times = 0
    while (answer := guest.update("KEK", payload, flags=1)) == Answer(0):
        times += 1
        assert guest.stored("KEK") == struct.pack("<BHBBBBB", 0, *NOW) + kek().lists * times
    assert answer == Answer(H_NO_MEM)
    assert times > 1
    assert guest.update("db", update("db", b"x", kek())) == Answer(0)


def test_a_rollback_by_removal() -> None:
    """R-70: An old update is refused because of its time. After a removal of the variable it is accepted."""
    guest = set_up()
    old, new = update("db", b"old"), update("db", b"new", time=LATER)
    assert [guest.update("db", payload) for payload in (old, new)] == [Answer(0)] * 2
    assert guest.update("db", old) == Answer(H_AUTHORITY)
    assert guest.remove(SYSTEM, authvar.variable_label("db"), password=PASSWORD) == Answer(0)
    assert guest.update("db", old) == Answer(0)
