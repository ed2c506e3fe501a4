"""SIGNED_UPDATE in the whole engine: its statuses, the latch, and that a refusal changes nothing."""

import functools
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcall_abi.calls import CALLS, Opcode
from hcall_abi.frames import Segment
from hcall_abi.rules import updates as rules
from hcall_abi.rules.rule import Rule
from hcall_abi.variables import POLICIES, WIPE_SENTENCE
from hcall_client.guests import authvar
from tests.guest import (
    BOOT_LOADER,
    FIRMWARE,
    OVERHEAD,
    SYSTEM,
    Answer,
    auth_block,
    console_sets,
    lay_out,
)
from tests.hcalls.owner import ARMED, PASSWORD, Owner, first_pk, set_up
from tests.secvar.keys import BEFORE, NOW, contents_of, kek, of_form, pk, stranger, update

H_AUTHORITY, H_NO_MEM, H_NOT_FOUND = -10, -9, -7
H_P2, H_P3, H_P4, H_P5, H_P6, H_P7, H_P8 = range(-55, -62, -1)
LATER = NOW._replace(minute=59)


def test_from_the_first_pk_to_the_databases() -> None:
    """R-15, R-70: The first PK is not verified. PK signs KEK, and KEK signs all others.

    READ returns the contents.
    """
    guest = set_up()
    head = struct.pack("<BHBBBBB", 0, *NOW)
    for name in list(POLICIES)[2:]:
        contents = contents_of(name)
        assert guest.update(name, update(name, contents, kek())) == Answer(0)
        assert guest.stored(name) == head + contents
    assert guest.stored("PK") == struct.pack("<BHBBBBB", 0, *BEFORE) + pk().lists
    assert guest.refusals == []


def test_who_may_read_variables() -> None:
    """R-11, R-70: Every consumer can read the databases that other stages use.

    Only the system can read PK, KEK and the rest.
    """
    guest = set_up()
    for name in list(POLICIES)[2:]:
        assert guest.update(name, update(name, contents_of(name))) == Answer(0)
    for name, policy in POLICIES.items():
        answer = guest.read(SYSTEM, authvar.variable_label(name))
        assert (answer.status == 0) == bool(policy & 0x0800_0000)
        assert guest.read(SYSTEM, authvar.variable_label(name), password=PASSWORD).r5 == policy


def test_confirm_after_updates() -> None:
    """R-20: CONFIRM reports an update as it reports a WRITE, and a deletion as a REMOVE."""
    guest = set_up()
    assert guest.confirmed("PK") == Answer(0, 0)
    guest.flush()
    assert guest.confirmed("PK") == Answer(0, 1)
    assert guest.update("PK", update("PK", stranger().lists)) == Answer(0)
    assert guest.confirmed("PK") == Answer(0, 0)
    guest.flush()
    assert guest.update("KEK", update("KEK", b"", stranger(), time=LATER)) == Answer(0)
    assert guest.confirmed("KEK") == Answer(0, 0)
    guest.flush()
    assert guest.confirmed("KEK") == Answer(H_NOT_FOUND, 1)
    assert guest.confirmed("PK") == Answer(0, 1)


def test_space_follows_the_contents() -> None:
    """R-07: Used space counts label, header and present contents of a variable.

    A replacement frees the old.
    """
    guest = set_up()
    used = guest.config().used
    cost = len(authvar.variable_label("db")) + 8 + OVERHEAD
    for second, size in enumerate((100, 50, 200)):
        payload = update("db", bytes(size), time=NOW._replace(second=second))
        assert guest.update("db", payload) == Answer(0)
        assert guest.config().used == used + cost + size
    assert guest.update("db", update("db", b"", kek(), time=LATER)) == Answer(0)
    assert guest.config().used == used + cost
    assert guest.update("db", update("db", b"", time=LATER._replace(second=59))) == Answer(0)
    assert guest.config().used == used


def test_a_replacement_that_does_not_fit_leaves_the_old_one() -> None:
    """R-07: If a replacement does not fit, H_NO_MEM is returned and the old contents stay."""
    guest = Owner(kbytes=4)
    assert guest.update("PK", first_pk()) == Answer(0)
    assert guest.update("db", update("db", b"old", time=BEFORE)) == Answer(0)
    before = guest.picture()
    assert guest.update("db", update("db", bytes(3600))) == Answer(H_NO_MEM)
    assert guest.picture() == before


