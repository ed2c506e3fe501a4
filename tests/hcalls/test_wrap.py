"""WRAP and UNWRAP: results, objects that do not open, the policies that apply, and continue tokens."""

import pytest

from hcall_abi.calls import CALLS, Opcode
from hcall_abi.rules import hcalls as rules
from hcall_server.keystore.tokens import Continuations
from tests.guest import BOOT_LOADER, SYSTEM, WRAPPING, Answer, Guest, auth_block, make_partition
from tests.hcalls.damage import KEY_OBJECT, Damage, damages, good
from tests.hcalls.damage import PASSWORD as SYSTEMS
from tests.hcalls.keyholder import (
    AUDIT,
    ENFORCE,
    LABEL,
    PASSWORD,
    SECRET,
    again,
    guest,
    store,
    unwrap,
    wrapped,
)
from tests.wrapping import second

LEAST = second.LEAST_FLAGS


@pytest.mark.parametrize("length", [1, 32, 128, 4896, 65535])
def test_wrapping_and_unwrapping(length: int) -> None:
    """R-71: UNWRAP returns what WRAP got, for the lengths of Linux and up to the largest."""
    user = guest()
    blob = wrapped(user, data=b"x" * length)
    assert unwrap(user, blob) == Answer(0, 0, length, b"x" * length)


def test_the_engine_writes_what_the_page_says() -> None:
    """R-71: The second implementation unwraps the engine's object with the key in the store."""
    user = guest()
    key = store(user).contents.snapshot().objects[0].data
    assert second.unwrap(key, wrapped(user, LEAST | ENFORCE << 32)) == (LEAST | ENFORCE << 32, SECRET)


def test_no_two_wrappings_are_alike() -> None:
    """R-71: Each WRAP draws a new salt, so key and nonce are new."""
    user = guest()
    blobs = [wrapped(user) for _ in range(50)]
    assert len({blob[32:64] for blob in blobs}) == len({blob[1024:] for blob in blobs}) == 50


def test_wrapping_changes_nothing_in_the_store() -> None:
    user = guest()
    user.flush()
    blob = wrapped(user)
    unwrap(user, blob)
    assert not store(user).contents.dirty


def test_a_new_key_under_an_old_label_opens_nothing() -> None:
    """R-71: A new key under an old label unwraps no object of the old key: H_NOT_FOUND."""
    user = guest()
    blob = wrapped(user)
    assert user.remove(SYSTEM, LABEL, password=PASSWORD) == Answer(0)
    assert unwrap(user, blob) == Answer(-7)
    assert user.gen_key(SYSTEM, LABEL, password=PASSWORD) == Answer(0)
    assert unwrap(user, blob) == Answer(-7)
    assert unwrap(user, wrapped(user)).status == 0


def test_keys_survive_an_ipl_and_a_restart() -> None:
    """R-71, R-72: After an IPL and a restart, old objects unwrap, and a revoked key stays revoked."""
    user = guest()
    blob = wrapped(user)
    again(user)
    assert unwrap(user, blob).written == SECRET
    user.revoke(SYSTEM, LABEL, password=PASSWORD)
    restarted = Guest(make_partition("NEXT", objects=store(user).contents.snapshot().objects))
    again(restarted)
    assert unwrap(restarted, blob) == Answer(-10)
    assert restarted.unrevoke(SYSTEM, LABEL, password=PASSWORD) == Answer(0, WRAPPING)
    assert unwrap(restarted, blob).written == SECRET


def test_a_transient_key_ends_with_the_ipl() -> None:
    """R-14: A transient key ends with the IPL. Its objects can't be unwrapped afterwards."""
    user = guest()
    user.gen_key(SYSTEM, b"short", policy=WRAPPING | 0x0200_0000, password=PASSWORD)
    blob = user.wrap(SYSTEM, b"short", SECRET, password=PASSWORD).written
    assert unwrap(user, blob).written == SECRET
    again(user)
    assert unwrap(user, blob) == Answer(-7)


