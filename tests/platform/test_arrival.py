"""Validation: a partition only moves to a system that it fits. Each refusal is a sentence with figures."""

import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec
import pytest

from hcall_abi.calls import Opcode
from hcall_abi.control_bodies import ArrivalCheck
from hcall_abi.control_views import NeedsView
from hcall_abi.errors import OperatorError, StorageError
from hcall_abi.levels import KEYSTORE_LEVELS, LEVELS
from hcall_abi.rules import console, migration, storage
from hcall_abi.rules.rule import Rule
from hcall_server.keystore.image import StoredObject, StoreImage
from hcall_server.platform import arrival
from hcall_server.platform.arrival import Needs, demand_fit, needs_of
from hcall_server.platform.custody import Custody, Mode
from hcall_server.platform.departed import Departed
from hcall_server.platform.partition import Partition
from hcall_server.platform.power import refused
from hcall_server.platform.system import ManagedSystem
from tests.guest import Chance, Guest

FORMATS = (1,)


def make_system(level: str = "FW1110", total: int | None = None, seed: bytes = b"target") -> ManagedSystem:
    return ManagedSystem(LEVELS[level], bytes(16), Chance(seed), total_kbytes=total)


def make_partition(level: str = "FW1110", kbytes: int = 8, **attributes: int) -> Partition:
    """A running partition at its source."""
    system = make_system(level, seed=b"source")
    partition = system.create("lpar1", kbytes, further=attributes)
    system.power_on("lpar1")
    return partition


def with_objects(*objects: StoredObject, level: str = "FW1110", kbytes: int = 8) -> Partition:
    profile = make_system(level).create("lpar1", kbytes).profile
    return make_system(level).adopt(profile, StoreImage.of(0, objects))


def wanted(partition: Partition, level: str = "FW1110", **changes: Any) -> Needs:
    return needs_of(partition, LEVELS[level], FORMATS)._replace(**changes)


NEEDS = wanted(make_partition())


def refusal(target: ManagedSystem, needs: Needs, *, live: bool = True) -> OperatorError:
    with pytest.raises(OperatorError) as caught:
        demand_fit(target, needs, FORMATS, live=live)
    return caught.value


@pytest.mark.parametrize("source", KEYSTORE_LEVELS)
@pytest.mark.parametrize("target", LEVELS)
def test_an_enabled_keystore_never_goes_to_a_level_without_one(source: str, target: str) -> None:
    """R-50: From each level, a keystore goes to each level but FW940, which has no keystores.

    Without objects, the contents are no reason for a refusal.
    """
    needs = wanted(make_partition(source), source)
    if target == "FW940":
        error = refusal(make_system(target), needs)
        assert error.rule is migration.ARRIVAL_LEVEL
        assert error.message == "lpar1 has a keystore of 8 KiB, and FW940 has none"
    else:
        demand_fit(make_system(target), needs, FORMATS, live=True)


@pytest.mark.parametrize("running", [True, False])
def test_an_empty_keystore_may_be_disabled_first(running: bool) -> None:
    """R-50: If an empty keystore is disabled, the partition fits a level without keystores.

    With an object the keystore can't be disabled, so the partition does not fit.
    """
    source = make_system()
    partition = source.create("lpar1", 8)
    if running:
        source.power_on("lpar1")
    target = make_system("FW940")
    assert partition.keystore is not None
    partition.keystore.contents.put((3, b"label"), 0, b"data")
    with pytest.raises(OperatorError) as caught:
        source.set_attributes("lpar1", {"keystore_kbytes": 0})
    assert caught.value.rule is console.SIZE_IN_USE
    assert refusal(target, wanted(partition)).rule is migration.ARRIVAL_LEVEL
    partition.keystore.contents.remove((3, b"label"))
    source.set_attributes("lpar1", {"keystore_kbytes": 0})
    demand_fit(target, wanted(partition), FORMATS, live=True)
    assert target.made(partition.profile).keystore is None


def test_a_system_without_keystores_makes_partitions() -> None:
    """R-50: A system without keystores makes partitions, and refuses a size with the reason."""
    system = make_system("FW940")
    system.create("lpar1")
    system.power_on("lpar1")
    with pytest.raises(OperatorError, match="0 alone on FW940, which has no keystore") as caught:
        system.create("lpar2", 4)
    assert caught.value.rule is console.SIZE_RANGE


