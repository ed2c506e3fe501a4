"""Recovery at a start: stored partitions return; a damaged record disables only its own partition."""

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast
from uuid import UUID

import pytest
import trio

from hcall_abi.consumers import SecureBoot
from hcall_abi.errors import OperatorError, StorageError
from hcall_abi.levels import LEVELS
from hcall_server.keystore.image import StoreImage
from hcall_server.nvram.names import COMMIT, SYSTEM, parse_partition
from hcall_server.platform.power import Power
from hcall_server.platform.system import ManagedSystem
from hcall_server.sealing import (
    CommitAuthority,
    PartitionRecord,
    SealedKind,
    Sealer,
    SealingError,
    encode_image,
    open_partition,
    seal_partition,
)
from hcall_server.writeback.recover import largest_free, recover_partitions, recover_system
from tests.guest import Answer, Chance
from tests.writeback.rig import FLUSHED, IDENTITY, Rig, committed, make_sealer, nth_record

FOREIGN = make_sealer(IDENTITY._replace(system_id=b"another system.."))
OTHER_KEY = make_sealer(IDENTITY._replace(root_key=b"another root key, of 32 bytes..."))
Records = dict[str, bytes]


def stored(partitions: int = 3, kbytes: int = 64) -> tuple[Records, Records]:
    """Return the records of NVRAM after one flush of each partition, and after a second one."""

    async def live() -> tuple[Records, Records]:
        rig = Rig(partitions, kbytes=kbytes)
        held = []
        for turn in (b"early", b"late"):
            for n in range(partitions):
                rig.write(turn, b"data of %d" % (n + 1), n=n)
            await rig.encryptor.flush()
            held.append(dict(rig.journal.records))
        return held[0], held[1]

    return trio.run(live)


EARLY, STORED = stored()
ONE, TWO, THREE = (nth_record(STORED, number) for number in (1, 2, 3))
UUID_2 = parse_partition(TWO) or UUID(int=0)
PROFILE_2 = open_partition(make_sealer(), UUID_2, STORED[TWO]).profile
COMMIT_OF_STORED = CommitAuthority(IDENTITY.root_key).decode(STORED[COMMIT])


def sealed(sealer: Sealer, plaintext: bytes | None = None) -> bytes:
    """Return a sealed record of partition 2 with this plaintext.

    By default, the record has an empty image.
    """
    if plaintext is None:
        return seal_partition(sealer, PartitionRecord(PROFILE_2, StoreImage(2, ())))
    return sealer.seal(SealedKind.PARTITION, UUID_2, 2, plaintext)


def with_image(image: bytes) -> bytes:
    """Return an authentic record of partition 2 whose image has these bytes."""
    _, plaintext = make_sealer().open(SealedKind.PARTITION, UUID_2, sealed(make_sealer()))
    return sealed(make_sealer(), plaintext[: -len(encode_image(StoreImage(2, ())))] + image)


def flipped(blob: bytes, at: int, bit: int = 1) -> bytes:
    return blob[:at] + bytes([blob[at] ^ bit]) + blob[at + 1 :]


UNREADABLE = [
    # columns: a name, the damage to the record of partition 2, a word of the refusal
    ("gone", lambda blob: None, "missing"),
    ("empty", lambda blob: b"", "truncated"),
    ("cut in its header", lambda blob: blob[:20], "truncated"),
    ("cut by a byte", lambda blob: blob[:-1], "truncated"),
    ("a byte longer", lambda blob: blob + b"\0", "1 bytes too many"),
    ("zeros", lambda blob: bytes(len(blob)), "magic is missing"),
    ("a text", lambda blob: b"not a sealed blob, but long enough " * 9, "magic is missing"),
    ("of a later format", lambda blob: flipped(blob, 4, 1), "format level 3"),
    ("one bit of the ciphertext", lambda blob: flipped(blob, 60), "does not authenticate"),
    ("one bit of the tag", lambda blob: flipped(blob, len(blob) - 1), "does not authenticate"),
    ("partition 1's", lambda blob: STORED[ONE], f"swapped: this is the record of {ONE.replace('/', ' ')}"),
    (
        "partition 3's",
        lambda blob: STORED[THREE],
        f"swapped: this is the record of {THREE.replace('/', ' ')}",
    ),
    ("the system's", lambda blob: STORED[SYSTEM], "says that it is"),
    ("the commit record", lambda blob: STORED[COMMIT], "magic is missing"),
    ("another system's", lambda blob: sealed(FOREIGN), "does not auth"),
    ("another key's", lambda blob: sealed(OTHER_KEY), "does not auth"),
    ("plaintext of zeros", lambda blob: sealed(make_sealer(), bytes(80)), "authentic but"),
    (
        "an image that is too long",
        lambda blob: with_image(encode_image(StoreImage(2, ())) + b"x"),
        "authentic but",
    ),
    ("an image of zeros", lambda blob: with_image(bytes(8)), "authentic but"),
    ("no image", lambda blob: with_image(b""), "authentic but"),
]
"""Records that do not open: of the profile only the values in the system record are known."""
OTHER_COPIES = [
    ("an older one", lambda blob: EARLY[TWO], "not the one of the last commit"),
    ("a new sealing of another image", lambda blob: sealed(make_sealer()), "not the one of the last commit"),
]
"""Genuine records in the place of the last one."""
Damage = Callable[[bytes], bytes | None]