def test_another_partition_or_consumer_has_another_key() -> None:
    """R-01, R-03: only keys of the calling consumer in its own partition unwrap an object."""
    user = guest()
    blob = wrapped(user)
    user.set_password(BOOT_LOADER, b"boot")
    assert user.unwrap(BOOT_LOADER, blob, password=b"boot") == Answer(-7)
    other = Guest(make_partition("NEXT", number=2))
    other.set_password(SYSTEM, PASSWORD)
    other.gen_key(SYSTEM, LABEL, password=PASSWORD)
    assert unwrap(other, blob) == Answer(-7)


@pytest.mark.parametrize("flag,modes", [(0, {0, 1, 2}), (AUDIT, {1, 2}), (ENFORCE, {2})])
def test_the_policy_of_the_object_is_checked_when_it_is_unwrapped(flag: int, modes: set[int]) -> None:
    """R-10, R-71: WRAP checks the policy of the key only. UNWRAP also checks that of the object."""
    user = guest()
    blob = wrapped(user, LEAST | flag << 32)
    for mode in (0, 1, 2):
        again(user, mode)
        assert unwrap(user, blob).status == (0 if mode in modes else -10)


def test_an_object_demands_that_a_password_is_set() -> None:
    """R-13, R-71: While no password is set, UNWRAP is refused: each wrapped object demands a password."""
    user = guest()
    blob = wrapped(user)
    user.ipl()
    assert user.unwrap(SYSTEM, blob) == Answer(-10)
    assert user.refusals[-1].rule is rules.VERDICT_PWSET
    user.set_password(SYSTEM, PASSWORD)
    assert unwrap(user, blob).written == SECRET


@pytest.mark.parametrize("policy,modes", [(0, {0, 1, 2}), (AUDIT, {1, 2}), (ENFORCE, {2})])
def test_the_policy_of_the_key_is_checked_at_every_use(policy: int, modes: set[int]) -> None:
    """R-10, R-71: WRAP and UNWRAP check the secure-boot mode that the key's policy demands."""
    user = Guest(make_partition("NEXT", mode=2))
    user.set_password(SYSTEM, PASSWORD)
    user.gen_key(SYSTEM, LABEL, policy=WRAPPING | policy, password=PASSWORD)
    blob = wrapped(user)
    for mode in (0, 1, 2):
        again(user, mode)
        status = 0 if mode in modes else -10
        assert user.wrap(SYSTEM, LABEL, SECRET, password=PASSWORD).status == status
        assert unwrap(user, blob).status == status


def test_what_is_no_key_wraps_nothing() -> None:
    user = guest()
    user.write(SYSTEM, b"plain", b"x" * 32, password=PASSWORD)
    assert user.wrap(SYSTEM, b"plain", SECRET, password=PASSWORD) == Answer(-78)
    assert user.wrap(SYSTEM, b"absent", SECRET, password=PASSWORD) == Answer(-7)
    assert unwrap(user, second.wrap(b"x" * 32, SECRET)) == Answer(-7)


@pytest.mark.parametrize(
    "place,status",
    [(0, -67), (4, -67), (15, -67), (5, -70), (16, -7), (40, -70), (67, -70), (900, -70), (1010, -70)],
)
def test_a_damaged_object_is_refused_by_what_is_damaged(place: int, status: int) -> None:
    """R-71: A damaged object is refused for its format, key or integrity. Nothing is written."""
    user = guest()
    blob = wrapped(user)
    spoilt = blob[:place] + bytes([blob[place] ^ 2]) + blob[place + 1 :]
    assert unwrap(user, spoilt) == Answer(status)
    assert user.refusals[-1].argument == "input"