def test_append() -> None:
    """R-70: With flag 1, an update appends to the contents. Entries that exist are not added again."""
    guest, payload = set_up(), update("dbx", kek().lists, kek(), append=True)
    for _ in range(2):
        assert guest.update("dbx", payload, flags=1) == Answer(0)
        assert guest.stored("dbx") == struct.pack("<BHBBBBB", 0, *NOW) + kek().lists
    assert guest.update("dbx", payload) == Answer(H_AUTHORITY)


def test_everything_is_deleted() -> None:
    """R-36, R-70: The wipe sentence deletes the system's objects of signed updates, and no others."""
    guest = set_up()
    guest.write(SYSTEM, b"plain", b"data", password=PASSWORD)
    guest.write(FIRMWARE, authvar.variable_label("db"), b"data")
    guest.flush()
    console_sets(guest.partition, ARMED)
    wipe = authvar.payload(BEFORE, b"-", bytes(44) + WIPE_SENTENCE)
    assert guest.update("PK", wipe) == Answer(0)
    assert guest.all_labels(SYSTEM, password=PASSWORD) == [b"plain"]
    assert guest.all_labels(FIRMWARE) == [authvar.variable_label("db")]
    assert not guest.partition.attributes.keystore_signed_updates_without_verification
    assert [guest.confirmed(name) for name in ("PK", "KEK")] == [Answer(0, 0)] * 2
    guest.flush()
    assert [guest.confirmed(name) for name in ("PK", "KEK")] == [Answer(H_NOT_FOUND, 1)] * 2
    assert guest.update("PK", wipe) == Answer(H_P6)


def test_only_signed_objects_are_keys() -> None:
    """R-15, R-70: An object that WRITE made under PK's label is no key, and a PK update is refused."""
    guest = Owner()
    label = authvar.variable_label("PK")
    assert guest.write(SYSTEM, label, stranger().variable, password=PASSWORD) == Answer(0)
    assert guest.update("db", update("db", b"x", stranger())) == Answer(H_AUTHORITY)
    assert guest.update("PK", first_pk()) == Answer(H_P4)
    assert guest.remove(SYSTEM, label, password=PASSWORD) == Answer(0)
    assert guest.update("PK", first_pk()) == Answer(0)


def test_keys_belong_to_a_consumer_and_an_operating_system() -> None:
    """R-03, R-70: Another consumer, or another operating system's flag in the label, means another PK."""
    guest = set_up()
    payload = update("db", b"x")
    for consumer in (FIRMWARE, BOOT_LOADER):
        assert guest.update("db", payload, authorization=auth_block(consumer)) == Answer(H_AUTHORITY)
    label = bytearray(authvar.variable_label("db"))
    label[9] = 4
    assert guest.update("db", payload, label=bytes(label)) == Answer(H_AUTHORITY)
    assert guest.update("db", payload) == Answer(0)


def test_policies_of_variables() -> None:
    """R-10 to R-15: The conditions of the policy word also apply to updates.

    An update can't change the word.
    """
    guest = set_up()
    for policy, status in (
        (0, H_P4),
        (0x0800_0000, H_P4),
        (0x0180_0000, H_P4),
        (0x0100_0008, H_P4),
        # in enforce mode a policy needs authority
        (0x2100_0000, H_AUTHORITY),
        (0x0500_0000, 0),  # an immutable variable can be made, but not changed
    ):
        assert guest.update("db", update("db", b"x"), policy=policy) == Answer(status)
    later = update("db", b"y", time=LATER)
    assert guest.update("db", later, policy=0x0500_0000) == Answer(H_AUTHORITY)
    assert guest.update("db", later) == Answer(H_P4)
    # TRANSIENT: the IPL below removes the variable.
    assert guest.update("dbx", update("dbx", b"t"), policy=0x0300_0000) == Answer(0)
    guest.ipl()
    assert guest.read(SYSTEM, authvar.variable_label("dbx")) == Answer(H_NOT_FOUND)