def test_needs_are_figures_of_the_contents() -> None:
    """R-50, R-51: The needs have the longest and largest values and the necessary calls, and no secret."""
    partition = make_partition(kbytes=64, keystore_signed_updates=1, linux_dynamic_key_secure_boot=1)
    guest = Guest(partition)
    password = guest.gen_password(3, 60).written
    assert guest.write(3, b"label", b"data", password=password, policy=0x0200_0000).status == 0
    assert partition.keystore is not None
    partition.keystore.contents.put((3, b"a longer label"), 0x0100_0000, bytes(300))
    partition.keystore.contents.put((1, b"key"), 0x0080_0002, bytes(32))
    found = needs_of(partition, LEVELS["FW1110"], FORMATS)
    assert found == Needs(
        uuid=partition.profile.uuid,
        name="lpar1",
        epoch=0,
        level="FW1110",
        formats=[1],
        kbytes=64,
        used_bytes=5 + 4 + 14 + 300 + 3 + 32,
        objects=3,
        longest_label=14,
        largest_object=300,
        longest_password=60,
        policies=0x0380_0000,
        calls=["SIGNED_UPDATE", "WRAP_OBJECT", "REVOKE_OBJECT"],
        attributes=partition.attributes.numbers,
    )
    assert found.used_bytes + 32 * found.objects == partition.keystore.contents.used
    assert password.hex() not in repr(found)


def test_needs_without_a_keystore() -> None:
    """R-35, R-50: Without a keystore the needs are empty, so they refuse no target."""
    found = needs_of(make_partition(kbytes=0), LEVELS["FW1110"])
    assert (found.kbytes, found.used_bytes, found.objects, found.calls) == (0, 0, 0, [])
    for level in LEVELS:
        demand_fit(make_system(level), found)


def test_the_fields_are_those_of_the_contract() -> None:
    """The body of checkArrival and the answer of showNeeds have each field by its name."""
    for struct in ArrivalCheck, NeedsView:
        assert {field.name for field in msgspec.structs.fields(struct)} == set(Needs._fields)


def in_custody(custody: Custody, epoch: int = 7) -> Callable[[], ManagedSystem]:
    """A target that already has the partition, in this custody."""

    def system() -> ManagedSystem:
        target = make_system()
        profile = make_partition().profile._replace(custody=custody, epoch=epoch, uuid=NEEDS.uuid)
        target.adopt(profile)
        return target

    return system


def gone(**changes: Any) -> ManagedSystem:
    target = make_system()
    departed = Departed(NEEDS.uuid, "lpar1", Custody.GONE, 9, reserves_name=True)._replace(**changes)
    target.departed[departed.uuid] = departed
    return target


def crowded() -> ManagedSystem:
    target = make_system(total=20)
    target.create("other", 16)
    return target


def named() -> ManagedSystem:
    target = make_system()
    target.create("lpar1")
    return target


def unreadable() -> ManagedSystem:
    target = make_system()
    state = refused(StorageError(storage.IMAGE_LENGTHS, "the image is damaged"), name_unknown=True)
    target.adopt(make_partition().profile._replace(name="unreadable", uuid=UUID(int=3)), state=state)
    return target


def wide() -> ManagedSystem:
    target = make_system()
    target.level = target.level._replace(object_overhead=600)
    return target