def test_buffers_may_be_larger_than_needed() -> None:
    """R-71: r5 is the number of written bytes, and no byte after them changes."""
    user = guest()
    auth = auth_block(SYSTEM, PASSWORD)
    blob = user.do(
        Opcode.WRAP_OBJECT, authorization=auth, label=LABEL, flags=LEAST, input=SECRET, output=8192
    )
    assert (blob.r5, len(blob.written)) == (1056, 1056)
    back = user.do(Opcode.UNWRAP_OBJECT, authorization=auth, input=blob.written, output=4096)
    assert back == Answer(0, 0, 32, SECRET)


WRAP_DAMAGES = [each for each in damages() if each.strict and each.arg.alignment == 4096]


@pytest.mark.parametrize("damage", WRAP_DAMAGES, ids=str)
def test_wrap_buffers_have_a_switch_of_their_own(damage: Damage) -> None:
    """R-76: Without strict wrapping, WRAP's buffers may start anywhere.

    All other rules of strict memory apply.
    """
    partition = make_partition("NEXT", objects=[KEY_OBJECT])
    partition.strict_wrapping = False
    user = Guest(partition)
    user.set_password(SYSTEM, SYSTEMS)
    layout = good(damage.opcode)
    damage.hurt(layout)
    assert user.send(layout.frame()).status == 0
    other = good(damage.opcode)
    start, _, _, data = other.memory["authorization"]
    other.readable("authorization", data, start + 8)
    assert user.send(other.frame()) == Answer(-4)


OTHER_DAMAGES = [each for each in damages() if each.strict and each.arg.alignment != 4096]


@pytest.mark.parametrize("damage", OTHER_DAMAGES, ids=str)
def test_relaxed_wrapping_relaxes_no_other_buffer(damage: Damage) -> None:
    """R-76: Relaxed wrapping changes no rule for labels, data and authorization blocks."""
    partition = make_partition("NEXT", 128, objects=[KEY_OBJECT])
    partition.strict_wrapping = False
    user = Guest(partition)
    user.set_password(SYSTEM, SYSTEMS)
    assert user.write(SYSTEM, b"label", b"its data", password=SYSTEMS) == Answer(0)
    layout = good(damage.opcode)
    damage.hurt(layout)
    assert user.send(layout.frame()) == Answer(damage.arg.status)


# Tokens


@pytest.mark.parametrize("opcode", [Opcode.WRAP_OBJECT, Opcode.UNWRAP_OBJECT])
def test_a_token_goes_on_once_with_the_call_that_it_was_given_for(opcode: Opcode) -> None:
    """R-75: A continue token is refused after its use, after an IPL, and with another call."""
    user = guest()
    blob = wrapped(user)

    def go_on(token: int) -> int:
        if opcode is Opcode.WRAP_OBJECT:
            return user.wrap(SYSTEM, LABEL, SECRET, token=token, password=PASSWORD).status
        return user.unwrap(SYSTEM, blob, token=token, password=PASSWORD).status

    tokens = store(user).continuations
    due, foreign = tokens.issue(opcode), tokens.issue(Opcode.SIGNED_UPDATE)
    stale = int(CALLS[opcode].arg("token").status)
    assert [go_on(foreign), go_on(due), go_on(due)] == [stale, 0, stale]
    due = tokens.issue(opcode)
    again(user)
    assert go_on(due) == stale


def test_tokens_are_bounded_and_drop_the_oldest() -> None:
    """R-23: Tokens of busy calls that are not continued use bounded memory. The oldest is dropped."""
    tokens = store(guest()).continuations
    issued = [tokens.issue(Opcode.WRAP_OBJECT) for _ in range(17)]
    assert len(set(issued)) == 17
    assert [(Opcode.WRAP_OBJECT, token) in tokens for token in issued] == [False] + [True] * 16


def test_tokens_are_never_0_nor_given_twice_whatever_the_entropy() -> None:
    """R-04: Even if entropy returns zeros, no token is 0 or issued twice."""
    tokens = Continuations(bytes)
    assert [tokens.issue(Opcode.WRAP_OBJECT) for _ in range(3)] == [1, 2, 3]