def damaged(damage: Damage) -> Records:
    """Return the records with another record, or none, in place of partition 2's."""
    records = dict(STORED)
    blob = damage(records.pop(TWO))
    return records if blob is None else {**records, TWO: blob}


def the_others_serve(rig: Rig) -> None:
    """Check that partitions 1 and 3 have all their objects, flushed, and accept new ones."""
    for number in (1, 3):
        partition = rig.system.by_number(number)
        assert partition is not None
        guest = rig.guests[[each.partition for each in rig.guests].index(partition)]
        assert guest.read(3, b"early").written == guest.read(3, b"late").written == b"data of %d" % number
        assert guest.confirm(3, b"late")[:2] == FLUSHED
        assert guest.write(3, b"new", b"data") == Answer(0)


def test_everything_comes_back() -> None:
    """R-20, R-22: A start finds all sizes, counts, modes and objects, and all objects count as flushed."""
    rig = Rig(0, records=STORED)
    assert rig.refused == []
    assert [(each.number, each.name, each.kbytes) for each in rig.system.partitions.values()] == [
        (n, f"lpar{n}", 64) for n in (1, 2, 3)
    ]
    record = recover_system(STORED, COMMIT_OF_STORED, make_sealer())
    assert (record.firmware, [(each.number, each.name) for each in record.roster]) == (
        "FW1110",
        [(1, "lpar1"), (2, "lpar2"), (3, "lpar3")],
    )
    the_others_serve(rig)
    assert rig.objects(1) == {b"early": b"data of 2", b"late": b"data of 2"}


def test_nothing_is_found_in_nothing() -> None:
    """Without records, a start finds no partitions."""
    rig = Rig(0)
    assert (rig.refused, list(rig.system.partitions)) == ([], [])


@pytest.mark.parametrize("damage,reason", [row[1:] for row in UNREADABLE], ids=[row[0] for row in UNREADABLE])
def test_a_record_that_does_not_open_takes_its_partition_out(damage: Damage, reason: str) -> None:
    """R-22: A partition whose record does not open is refused under its name, with the reason.

    It can't be started or created again. All others serve.
    """
    rig = Rig(0, records=damaged(damage))
    partition = rig.system.find("lpar2")
    assert rig.refused == [partition]
    assert (partition.number, partition.keystore, partition.name_unknown) == (2, None, False)
    assert (partition.profile.uuid, partition.kbytes, partition.access_key) == (UUID_2, 0, b"")
    assert isinstance(partition.refused, StorageError)
    assert f"the record of partition {UUID_2}" in partition.refused.message
    assert reason in partition.refused.message
    assert partition.refused.rule.sentence
    assert partition.refused.rule.page.startswith("spec/sealed.md#")
    with pytest.raises(OperatorError, match=re.escape(reason)):
        rig.system.power_on("lpar2")
    with pytest.raises(OperatorError, match="lpar2"):
        rig.system.create("lpar2", 4)
    assert rig.system.create("another", 4).number == 4
    the_others_serve(rig)


@pytest.mark.parametrize(
    "damage,reason", [row[1:] for row in OTHER_COPIES], ids=[row[0] for row in OTHER_COPIES]
)
def test_a_genuine_record_that_was_put_back_is_refused(damage: Damage, reason: str) -> None:
    """R-22: An authentic record that was put back is refused, so no removed object or used-up latch returns.

    The others serve.
    """
    rig = Rig(0, records=damaged(damage))
    partition = rig.system.find("lpar2")
    assert rig.refused == [partition]
    assert (partition.number, partition.kbytes, partition.keystore) == (2, 64, None)
    assert partition.refused is not None
    assert partition.refused.rule.id == "records.committed"
    assert "partition lpar2" in partition.refused.message
    assert reason in partition.refused.message
    the_others_serve(rig)


