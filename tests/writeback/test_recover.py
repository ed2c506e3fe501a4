"""Recovery: what was stored comes back, and every damage takes out its own partition alone, with a reason."""

import re
from collections.abc import Callable

import pytest
import trio

from hcall_abi.consumers import SecureBoot
from hcall_abi.errors import OperatorError, StorageError
from hcall_abi.levels import LEVELS
from hcall_server.keystore.image import StoredObject, StoreImage
from hcall_server.nvram.names import image_name, profile_name
from hcall_server.platform.power import Power
from hcall_server.platform.system import ManagedSystem
from hcall_server.sealing import SealedKind, SealingError, encode_image, seal_image
from hcall_server.writeback.recover import recover_partitions, recover_system
from tests.guest import Answer, Chance
from tests.writeback.rig import FLUSHED, IDENTITY, RECORD, Rig, make_sealer

FOREIGN = make_sealer(IDENTITY._replace(system_id=b"another system.."))
OTHER_KEY = make_sealer(IDENTITY._replace(root_key=b"another root key, of 32 bytes..."))
Records = dict[str, bytes]


def stored(partitions: int = 3, kbytes: int = 64) -> Records:
    """What NVRAM holds after each partition has written and flushed something of its own, twice."""

    async def live() -> Records:
        rig = Rig(partitions, kbytes=kbytes)
        rig.encryptor.system_changed(RECORD)
        for turn in (b"early", b"late"):
            for n in range(partitions):
                rig.write(turn, b"data of %d" % (n + 1), n=n)
            await rig.encryptor.flush()
        return rig.journal.records

    return trio.run(live)


STORED = stored()
EARLIER = stored(partitions=1)
IMAGE, PROFILE = image_name(2), profile_name(2)
NEWER = seal_image(make_sealer(), 2, StoreImage(3, (StoredObject(3, b"label", 0, b"data"),)))
OLDER = seal_image(make_sealer(), 2, StoreImage(1, (StoredObject(3, b"early", 0, b"data of 2"),)))
PLAIN = encode_image(StoreImage(2, ()))


def sealed(kind: SealedKind, plaintext: bytes, partition: int = 2) -> bytes:
    return make_sealer().seal(kind, partition, 2, plaintext)


def flipped(blob: bytes, at: int, bit: int = 1) -> bytes:
    return blob[:at] + bytes([blob[at] ^ bit]) + blob[at + 1 :]


ANY = [
    # what happened to a record of partition 2, and what the refusal has to say of it
    ("gone", lambda blob: None, "missing"),
    ("empty", lambda blob: b"", "truncated"),
    ("cut in its header", lambda blob: blob[:20], "truncated"),
    ("cut by a byte", lambda blob: blob[:-1], "truncated"),
    ("a byte longer", lambda blob: blob + b"\0", "1 bytes too many"),
    ("zeros", lambda blob: bytes(len(blob)), "magic is missing"),
    ("a text", lambda blob: b"not a sealed blob, but long enough " * 9, "magic is missing"),
    ("of a later format", lambda blob: flipped(blob, 4, 2), "format level 3"),
    ("one bit of the ciphertext", lambda blob: flipped(blob, 60), "does not authenticate"),
    ("one bit of the tag", lambda blob: flipped(blob, len(blob) - 1), "does not authenticate"),
]
IMAGES = [(f"image: {what}", IMAGE, damage, reason) for what, damage, reason in ANY] + [
    (
        "image: partition 1's",
        IMAGE,
        lambda blob: STORED[image_name(1)],
        "swapped: this is the image of partition 1",
    ),
    (
        "image: partition 3's",
        IMAGE,
        lambda blob: STORED[image_name(3)],
        "swapped: this is the image of partition 3",
    ),
    ("image: its profile", IMAGE, lambda blob: STORED[PROFILE], "says that it is the profile of partition 2"),
    ("image: the system's", IMAGE, lambda blob: STORED["system"], "says that it is"),
    ("image: an older one", IMAGE, lambda blob: OLDER, "generation 1 and its profile goes with 2"),
    ("image: a newer one", IMAGE, lambda blob: NEWER, "generation 3 and its profile goes with 2"),
    (
        "image: another system's",
        IMAGE,
        lambda blob: seal_image(FOREIGN, 2, StoreImage(2, ())),
        "does not auth",
    ),
    (
        "image: another key's",
        IMAGE,
        lambda blob: seal_image(OTHER_KEY, 2, StoreImage(2, ())),
        "does not auth",
    ),
    (
        "image: plaintext too long",
        IMAGE,
        lambda blob: sealed(SealedKind.PARTITION_IMAGE, PLAIN + b"x"),
        "authentic but",
    ),
    (
        "image: plaintext of zeros",
        IMAGE,
        lambda blob: sealed(SealedKind.PARTITION_IMAGE, bytes(8)),
        "authentic but",
    ),
]
PROFILES = [(f"profile: {what}", PROFILE, damage, reason) for what, damage, reason in ANY] + [
    ("profile: partition 3's", PROFILE, lambda blob: STORED[profile_name(3)], "swapped: this is the profile"),
    ("profile: its image", PROFILE, lambda blob: STORED[IMAGE], "says that it is the image of partition 2"),
    (
        "profile: plaintext of zeros",
        PROFILE,
        lambda blob: sealed(SealedKind.PARTITION_PROFILE, bytes(40)),
        "authentic but",
    ),
]
Damage = Callable[[bytes], bytes | None]


