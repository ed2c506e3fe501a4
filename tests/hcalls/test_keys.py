"""GEN_KEY, REVOKE and UNREVOKE: wrapping keys, and keys that GEN_KEY returns to the guest."""

import pytest

from hcall_abi.calls import Opcode
from tests.guest import OVERHEAD, SYSTEM, WRAPPING, Answer, Guest, auth_block, lay_out, make_partition
from tests.hcalls.keyholder import LABEL, PASSWORD, REVOKED, SECRET, guest, store, unwrap, wrapped

# GEN_KEY


def test_a_wrapping_key_is_made_and_never_shown() -> None:
    """R-16, R-71: GEN_KEY writes no byte of a wrapping key. READ refuses the key and returns its policy."""
    user = guest()
    assert user.read(SYSTEM, LABEL, password=PASSWORD) == Answer(-10, 0, WRAPPING)
    assert user.config().used == len(LABEL) + 32 + OVERHEAD
    assert user.gen_key(SYSTEM, LABEL, password=PASSWORD) == Answer(-16)
    assert user.all_labels(SYSTEM, password=PASSWORD) == [LABEL]


def test_two_keys_are_two_keys() -> None:
    user = guest()
    assert user.gen_key(SYSTEM, b"another", password=PASSWORD) == Answer(0)
    first, second_ = (held.data for held in store(user).contents.snapshot().objects)
    assert len(first) == len(second_) == 32
    assert first != second_


@pytest.mark.parametrize("length", [1, 16, 32, 4000])
def test_a_plain_key_is_an_object_that_is_also_returned(length: int) -> None:
    """R-71: the key in the buffer equals the data of a later READ."""
    user = guest()
    key = user.gen_key(SYSTEM, b"plain", policy=0x0800_0000, length=length, password=PASSWORD)
    assert (key.status, len(key.written)) == (0, length)
    assert user.read(SYSTEM, b"plain") == Answer(0, length, 0x0800_0000, key.written)


@pytest.mark.parametrize("length,status", [(0, -59), (31, -59), (32, 0), (33, -59), (64, -59)])
def test_a_wrapping_key_has_32_bytes(length: int, status: int) -> None:
    user = guest()
    assert user.gen_key(SYSTEM, b"new", length=length, password=PASSWORD) == Answer(status)


def test_a_wrapping_key_takes_no_buffer() -> None:
    """R-71: For a wrapping key, any buffer address but 0 is refused with H_P5, even in writable memory."""
    layout = lay_out(
        Opcode.GEN_KEY, authorization=auth_block(SYSTEM, PASSWORD), label=b"new", policy=WRAPPING, key=32
    )
    assert guest().send(layout.frame()) == Answer(-58)


def test_keys_take_space() -> None:
    """R-07: If a key does not fit, GEN_KEY returns H_NO_MEM and makes no object."""
    user = guest(kbytes=4)
    assert user.write(SYSTEM, b"much", bytes(4096 - 2 * 64 - len(LABEL) - 1), password=PASSWORD) == Answer(0)
    assert user.gen_key(SYSTEM, b"new", password=PASSWORD) == Answer(-9)
    assert b"new" not in user.all_labels(SYSTEM, password=PASSWORD)


def test_keys_are_flushed_and_confirmed() -> None:
    """R-20: a key is pending until it is durable."""
    user = guest()
    assert user.confirm(SYSTEM, LABEL, password=PASSWORD) == Answer(0, 0)
    user.flush()
    assert user.confirm(SYSTEM, LABEL, password=PASSWORD) == Answer(0, 1)


def test_older_levels_have_no_wrapping_keys() -> None:
    """R-74: On levels without wrapping keys, the policy bit is refused. Plain keys work."""
    user = Guest(make_partition("FW1060"))
    assert user.gen_key(SYSTEM, LABEL) == Answer(-57)
    assert user.gen_key(SYSTEM, LABEL, policy=0).status == 0


# REVOKE and UNREVOKE


def test_a_revoked_key_is_out_of_use_until_it_is_unrevoked() -> None:
    """R-16, R-72: A revoked key is refused until UNREVOKE; READ returns its policy with bits 8 and 30.

    REVOKE and UNREVOKE may each be repeated.
    """
    user = guest()
    blob = wrapped(user)
    for _ in range(2):
        assert user.revoke(SYSTEM, LABEL, password=PASSWORD) == Answer(0, REVOKED)
    assert user.read(SYSTEM, LABEL, password=PASSWORD) == Answer(-10, 0, REVOKED)
    assert user.wrap(SYSTEM, LABEL, SECRET, password=PASSWORD) == Answer(-10)
    assert unwrap(user, blob) == Answer(-10)
    assert user.gen_key(SYSTEM, LABEL, password=PASSWORD) == Answer(-16)
    for _ in range(2):
        assert user.unrevoke(SYSTEM, LABEL, password=PASSWORD) == Answer(0, WRAPPING)
    assert user.read(SYSTEM, LABEL, password=PASSWORD) == Answer(-10, 0, WRAPPING)
    assert unwrap(user, blob).written == SECRET


def test_a_revoked_key_can_be_removed() -> None:
    """R-72: A revoked key can be removed. Then no object that it wrapped can be unwrapped."""
    user = guest()
    blob = wrapped(user)
    user.revoke(SYSTEM, LABEL, password=PASSWORD)
    assert user.remove(SYSTEM, LABEL, password=PASSWORD) == Answer(0)
    assert unwrap(user, blob) == Answer(-7)
    assert user.config().used == 0


def test_revocation_is_flushed_and_a_repeated_one_is_no_change() -> None:
    """R-20, R-72: CONFIRM reports when a revocation is durable. A second REVOKE changes nothing."""
    user = guest()
    user.flush()
    user.revoke(SYSTEM, LABEL, password=PASSWORD)
    assert user.confirm(SYSTEM, LABEL, password=PASSWORD) == Answer(0, 0)
    user.flush()
    assert user.confirm(SYSTEM, LABEL, password=PASSWORD) == Answer(0, 1)
    user.revoke(SYSTEM, LABEL, password=PASSWORD)
    assert not store(user).contents.dirty
    user.unrevoke(SYSTEM, LABEL, password=PASSWORD)
    assert user.confirm(SYSTEM, LABEL, password=PASSWORD) == Answer(0, 0)


def test_only_keys_are_revoked() -> None:
    """R-72: REVOKE of an object that is no key returns H_AUTHORITY with the policy in r4.

    With a wrong password it returns H_AUTHORITY without a policy.
    """
    user = guest()
    user.write(SYSTEM, b"plain", b"x", policy=0x0800_0000, password=PASSWORD)
    for change in (user.revoke, user.unrevoke):
        assert change(SYSTEM, b"plain", password=PASSWORD) == Answer(-10, 0x0800_0000)
        assert change(SYSTEM, b"absent", password=PASSWORD) == Answer(-7)
        assert change(SYSTEM, LABEL, password=b"wrong") == Answer(-10, 0)
        assert change(SYSTEM, LABEL, flags=1, password=PASSWORD) == Answer(-57)