OBJECT = StoredObject(3, b"label", 0, bytes(1000))
REFUSED: dict[str, tuple[Callable[[], ManagedSystem], Needs, Rule, str]] = {
    "owned": (in_custody(Custody.OWN), NEEDS, migration.ARRIVAL_CUSTODY, "lpar1 itself: OWN since attempt 7"),
    "arrived": (in_custody(Custody.ARRIVED), NEEDS, migration.ARRIVAL_CUSTODY, "ARRIVED since attempt 7"),
    "frozen": (in_custody(Custody.FROZEN), NEEDS, migration.ARRIVAL_CUSTODY, "FROZEN since attempt 7"),
    "released": (in_custody(Custody.RELEASED), NEEDS, migration.ARRIVAL_CUSTODY, "elsewhere since attempt 7"),
    "later copy": (
        in_custody(Custody.PREPARED),
        NEEDS._replace(epoch=6),
        migration.ARRIVAL_CUSTODY,
        "a copy of lpar1 of attempt 7, later than 6",
    ),
    "name": (named, NEEDS, migration.ARRIVAL_NAME, "the name lpar1 is taken here"),
    "kept name": (
        lambda: gone(uuid=UUID(int=9)),
        NEEDS,
        migration.ARRIVAL_NAME,
        "the name lpar1 is taken here",
    ),
    "unreadable": (unreadable, NEEDS, migration.ARRIVAL_NAME, "may be lpar1"),
    "format": (
        make_system,
        NEEDS._replace(formats=[2, 3]),
        migration.ARRIVAL_FORMAT,
        "writes the formats 2, 3, and this system reads 1",
    ),
    "no format": (make_system, NEEDS._replace(formats=[]), migration.ARRIVAL_FORMAT, "the formats none"),
    "range": (
        lambda: make_system("FW1060"),
        NEEDS._replace(kbytes=100),
        migration.ARRIVAL_SIZE,
        "a keystore of 100 KiB; the sizes here are 0, or 4 to 64 KiB on FW1060",
    ),
    "total": (crowded, NEEDS, migration.ARRIVAL_SIZE, "a keystore of 8 KiB; 16 of 20 KiB are taken"),
    "used": (
        wide,
        NEEDS._replace(objects=10, used_bytes=2193),
        migration.ARRIVAL_SIZE,
        "lpar1 needs 8193 bytes for its 10 objects on FW1110, and its keystore has 8 KiB",
    ),
    "label": (
        make_system,
        NEEDS._replace(longest_label=256),
        migration.ARRIVAL_OBJECTS,
        "a label of lpar1 has 256 bytes; FW1110 allows 255",
    ),
    "object": (
        lambda: make_system("FW950"),
        NEEDS._replace(kbytes=64, largest_object=65536),
        migration.ARRIVAL_OBJECTS,
        "an object of lpar1 has 65536 bytes; FW950 allows 65535",
    ),
    "password": (
        lambda: make_system("FW950"),
        NEEDS._replace(longest_password=33),
        migration.ARRIVAL_PASSWORD,
        "a password of lpar1 has 33 bytes; FW950 allows 32",
    ),
    "wrapping keys": (
        lambda: make_system("FW1060"),
        wanted(with_objects(OBJECT._replace(policy=0x0080_0000))),
        migration.ARRIVAL_CALLS,
        "objects for WRAP_OBJECT, which FW1060 lacks",
    ),
    "revoked keys": (
        make_system,
        wanted(with_objects(OBJECT._replace(policy=0x0080_0002), level="NEXT")),
        migration.ARRIVAL_CALLS,
        "objects for REVOKE_OBJECT, which FW1110 lacks",
    ),
    "signed updates": (
        lambda: make_system("FW1010"),
        wanted(with_objects(OBJECT._replace(policy=0x0100_0000))),
        migration.ARRIVAL_CALLS,
        "objects for SIGNED_UPDATE, which FW1010 lacks",
    ),
    "policies": (
        make_system,
        NEEDS._replace(policies=0x0040_0000),
        migration.ARRIVAL_OBJECTS,
        "the policies 0x00400000; FW1110 allows 0x7F800000",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_each_refusal_is_a_sentence_with_figures(what: str) -> None:
    """R-50, R-51: Each refusal has its rule and its sentence with figures, and the target does not change."""
    make, needs, rule, words = REFUSED[what]
    target = make()
    before = dict(target.partitions), dict(target.departed)
    error = refusal(target, needs)
    assert error.rule is rule
    assert words in error.message
    assert re.fullmatch(r"spec/migration\.md#[a-z]+", error.rule.page)
    assert (target.partitions, target.departed) == before


def test_every_row_has_a_refusal() -> None:
    """Each check of validation has a case above, and the cases have all rules."""
    used = {rule for _, _, rule, _ in REFUSED.values()} | {migration.ARRIVAL_LEVEL}
    assert {row.rule for row in arrival.ARRIVALS} == used
    defined = (rule for rule in vars(migration).values() if isinstance(rule, Rule))
    assert used == {rule for rule in defined if rule.id.startswith("arrival.")}


FITTING: dict[str, tuple[Callable[[], ManagedSystem], Needs]] = {
    "nobody": (make_system, NEEDS),
    "an older copy": (in_custody(Custody.PREPARED, 5), NEEDS._replace(epoch=6)),
    "a copy of this attempt": (in_custody(Custody.PREPARED, 6), NEEDS._replace(epoch=6)),
    "it has left": (gone, NEEDS),
    "its copy was dropped": (lambda: gone(custody=Custody.NONE), NEEDS),
    "the name is free again": (lambda: gone(uuid=UUID(int=9), reserves_name=False), NEEDS),
    "a full store": (make_system, NEEDS._replace(objects=10, used_bytes=8 * 1024 - 320)),
    "the longest of all": (
        make_system,
        NEEDS._replace(kbytes=128, longest_label=255, largest_object=128 * 1024, longest_password=64),
    ),
    "all policies": (make_system, NEEDS._replace(policies=0x7F80_0000)),
}


@pytest.mark.parametrize("what", FITTING)
def test_what_fits(what: str) -> None:
    """R-51: The ends of each range fit, and so do some targets that already know the partition."""
    make, needs = FITTING[what]
    demand_fit(make(), needs, FORMATS, live=True)


def test_its_own_room_is_not_taken_twice() -> None:
    """R-51: The new copy replaces an older copy at the target, so the space is counted once."""
    target = make_system(total=10)
    target.adopt(make_partition().profile._replace(uuid=NEEDS.uuid, custody=Custody.PREPARED, epoch=1))
    assert target.assigned_kbytes == 8
    demand_fit(target, NEEDS._replace(epoch=2), FORMATS, live=True)


def test_a_released_store_may_come_back_by_a_copy() -> None:
    """R-52: A released store may return as a copy (row 16). A copy needs no channel format."""
    demand_fit(in_custody(Custody.RELEASED)(), NEEDS._replace(formats=[]))


def test_attributes_that_the_level_lacks() -> None:
    """R-36, R-50: A partition with signed updates does not fit FW1010. The rule is the attribute's own."""
    needs = wanted(make_partition(keystore_signed_updates=1))
    assert refusal(make_system("FW1010"), needs).rule is console.ATTRIBUTE_NEEDS
    demand_fit(make_system("FW1030"), needs, FORMATS)
    strange = NEEDS._replace(attributes={"what_is_this": 1})
    assert refusal(make_system(), strange).rule is console.ATTRIBUTE_KNOWN


def test_a_system_in_another_state_takes_nothing() -> None:
    """R-45: A system in Recovery accepts no partition."""
    target = make_system()
    target.begin_recovery()
    assert refusal(target, NEEDS).rule is console.SYSTEM_OPERATING


def test_a_full_system_has_no_number() -> None:
    """R-51: A target without a free number refuses the partition."""
    target = make_system()
    profile = make_partition(kbytes=0).profile
    for number in range(1, 1 << 16):
        target.partitions[str(number)] = target.made(
            profile._replace(number=number, uuid=UUID(int=4), name="other")
        )
    assert refusal(target, NEEDS).rule is console.PARTITION_ID


def test_what_has_arrived_is_checked_like_what_was_announced() -> None:
    """R-51: The needs that the target computes from a record equal those that the source announced."""
    partition = make_partition()
    guest = Guest(partition)
    guest.gen_password(1, 40)
    assert partition.keystore is not None
    partition.keystore.contents.put((3, b"label"), 0x0200_0000, b"data")
    used = partition.keystore.used_state()
    image = partition.keystore.contents.snapshot()
    objects = [*image.objects, *(each.object for each in used.objects)]
    passwords = [each.secret for each in used.passwords]
    found = arrival.needs(partition.profile, "FW1110", objects, passwords, FORMATS)
    assert found == needs_of(partition, LEVELS["FW1110"], FORMATS)
    assert Opcode.WRAP_OBJECT.name not in found.calls
    assert partition.mode is Mode.SERVING