def damaged(record: str, damage: Damage) -> Records:
    records = dict(STORED)
    blob = damage(records.pop(record))
    return records if blob is None else {**records, record: blob}


def the_others_serve(rig: Rig) -> None:
    """Partitions 1 and 3 have everything, flushed, and go on working."""
    for number in (1, 3):
        partition = rig.system.by_number(number)
        assert partition is not None
        guest = rig.guests[[each.partition for each in rig.guests].index(partition)]
        assert guest.read(3, b"early").written == guest.read(3, b"late").written == b"data of %d" % number
        assert guest.confirm(3, b"late")[:2] == FLUSHED
        assert guest.write(3, b"new", b"data") == Answer(0)


def test_everything_comes_back() -> None:
    """R-20, R-22: sizes, counts, modes, objects, and that they are flushed."""
    rig = Rig(0, records=STORED)
    assert rig.refused == []
    assert [(each.number, each.name, each.kbytes) for each in rig.system.partitions.values()] == [
        (n, f"lpar{n}", 64) for n in (1, 2, 3)
    ]
    assert recover_system(STORED, make_sealer()) == RECORD
    the_others_serve(rig)
    assert rig.objects(1) == {b"early": b"data of 2", b"late": b"data of 2"}


def test_nothing_is_found_in_nothing() -> None:
    """A new system has neither records nor partitions."""
    rig = Rig(0)
    assert (rig.refused, list(rig.system.partitions), recover_system({}, make_sealer())) == ([], [], None)


@pytest.mark.parametrize("record,damage,reason", [row[1:] for row in IMAGES], ids=[row[0] for row in IMAGES])
def test_a_bad_image_takes_its_partition_out(record: str, damage: Damage, reason: str) -> None:
    """R-22: refused with a reason that names it, not started, not created anew; all others serve."""
    records = damaged(record, damage)
    rig = Rig(0, records=records)
    partition = rig.system.find("lpar2")
    assert rig.refused == [partition]
    assert (partition.keystore, partition.kbytes, partition.name_unknown) == (None, 64, False)
    assert isinstance(partition.refused, StorageError)
    assert re.search("partition (2|lpar2)", partition.refused.message)
    assert reason in partition.refused.message
    assert partition.refused.rule.sentence
    assert partition.refused.rule.page.startswith("spec/sealed.md#")
    with pytest.raises(OperatorError, match=re.escape(reason)):
        rig.system.power_on("lpar2")
    assert rig.system.create("another", 4).number == 4
    the_others_serve(rig)


@pytest.mark.parametrize(
    "record,damage,reason", [row[1:] for row in PROFILES], ids=[row[0] for row in PROFILES]
)
def test_a_bad_profile_keeps_number_and_name_taken(record: str, damage: Damage, reason: str) -> None:
    """R-22: a stand-in that nobody could have named so; nothing is created while the name is unknown."""
    rig = Rig(0, records=damaged(record, damage))
    partition = rig.system.by_number(2)
    assert rig.refused == [partition]
    assert partition is not None
    assert partition.name_unknown
    assert isinstance(partition.refused, StorageError)
    assert "partition 2" in partition.refused.message
    assert reason in partition.refused.message
    with pytest.raises(OperatorError):
        ManagedSystem(LEVELS["FW950"], bytes(16), Chance()).create(partition.name)
    with pytest.raises(OperatorError):
        rig.system.power_on(partition.name)
    with pytest.raises(OperatorError, match="lpar2 may exist already"):
        rig.system.create("lpar2", 4)
    the_others_serve(rig)


@pytest.mark.parametrize(
    "record,what", [(IMAGE, "the image of partition lpar2"), (PROFILE, "the profile of partition 2")]
)
def test_only_what_is_missing_is_refused(record: str, what: str) -> None:
    """R-22: recovery returns the partitions that are out of service; the reason says which record is gone."""
    system = ManagedSystem(LEVELS["FW1110"], IDENTITY.system_id, Chance())
    (lost,) = recover_partitions(system, damaged(record, lambda blob: None), make_sealer())
    assert len(system.partitions) == 3
    assert lost is system.by_number(2)
    assert lost.refused is not None
    assert lost.refused.message == f"{what} is missing"


