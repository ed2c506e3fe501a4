"""Passwords and policies at the interface of the keystore: what it decides, and the texts of its refusals."""

import pytest

from hcall_abi.calls import Opcode
from hcall_abi.consumers import Consumer, SecureBoot
from hcall_abi.levels import LEVELS
from hcall_server.keystore.access import AccessControl, Credentials
from hcall_server.keystore.authority import PasswordState, Verdict
from hcall_server.keystore.limits import limits_of
from hcall_server.keystore.refusals import Forbidden, Taken
from hcall_server.keystore.signed import LatchUse
from hcall_server.keystore.store import Keystore
from tests.guest import Chance

OWNER = Consumer.OPERATING_SYSTEM
ENFORCE = 0x4000_0000


def store() -> Keystore:
    """Return a keystore that belongs to no partition."""
    return Keystore(limits_of(LEVELS["NEXT"], 64), Chance())


def test_each_state_of_a_password() -> None:
    """R-05: the state of a password is unset, missing, matched or wrong.

    The right password with one more byte is wrong.
    """
    access = AccessControl(SecureBoot.OFF)
    states = [access.state(Credentials(OWNER, presented)) for presented in (b"", b"right")]
    access.passwords.set(OWNER, b"right")
    states += [
        access.state(Credentials(OWNER, presented)) for presented in (b"", b"right", b"wrong", b"right!")
    ]
    unset, presented, missing, matched, wrong, longer = states
    assert (unset, presented) == (PasswordState.UNSET, PasswordState.UNSET_PRESENTED)
    assert (missing, matched) == (PasswordState.MISSING, PasswordState.MATCHED)
    assert wrong is longer is PasswordState.WRONG
    assert [state.is_set for state in states] == [False, False, True, True, True, True]
    assert access.state(Credentials(Consumer.FIRMWARE, b"")) is PasswordState.UNSET


def test_a_refusal_tells_password_from_policy() -> None:
    """R-17: a refusal says whether password or policy is the reason.

    It has the object's policy word, if any.
    """
    access = AccessControl(SecureBoot.OFF)
    access.passwords.set(OWNER, b"right")
    with pytest.raises(Forbidden, match=r"^the password does not fit$") as caught:
        access.enter(Opcode.READ_OBJECT, Credentials(OWNER, b"wrong"))
    assert (caught.value.verdict, caught.value.policy) == (Verdict.PASSWORD, None)
    with pytest.raises(Forbidden, match=r"^the policy of the object forbids it$") as caught:
        access.demand(Opcode.READ_OBJECT, PasswordState.MATCHED, ENFORCE)
    assert (caught.value.verdict, caught.value.policy) == (Verdict.SECURE_BOOT, ENFORCE)


def test_a_second_password_is_refused_by_name() -> None:
    """R-05: the first password stays, whether it was set or generated."""
    keystore = store()
    first = keystore.generate_password(OWNER, 32)
    for again in (
        lambda: keystore.generate_password(OWNER, 32),
        lambda: keystore.access.passwords.set(OWNER, b"x"),
    ):
        with pytest.raises(Taken, match="OPERATING_SYSTEM consumer already has a password"):
            again()
    assert keystore.access.state(Credentials(OWNER, first)) is PasswordState.MATCHED


def test_an_ipl_ends_passwords_tokens_and_the_mode() -> None:
    """R-04: an IPL ends passwords, tokens and the secure-boot mode of the last one."""
    keystore = store()
    keystore.generate_password(OWNER, 32)
    token, listing = (
        keystore.continuations.issue(Opcode.WRAP_OBJECT),
        keystore.listings.keep(OWNER, 0, [b"a"]),
    )
    assert (Opcode.WRAP_OBJECT, token) in keystore.continuations
    assert (OWNER, listing) in keystore.listings
    keystore.ipl(SecureBoot.ENFORCE)
    assert keystore.access.secure_boot is SecureBoot.ENFORCE
    assert keystore.access.state(Credentials(OWNER, b"")) is PasswordState.UNSET
    assert (Opcode.WRAP_OBJECT, token) not in keystore.continuations
    assert (OWNER, listing) not in keystore.listings


def test_a_keystore_of_no_partition_has_no_permission_to_use_up() -> None:
    """R-36: a keystore without a partition never permits an update of PK without verification."""
    keystore = store()
    assert not keystore.latch.armed
    keystore.latch.disarm(LatchUse.PK_TAKEN)
    assert not keystore.latch.armed
    assert not keystore.contents.dirty