def test_a_record_that_no_commit_lists_is_refused() -> None:
    """R-22: A record that the last commit does not list was put back, so its partition is refused."""
    removed = committed({name: blob for name, blob in STORED.items() if name != TWO})
    rig = Rig(0, records={**removed, TWO: STORED[TWO]})
    (partition,) = rig.refused
    assert partition.refused is not None
    assert (partition.name, partition.refused.rule.id) == ("lpar2", "records.committed")
    the_others_serve(rig)


def test_a_record_that_nothing_names_has_a_stand_in() -> None:
    """R-22, R-47: A damaged record that the roster does not name gets a placeholder partition.

    Meanwhile no partition can be created: its name is unknown.
    """
    stranger = f"partition/{UUID(int=7, version=4)}"
    rig = Rig(0, records=committed({**STORED, stranger: b"damaged " * 20}))
    (partition,) = rig.refused
    assert (partition.name, partition.number) == (f"unreadable:{UUID(int=7, version=4)}", 65535)
    assert partition.name_unknown
    assert partition.kbytes == 0
    with pytest.raises(OperatorError):
        ManagedSystem(LEVELS["FW950"], bytes(16), Chance()).create(partition.name)
    with pytest.raises(OperatorError):
        rig.system.power_on(partition.name)
    with pytest.raises(OperatorError, match="lpar4 may exist already"):
        rig.system.create("lpar4", 4)
    the_others_serve(rig)


def test_a_stand_in_may_have_taken_the_number_of_a_lost_partition() -> None:
    """R-22, R-47: A placeholder has taken the number of a lost partition, which then gets another number."""

    async def live() -> Records:
        rig = Rig()
        rig.move(65535)
        rig.write(b"label")
        rig.encryptor.system_changed(rig.system)
        assert await rig.encryptor.flush()
        return rig.journal.records

    records = trio.run(live)
    name, stranger = nth_record(records, 65535), UUID(int=7, version=4)
    damaged_too = {name: b"damaged " * 20, f"partition/{stranger}": b"damaged " * 20}
    rig = Rig(0, records=committed({**records, **damaged_too}))
    found = {partition.name: partition.number for partition in rig.refused}
    assert found == {f"unreadable:{stranger}": 65535, f"unreadable:{parse_partition(name)}": 65534}


def test_the_largest_free_number_may_be_the_first() -> None:
    """R-47: Placeholders may take every valid number."""
    numbered = {number: SimpleNamespace(number=number) for number in range(2, 65536)}
    assert largest_free(cast(ManagedSystem, SimpleNamespace(partitions=numbered))) == 1


def test_only_what_is_missing_is_refused() -> None:
    """R-22: If a record is missing, only its partition is refused, and the reason names the record."""
    system = ManagedSystem(LEVELS["FW1110"], IDENTITY.system_id, Chance())
    roster = recover_system(STORED, COMMIT_OF_STORED, make_sealer()).roster
    records = damaged(lambda blob: None)
    (lost,) = recover_partitions(system, records, COMMIT_OF_STORED, make_sealer(), roster)
    assert len(system.partitions) == 3
    assert lost is system.by_number(2)
    assert lost.refused is not None
    assert lost.refused.message == f"the record of partition {UUID_2} is missing"


def test_the_total_counts_the_sizes_that_are_known() -> None:
    """R-22, R-34: The total counts the size in an older copy. A record that does not open counts as 0."""
    for damage, taken in ((lambda _: EARLY[TWO], 192), (lambda _: None, 128)):
        assert Rig(0, records=damaged(damage)).system.assigned_kbytes == taken


def test_a_record_that_claims_the_name_of_another_partition_is_lost() -> None:
    """R-01: An authentic record with an intact partition's number and name does not hide that partition."""
    twin = PROFILE_2._replace(uuid=UUID(int=9, version=4))
    name = f"partition/{twin.uuid}"
    rig = Rig(
        0, records={**STORED, name: seal_partition(make_sealer(), PartitionRecord(twin, StoreImage(2, ())))}
    )
    (partition,) = rig.refused
    assert partition.name == f"unreadable:{twin.uuid}"
    assert rig.system.find("lpar2").profile.uuid == UUID_2
    assert rig.system.find("lpar2").running


