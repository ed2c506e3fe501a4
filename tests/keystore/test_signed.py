"""The object that a SIGNED_UPDATE changes in a keystore. A refused update changes nothing (R-15)."""

import pytest

from hcall_abi.calls import Opcode
from hcall_abi.consumers import Consumer, SecureBoot
from hcall_abi.statuses import Status
from hcall_server.hcalls.refusals import refusal_of
from hcall_server.keystore.access import Credentials
from hcall_server.keystore.image import StoredObject
from hcall_server.keystore.refusals import KeystoreRefusal, NoRoom, NotFound
from hcall_server.keystore.store import Keystore
from swpks.conformance.oracle import BAD_POLICY, Presented, answer
from swpks.conformance.oracle import MatrixRow as Row
from swpks.conformance.oracle import OracleCall as Call
from tests.guest import OVERHEAD, make_partition
from tests.keystore.matrix import MODES, NEWEST, OWNERS, rows

OS, FIRMWARE = Consumer.OPERATING_SYSTEM, Consumer.FIRMWARE
SIGNED, WORLD, IMMUTABLE, PWSET, ENFORCE = 0x0100_0000, 0x0800_0000, 0x0400_0000, 0x1000_0000, 0x2000_0000


def store() -> Keystore:
    keystore = make_partition(kbytes=4).keystore
    assert keystore is not None
    return keystore


def update(keystore: Keystore, label: bytes, data: bytes | None, policy: int = SIGNED) -> bytes | None:
    """Make a whole signed update. Its signature is not checked at this interface."""
    before = keystore.signed.begin(Credentials(OS, b""), label, policy)
    keystore.signed.update(OS, label, policy, data)
    return before


def refused(keystore: Keystore, label: bytes, policy: int, password: bytes = b"") -> Status:
    with pytest.raises(KeystoreRefusal) as caught:
        keystore.signed.begin(Credentials(OS, password), label, policy)
    return refusal_of(Opcode.SIGNED_UPDATE, caught.value).status


def test_an_update_makes_replaces_and_removes() -> None:
    """R-15: each update sees the object that the last one left. Space and generation are right after each."""
    keystore = store()
    assert update(keystore, b"db", b"first", WORLD | SIGNED) is None
    assert update(keystore, b"db", b"a longer second", WORLD | SIGNED) == b"first"
    assert keystore.contents.used == 2 + 15 + OVERHEAD
    assert keystore.objects.read(Credentials(OS, b""), b"db").policy == WORLD | SIGNED
    assert update(keystore, b"db", None, WORLD | SIGNED) == b"a longer second"
    assert (keystore.contents.used, keystore.contents.object_count, keystore.contents.generation) == (0, 0, 3)
    assert keystore.objects.confirm(Credentials(OS, b""), b"db") is False
    keystore.contents.mark_flushed(3)
    with pytest.raises(NotFound):
        keystore.objects.confirm(Credentials(OS, b""), b"db")


def test_removing_what_is_not_there_changes_nothing() -> None:
    keystore = store()
    assert update(keystore, b"db", None) is None
    assert not keystore.contents.dirty


def test_space_is_that_of_the_difference() -> None:
    """R-07: an update may use the space of the old contents. A refused update changes nothing."""
    keystore = store()
    room = 4096 - OVERHEAD - 2
    update(keystore, b"db", bytes(room))
    update(keystore, b"db", bytes(room - 1))
    generation = keystore.contents.generation
    with pytest.raises(NoRoom):
        keystore.signed.update(OS, b"db", SIGNED, bytes(room + 1))
    assert (keystore.signed.data(OS, b"db"), keystore.contents.generation) == (bytes(room - 1), generation)


def test_the_policy_word_stays() -> None:
    """R-15: an update with another policy word than the stored object's returns H_P4."""
    keystore = store()
    update(keystore, b"db", b"x", SIGNED)
    keystore.objects.write(Credentials(OS, b""), b"plain", WORLD, b"x")
    assert refused(keystore, b"db", SIGNED | WORLD) is Status.H_P4
    assert refused(keystore, b"plain", SIGNED | WORLD) is Status.H_P4
    assert keystore.signed.data(OS, b"plain") is None


def test_what_may_be_tried() -> None:
    """R-10, R-12, R-13: an update needs the right password. Then the object's policy must allow it."""
    keystore = store()
    assert refused(keystore, b"db", SIGNED | PWSET) is Status.H_AUTHORITY
    assert refused(keystore, b"db", SIGNED | ENFORCE) is Status.H_AUTHORITY
    keystore.access.secure_boot = SecureBoot.ENFORCE
    assert keystore.signed.begin(Credentials(OS, b""), b"db", SIGNED | ENFORCE) is None
    update(keystore, b"fixed", b"x", SIGNED | IMMUTABLE)
    assert refused(keystore, b"fixed", SIGNED | IMMUTABLE) is Status.H_AUTHORITY
    keystore.access.passwords.set(OS, b"right")
    assert refused(keystore, b"fixed", SIGNED, b"wrong") is Status.H_AUTHORITY
    assert keystore.signed.begin(Credentials(OS, b"right"), b"db", SIGNED | PWSET) is None


def test_delete_everything_takes_one_consumers_signed_objects() -> None:
    """R-15: "delete everything" removes one consumer's signed objects of any policy. Plain objects stay."""
    keystore = store()
    for label, policy in ((b"PK", SIGNED), (b"db", SIGNED | WORLD), (b"fixed", SIGNED | IMMUTABLE)):
        update(keystore, label, b"x", policy)
    keystore.signed.update(FIRMWARE, b"PK", SIGNED, b"x")
    keystore.objects.write(Credentials(OS, b""), b"plain", 0, b"x")
    assert keystore.signed.remove_all(OS) == 3
    assert keystore.contents.object_count == 2
    assert keystore.objects.confirm(Credentials(OS, b""), b"PK") is False
    assert keystore.signed.remove_all(OS) == 0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("owner", OWNERS)
def test_every_row_of_the_matrix(owner: int, mode: int) -> None:
    """R-17, R-15: on each row of the matrix, engine and oracle decide alike whether an update may begin."""
    for row in rows(Call.SIGNED, NEWEST, owner, mode):
        if answer(row).status != BAD_POLICY:
            assert tried(row) == answer(row).status, row


def tried(row: Row) -> int:
    """Return the status with which an update of the row's object begins."""
    objects = [StoredObject(row.owner, b"db", row.word, b"x")] if row.exists else []
    keystore = make_partition(NEWEST, objects=objects, mode=row.mode).keystore
    assert keystore is not None
    for consumer in Consumer:
        if consumer != row.owner or row.password_set:
            keystore.access.passwords.set(consumer, b"password %d" % consumer)
    own = b"password %d" % row.owner
    shown = {
        Presented.NOTHING: b"",
        Presented.RIGHT: own,
        Presented.WRONG: own[:-1] + b"?",
        Presented.SHORTER: own[:-1],
        Presented.LONGER: own + b"x",
        Presented.ANOTHERS: b"password %d" % (row.owner % 3 + 1),
    }[row.presented]
    try:
        keystore.signed.begin(Credentials(Consumer(row.owner), shown), b"db", row.word)
    except KeystoreRefusal as error:
        return int(refusal_of(Opcode.SIGNED_UPDATE, error).status)
    return 0