def test_the_total_counts_the_sizes_that_are_known() -> None:
    """R-22, R-34: a partition without its image keeps its KiB; one without its profile takes none.

    So a system that is full to the last KiB starts with a damaged profile, and no other partition loses room.
    """
    whole, without_image, without_profile = (
        Rig(0, records={name: blob for name, blob in STORED.items() if name != lost}).system
        for lost in ("", IMAGE, PROFILE)
    )
    assert [system.assigned_kbytes for system in (whole, without_image, without_profile)] == [192, 192, 128]
    without_profile.total_kbytes = 129
    without_profile.power_off("lpar1")
    with pytest.raises(OperatorError, match="64 of 129 KiB are taken"):
        without_profile.set_attributes("lpar1", {"keystore_kbytes": 66})
    assert without_profile.set_attributes("lpar1", {"keystore_kbytes": 65}).kbytes == 65


@pytest.mark.parametrize("record", [IMAGE, PROFILE])
def test_any_flipped_byte_is_noticed(record: str) -> None:
    """R-02, R-22: every byte of a partition's records in turn; each time that partition alone is refused."""
    for at in range(len(STORED[record])):
        rig = Rig(0, records=damaged(record, lambda blob, at=at: flipped(blob, at, 1 << at % 8)))  # type: ignore[misc]
        assert [each.number for each in rig.refused] == [2]
        assert [each.power for each in rig.system.partitions.values() if not each.refused] == [
            Power.RUNNING
        ] * 2


def test_two_images_that_changed_places_are_both_named() -> None:
    """R-01, R-22: neither partition gets the other's objects."""
    one, two = image_name(1), image_name(2)
    rig = Rig(0, records={**STORED, one: STORED[two], two: STORED[one]})
    reasons = {each.name: each.refused.message for each in rig.refused if each.refused}
    assert "swapped: this is the image of partition 2" in reasons["lpar1"]
    assert "swapped: this is the image of partition 1" in reasons["lpar2"]
    assert [each.name for each in rig.system.partitions.values() if each.running] == ["lpar3"]


def test_another_systems_records_open_nowhere() -> None:
    """R-02: without the right root key all partitions are refused, and the system's record as well."""
    system = ManagedSystem(LEVELS["FW1110"], IDENTITY.system_id, Chance())
    assert len(recover_partitions(system, STORED, OTHER_KEY)) == 3
    with pytest.raises(SealingError):
        recover_system(STORED, OTHER_KEY)


def test_records_of_other_names_are_left_alone() -> None:
    """A name that no release wrote is neither a partition nor an error."""
    names = (
        "partition/2/image",
        "partition/00000/image",
        "partition/70000/image",
        "partition/00009/key",
        "x",
    )
    assert len(Rig(0, records={**STORED, **dict.fromkeys(names, b"?")}).system.partitions) == 3


@pytest.mark.parametrize("record", [IMAGE, PROFILE])
async def test_what_was_refused_is_never_overwritten(record: str) -> None:
    """R-22: flushing others, and every request about it, leaves its records byte for byte for a repair."""
    records = damaged(record, lambda blob: flipped(blob, 60))
    rig = Rig(0, records=records)
    name, system = rig.refused[0].name, rig.system
    with pytest.raises(OperatorError):
        system.set_attributes(name, {"keystore_kbytes": 4})
    with pytest.raises(OperatorError):
        system.set_attributes(name, {"secure_boot": SecureBoot.ENFORCE})
    rig.changed(0, 1, 2)
    the_others_serve(rig)
    assert await rig.encryptor.flush()
    assert rig.encryptor.health.pending == 0
    after = rig.journal.records
    assert (after[IMAGE], after[PROFILE]) == (records[IMAGE], records[PROFILE])
    repaired = Rig(0, records={**after, record: STORED[record]})
    assert repaired.refused == []
    assert repaired.guests[1].read(3, b"late").written == b"data of 2"


def test_a_level_with_smaller_stores_refuses_the_larger() -> None:
    """R-31, R-74: 128 KiB do not exist on FW950; the partition waits for the level that it was made on."""
    records = stored(1, kbytes=128)
    system = ManagedSystem(LEVELS["FW950"], IDENTITY.system_id, Chance())
    (partition,) = recover_partitions(system, records, make_sealer())
    assert partition.refused is not None
    assert "128 KiB" in partition.refused.message
    assert "FW950 allows 64 KiB" in partition.refused.message
    assert Rig(0, records=records).refused == []


async def test_an_image_without_its_size_is_not_used() -> None:
    """R-30: the profile says that the keystore is off; an image that lies there is not opened."""
    off = Rig(1, kbytes=0)
    off.changed()
    await off.encryptor.flush()
    rig = Rig(0, records={**EARLIER, **off.journal.records})
    assert (rig.refused, rig.partition().keystore) == ([], None)


@pytest.mark.parametrize("number", [1, 65535])
def test_numbers_reach_to_the_end(number: int) -> None:
    """R-01: the first and the last number that a partition can have."""

    async def live() -> Records:
        rig = Rig()
        rig.move(number)
        rig.write(b"label")
        await rig.encryptor.flush()
        return rig.journal.records

    rig = Rig(0, records=trio.run(live))
    assert rig.system.by_number(number) is rig.partition()
    assert rig.objects() == {b"label": b"data"}