def test_any_flipped_byte_is_noticed() -> None:
    """R-02, R-22: If any byte of a record is changed, only its partition is refused."""
    for at in range(len(STORED[TWO])):
        rig = Rig(0, records=damaged(lambda blob, at=at: flipped(blob, at, 1 << at % 8)))  # type: ignore[misc]
        assert [each.number for each in rig.refused] == [2]
        assert [each.power for each in rig.system.partitions.values() if not each.refused] == [
            Power.RUNNING
        ] * 2


def test_two_records_that_changed_places_are_both_named() -> None:
    """R-01, R-22: If two records are exchanged, both partitions are refused, and both are named."""
    rig = Rig(0, records={**STORED, ONE: STORED[TWO], TWO: STORED[ONE]})
    reasons = {each.name: each.refused.message for each in rig.refused if each.refused}
    assert f"swapped: this is the record of {TWO.replace('/', ' ')}" in reasons["lpar1"]
    assert f"swapped: this is the record of {ONE.replace('/', ' ')}" in reasons["lpar2"]
    assert [each.name for each in rig.system.partitions.values() if each.running] == ["lpar3"]


def test_another_systems_records_open_nowhere() -> None:
    """R-02: With another root key, all partitions and the system record are refused."""
    system = ManagedSystem(LEVELS["FW1110"], IDENTITY.system_id, Chance())
    assert len(recover_partitions(system, STORED, COMMIT_OF_STORED, OTHER_KEY, ())) == 3
    with pytest.raises(SealingError):
        recover_system(STORED, COMMIT_OF_STORED, OTHER_KEY)


def test_a_system_record_that_was_put_back_stops_the_start() -> None:
    """R-34: An older system record is refused at the start, so no older total or level is used."""
    other = committed(Rig(1).journal.records)
    with pytest.raises(
        StorageError, match="the system record is genuine, but not the one of the last"
    ) as caught:
        Rig(0, records={**STORED, SYSTEM: other[SYSTEM]})
    assert caught.value.rule.id == "records.committed"


def test_records_of_other_names_are_left_alone() -> None:
    """A record whose name no release wrote is ignored."""
    names = (
        "partition/2/image",
        "partition/00000/image",
        "partition/70000/image",
        "partition/00009/key",
        f"partition/{UUID_2.hex}",
        "x",
    )
    assert len(Rig(0, records={**STORED, **dict.fromkeys(names, b"?")}).system.partitions) == 3


async def test_what_was_refused_is_never_overwritten() -> None:
    """R-22: Flushes and requests leave a refused record byte for byte as it is, for a repair."""
    records = damaged(lambda blob: flipped(blob, 60))
    rig = Rig(0, records=records)
    name, system = rig.refused[0].name, rig.system
    with pytest.raises(OperatorError):
        system.set_attributes(name, {"keystore_kbytes": 4})
    with pytest.raises(OperatorError):
        system.set_attributes(name, {"secure_boot": SecureBoot.ENFORCE})
    with pytest.raises(OperatorError):
        system.set_access_key(name, bytes(32))
    rig.changed(0, 1, 2)
    the_others_serve(rig)
    assert await rig.encryptor.flush()
    assert rig.encryptor.health.pending == 0
    after = rig.journal.records
    assert after[TWO] == records[TWO]
    repaired = Rig(0, records={**after, TWO: STORED[TWO]})
    assert repaired.refused == []
    assert repaired.guests[1].read(3, b"late").written == b"data of 2"


def test_a_level_with_smaller_stores_refuses_the_larger() -> None:
    """R-31, R-74: On FW950 a store of 128 KiB is refused. On its own level it serves again."""
    _, records = stored(1, kbytes=128)
    system = ManagedSystem(LEVELS["FW950"], IDENTITY.system_id, Chance())
    commit = CommitAuthority(IDENTITY.root_key).decode(records[COMMIT])
    (partition,) = recover_partitions(system, records, commit, make_sealer(), ())
    assert partition.refused is not None
    assert "128 KiB" in partition.refused.message
    assert "FW950 allows 64 KiB" in partition.refused.message
    assert Rig(0, records=records).refused == []


@pytest.mark.parametrize("number", [1, 65535])
def test_numbers_reach_to_the_end(number: int) -> None:
    """R-01: A partition can have the first or the last valid number."""

    async def live() -> Records:
        rig = Rig()
        rig.move(number)
        rig.write(b"label")
        await rig.encryptor.flush()
        return rig.journal.records

    rig = Rig(0, records=trio.run(live))
    assert rig.system.by_number(number) is rig.partition()
    assert rig.objects() == {b"label": b"data"}