def test_the_order_after_the_password() -> None:
    """R-70: After the password, checks go in order: word, policy, payload, signature, contents, space."""
    guest, enforce = Owner(kbytes=4), 0x2100_0000
    assert guest.update("PK", first_pk()) == Answer(0)
    assert guest.update("KEK", b"payload", policy=0x2100_0000) == Answer(H_AUTHORITY)
    guest.ipl(2)
    guest.set_password(SYSTEM, PASSWORD)
    assert guest.update("KEK", update("KEK", kek().lists), policy=enforce) == Answer(0)
    guest.ipl(0)
    guest.set_password(SYSTEM, PASSWORD)
    assert guest.update("KEK", b"payload") == Answer(H_P4)
    assert guest.update("KEK", b"payload", policy=enforce) == Answer(H_AUTHORITY)
    assert "secure-boot mode" in guest.refusals[-1].rule.sentence
    guest.ipl(2)
    guest.set_password(SYSTEM, PASSWORD)
    too_much, trailing = kek().lists * 5, kek().lists * 5 + b"x"
    assert guest.update("KEK", b"payload", policy=enforce) == Answer(H_P6)
    assert guest.update("KEK", update("KEK", trailing, kek()), policy=enforce) == Answer(H_AUTHORITY)
    early = update("KEK", trailing, time=BEFORE)
    assert guest.update("KEK", early, policy=enforce) == Answer(H_AUTHORITY)
    assert guest.refusals[-1].rule is rules.UPDATE_TIME_LATER
    late = update("KEK", trailing, time=LATER)
    assert guest.update("KEK", late, policy=enforce) == Answer(H_P6)
    assert guest.update("KEK", update("KEK", too_much, time=LATER), policy=enforce) == Answer(H_NO_MEM)


BROKEN = [
    ("label", authvar.variable_label("db")[1:], H_P2, rules.UPDATE_LABEL),
    ("label", authvar.variable_label("db") + b"x", H_P2, rules.UPDATE_NAME_WIDE),
    ("label", authvar.variable_label("d\0"), H_P2, rules.UPDATE_NAME_NUL),
    ("label", b"", H_P3, None),
    ("label", authvar.variable_label("x" * 120), H_P3, None),
    ("flags", 2, H_P5, rules.UPDATE_FLAGS),
    ("data", b"", H_P7, None),
    ("data", bytes(0x1_0000), H_P7, None),
    ("data", bytes(39), H_P6, rules.UPDATE_HEADER),
    ("token", 1, H_P8, None),
    ("authorization", auth_block(SYSTEM, b"wrong"), H_AUTHORITY, None),
    ("authorization", auth_block(SYSTEM), H_AUTHORITY, None),
]


@pytest.mark.parametrize("argument,value,status,rule", BROKEN)
def test_a_bad_argument(argument: str, value: bytes | int, status: int, rule: Rule | None) -> None:
    """R-70, R-76: A bad argument has its status and its rule in the log, and changes nothing."""
    guest = set_up()
    before = guest.picture()
    broken: dict[str, Any] = {argument: value}
    assert guest.update("db", update("db", b"x"), **broken) == Answer(status)
    assert guest.picture() == before
    refusal = guest.refusals[-1]
    if rule:
        assert refusal.rule is rule
        assert refusal.argument == argument
    assert refusal.rule.page.startswith("spec/")


def test_pk_is_not_appended_to() -> None:
    """R-70: An append to PK is refused with H_P5, whether the latch is armed or not."""
    for attributes in (ARMED, {"keystore_signed_updates": 1}):
        guest = Owner(attributes)
        assert guest.update("PK", first_pk(), flags=1) == Answer(H_P5)
        assert guest.refusals[-1].rule is rules.UPDATE_PK_APPEND


def test_a_refusal_tells_its_rule_and_changes_nothing() -> None:
    """R-70: After a bad signature, an old time or bad contents, nothing changes.

    The log has the rule, but not the payload.
    """
    guest = set_up()
    assert guest.update("db", update("db", b"old")) == Answer(0)
    before = guest.picture()
    for name, payload, status, rule in (
        ("db", update("db", b"canary"), H_AUTHORITY, rules.UPDATE_TIME_LATER),
        ("db", update("db", b"canary", stranger(), time=LATER), H_AUTHORITY, rules.UPDATE_BY_PK_OR_KEK),
        ("KEK", update("KEK", kek().lists, kek()), H_AUTHORITY, rules.UPDATE_BY_PK),
        ("PK", update("PK", bytes(44) + WIPE_SENTENCE), H_AUTHORITY, rules.UPDATE_WIPE_ARMED),
        ("PK", update("PK", pk().lists * 2), H_P6, rules.UPDATE_PK_CONTENTS),
        ("db", update("db", b"x", time=LATER)[:60], H_P6, rules.UPDATE_PART_WITHIN),
    ):
        assert guest.update(name, payload) == Answer(status)
        refusal = guest.refusals[-1]
        assert refusal.rule is rule
        assert refusal.argument == ("data" if status == H_P6 else None)
        assert "canary" not in str(refusal) + repr(vars(refusal))
        assert guest.picture() == before


