"""A system of sealed level 1 is converted at its first start, in one commit, with all its contents."""

import re
from collections.abc import Callable

import pytest
import trio

from hcall_abi.errors import StorageError
from hcall_server.components.memory import MemoryCard
from hcall_server.components.seam import Card
from hcall_server.machine.machine import Machine
from hcall_server.nvram.memory import MemoryNvram
from hcall_server.nvram.names import COMMIT, SYSTEM, old_image_name, old_profile_name, parse_partition
from hcall_server.platform.system_state import SystemState
from hcall_server.service.assembly import assemble
from hcall_server.service.settings import Settings
from swpks.testing.seams import simulated_seams
from tests.guest import Chance
from tests.writeback import level_1
from tests.writeback.rig import IDENTITY, Rig

Damage = Callable[[bytes], bytes | None]


def test_everything_is_there_after_the_conversion() -> None:
    """R-21, R-47: The conversion keeps objects, sizes, attributes and IPL counts.

    Each partition gets its own UUID and key.
    """
    rig = Rig(0, records=level_1.records())
    assert rig.refused == []
    for number, partition in enumerate(rig.system.partitions.values(), 1):
        profile = partition.profile
        assert (profile.number, profile.name, profile.ipl_count, profile.auto_start) == (
            number,
            f"lpar{number}",
            6,
            True,
        )
        assert (partition.kbytes, partition.next_secure_boot) == (8, 2)
        assert partition.attributes.keystore_signed_updates == 1
        assert rig.objects(number - 1) == {b"label": b"data of %d" % number}
        assert (profile.uuid.version, len(profile.access_key)) == (4, 32)
    assert len({each.profile.uuid for each in rig.system.partitions.values()}) == 2


def test_the_conversion_is_one_commit() -> None:
    """R-22: The conversion is one commit: NVRAM has the old records or the new ones.

    The next start converts nothing.
    """
    rig = Rig(0, records=level_1.records())
    (changes,) = rig.journal.journal
    old = {name(number) for number in (1, 2) for name in (old_image_name, old_profile_name)}
    assert {name for name, blob in changes.items() if blob is None} == old
    kept = set(rig.journal.records)
    assert {SYSTEM, COMMIT} < kept
    assert all(parse_partition(name) for name in kept - {SYSTEM, COMMIT})
    again = Rig(0, records=rig.journal.records)
    assert again.journal.journal == []
    assert [each.profile.uuid for each in again.system.partitions.values()] == [
        each.profile.uuid for each in rig.system.partitions.values()
    ]


def test_the_conversion_removes_only_what_is_there() -> None:
    """R-22: A partition without a keystore has no image, so the commit removes none."""
    before = level_1.records(1)
    del before[old_image_name(1)]
    before[old_profile_name(1)] = level_1.sealed(level_1.PROFILE, 1, 0, level_1.profile(1, 0))
    (changes,) = Rig(0, records=before).journal.journal
    assert [name for name, blob in changes.items() if blob is None] == [old_profile_name(1)]


def flipped(blob: bytes) -> bytes:
    return blob[:-1] + bytes([blob[-1] ^ 1])


RECORDS = level_1.records()
IMAGE, PROFILE = old_image_name(2), old_profile_name(2)
OLDER_IMAGE = level_1.sealed(level_1.IMAGE, 2, 1, level_1.image(2))
OF_ANOTHER = level_1.sealed(level_1.PROFILE, 2, 0, level_1.profile(1))
BROKEN = [
    ("image: one bit", IMAGE, flipped, "the image of partition 2: does not authenticate"),
    ("image: gone", IMAGE, lambda _: None, "the image of partition lpar2 is missing"),
    ("image: cut", IMAGE, lambda blob: blob[:-1], "truncated"),
    (
        "image: partition 1's",
        IMAGE,
        lambda _: RECORDS[old_image_name(1)],
        "swapped: this is the image of partition 1",
    ),
    ("image: an older one", IMAGE, lambda _: OLDER_IMAGE, "is of generation 1 and its profile goes with 2"),
    ("profile: one bit", PROFILE, flipped, "the profile of partition 2: does not authenticate"),
    ("profile: gone", PROFILE, lambda _: None, "the profile of partition 2 is missing"),
    ("profile: of another", PROFILE, lambda _: OF_ANOTHER, "is the profile of partition 1"),
]


@pytest.mark.parametrize("record,damage,reason", [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_what_does_not_open_stays_as_it_is(record: str, damage: Damage, reason: str) -> None:
    """R-22: A partition that does not open is refused at each start, and its records stay.

    The other one is converted and serves.
    """
    records = dict(RECORDS)
    blob = damage(records.pop(record))
    records |= {} if blob is None else {record: blob}
    held: dict[str, bytes] = records
    for _ in range(2):
        rig = Rig(0, records=held)
        (partition,) = rig.refused
        unknown = record == PROFILE
        name = "unreadable:2" if unknown else "lpar2"
        assert (partition.number, partition.name, partition.name_unknown) == (2, name, unknown)
        assert partition.refused is not None
        assert re.search(re.escape(reason), partition.refused.message)
        assert rig.objects(list(rig.system.partitions).index("lpar1")) == {b"label": b"data of 1"}
        held = rig.journal.records
        assert {name: held.get(name) for name in (IMAGE, PROFILE)} == {
            name: records.get(name) for name in (IMAGE, PROFILE)
        }


def test_an_old_record_that_is_put_back_after_the_conversion_is_refused() -> None:
    """R-22: After the conversion, an old record of level 1 is refused: it could be an older copy."""
    converted = Rig(0, records=level_1.records(1)).journal.records
    for number, name, shown in ((2, "lpar2", 2), (1, "unreadable:1", 65535)):
        old = {each(number): RECORDS[each(number)] for each in (old_image_name, old_profile_name)}
        rig = Rig(0, records={**converted, **old})
        (partition,) = rig.refused
        assert (partition.name, partition.number) == (name, shown)
        assert partition.refused is not None
        assert partition.refused.rule.id == "records.committed"
        assert "are of level 1" in partition.refused.message
        assert rig.system.find("lpar1").running


def start(nvram: MemoryNvram, card: MemoryCard, *, accept_older: bool = False) -> Machine:
    """Start a system and make everything durable."""
    seams = simulated_seams(nvram=nvram, card=card, entropy=Chance())
    machine = assemble(seams, Settings(), accept_older=accept_older)
    trio.run(machine.encryptor.flush)
    return machine


def test_the_card_of_a_converted_system_promises_a_commit_record() -> None:
    """R-22: After the conversion, NVRAM of level 1 is refused, and cleared NVRAM means Recovery."""
    nvram, card = MemoryNvram(level_1.records()), MemoryCard(Card(IDENTITY))
    start(nvram, card)
    assert card.held == Card(IDENTITY._replace(sealed_level=2))
    with pytest.raises(StorageError, match="the commit record is missing") as caught:
        start(MemoryNvram(level_1.records()), card)
    assert caught.value.rule.id == "commit.record"
    assert start(MemoryNvram(), card).system.state is SystemState.RECOVERY


def test_a_system_record_that_does_not_open_stops_the_conversion() -> None:
    """R-22: If the system record does not open, the start fails and changes neither NVRAM nor the card."""
    broken = level_1.records()
    broken[SYSTEM] = flipped(broken[SYSTEM])
    for records in (broken, {name: blob for name, blob in broken.items() if name != SYSTEM}):
        nvram, card = MemoryNvram(records), MemoryCard(Card(IDENTITY))
        with pytest.raises(StorageError, match="the system record"):
            start(nvram, card)
        assert (nvram.records, card.held) == (records, Card(IDENTITY))