def test_what_get_config_tells() -> None:
    """R-36, R-74: GET_CONFIG has the signature algorithms if the partition may use SIGNED_UPDATE."""
    assert Owner().config().algorithms == 0xC000_0000_0000_0000
    guest = Owner({})
    assert guest.config().algorithms == 0
    assert guest.update("PK", first_pk()) == Answer(-2)


@pytest.fixture(scope="module")
def fuzzed() -> Owner:
    """A guest that gets many refused updates."""
    return set_up()


@settings(max_examples=300)
@given(st.data())
def test_fuzz(fuzzed: Owner, data: st.DataObject) -> None:
    """R-70: damaged buffers and registers get a status of the call, and the store is unchanged."""
    good = lay_out(
        Opcode.SIGNED_UPDATE,
        authorization=auth_block(SYSTEM, PASSWORD),
        label=authvar.variable_label("db"),
        policy=authvar.variable_policy("db"),
        data=update_of_db(),
    )
    name = data.draw(st.sampled_from(["label", "data", "authorization", "registers"]))
    if name == "registers":
        register = data.draw(st.sampled_from(list(good.registers)))
        good.registers[register] = data.draw(st.integers(0, (1 << 64) - 1))
    else:
        segment = good.memory[name]
        at = data.draw(st.integers(0, segment.length - 1))
        damage = data.draw(st.binary(min_size=1, max_size=4))
        damaged = (segment.data[:at] + damage + segment.data[at + len(damage) :])[: segment.length]
        good.memory[name] = Segment(segment.address, segment.length, segment.access, damaged)
    before = fuzzed.picture()
    answer = fuzzed.send(good.frame())
    assert answer.status in CALLS[Opcode.SIGNED_UPDATE].statuses
    if answer.status:
        assert fuzzed.picture() == before
    else:  # the damage was in unsigned bytes, or changed nothing
        fuzzed.remove(SYSTEM, authvar.variable_label("db"), password=PASSWORD)


@functools.cache
def update_of_db() -> bytes:
    """Return a good update of db. It is signed only once."""
    return update("db", b"contents")


DOUBTFUL: dict[str, Any] = {"attributes": True, "by_key": True}
REASONS = ("a signature is over signed attributes", "a signer is named by a key identifier")


def test_doubts_are_kept_for_the_log() -> None:
    """R-70: Doubts about a form are logged for an accepted update only.

    A refused update, and a PK without verification, give no doubts.
    """
    guest = set_up()
    keystore = guest.partition.keystore
    assert keystore is not None
    assert keystore.signed.doubts == []
    assert guest.update("db", of_form("db", b"x", stranger(), **DOUBTFUL)) == Answer(H_AUTHORITY)
    console_sets(guest.partition, ARMED)
    assert guest.update("PK", of_form("PK", pk().lists, pk(), time=BEFORE, **DOUBTFUL)) == Answer(0)
    assert keystore.signed.doubts == []
    assert guest.update("db", of_form("db", b"x", pk(), **DOUBTFUL)) == Answer(0)
    assert guest.update("KEK", of_form("KEK", b"", pk(), time=LATER, by_key=True)) == Answer(0)
    label, other = (authvar.variable_label(name) for name in ("db", "KEK"))
    assert keystore.signed.doubts == [(label, REASONS), (other, REASONS[1:])]


def test_strict_updates() -> None:
    """R-70: A strict system refuses doubtful forms with H_P6 before it tries a key.

    It does not check a PK without verification.
    """
    guest = Owner(strict_updates=True)
    assert guest.update("PK", of_form("PK", pk().lists, stranger(), **DOUBTFUL)) == Answer(0)
    forms: list[dict[str, Any]] = [{"attributes": True}, {"by_key": True}, DOUBTFUL]
    for form in forms:
        before = guest.picture()
        assert guest.update("db", of_form("db", b"x", stranger(), **form)) == Answer(H_P6)
        assert guest.refusals[-1].rule is rules.UPDATE_STRICT
        assert guest.picture() == before
    assert guest.update("db", of_form("db", b"x", pk())) == Answer(0)
