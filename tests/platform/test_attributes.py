"""The console's attributes: when each can be set, and its effect on the guest."""

import itertools
from collections.abc import Mapping

import pytest

from hcall_abi.calls import Opcode
from hcall_abi.console import AT_FIRST, ATTRIBUTES
from hcall_abi.consumers import SecureBoot
from hcall_abi.errors import OperatorError, StorageError
from hcall_abi.levels import LEVELS
from hcall_abi.policies import Policy
from hcall_abi.rules import console as rules
from hcall_abi.rules import storage
from hcall_abi.rules.rule import Fault
from hcall_server.keystore.image import StoredObject, StoreImage
from hcall_server.keystore.signed import LatchUse
from hcall_server.platform import power
from hcall_server.platform.partition import Partition
from hcall_server.platform.system import ManagedSystem
from tests.guest import Answer, Chance, Guest

UPDATES = "keystore_signed_updates"
LATCH = "keystore_signed_updates_without_verification"
DYNAMIC = "linux_dynamic_key_secure_boot"
RESTART = "simplified_remote_restart_capable"
ON = {"keystore_kbytes": 16}
ALL_ON = {"keystore_kbytes": 16, UPDATES: 1, LATCH: 1, DYNAMIC: 1}
SIGNED = StoredObject(3, b"PK", int(Policy.SIGNEDUPDATE), b"\0" * 8)
PLAIN = StoredObject(3, b"disk key", 0, b"\0" * 32)


def make_system(attributes: Mapping[str, int] | None = None, level: str = "FW1110") -> ManagedSystem:
    """A system with one partition, `lpar1`, powered off, with attributes set by the console."""
    system = ManagedSystem(LEVELS[level], bytes(16), Chance())
    system.create("lpar1")
    system.set_attributes("lpar1", attributes or {})
    return system


def hold(system: ManagedSystem, *objects: StoredObject) -> Partition:
    """Put objects into the keystore of `lpar1`, as a restart does."""
    return system.adopt(system.find("lpar1").profile._replace(image_generation=1), StoreImage.of(1, objects))


def numbers(partition: Partition) -> tuple[int, ...]:
    """Return all attributes as numbers, in the order of the page."""
    return tuple(partition.attributes.numbers.values())


def refused(system: ManagedSystem, **changes: int) -> OperatorError:
    """Request attributes that must be refused as an operator's fault; check that nothing has changed."""
    partition = system.find("lpar1")
    before = partition.profile, partition.level, partition.keystore
    with pytest.raises(OperatorError) as caught:
        system.set_attributes("lpar1", changes)
    assert (partition.profile, partition.level, partition.keystore) == before
    assert caught.value.fault is Fault.OPERATOR
    return caught.value


def test_all_but_one_are_off_at_first() -> None:
    """R-30, R-36, R-54: A new partition has all attributes off, but may be restarted remotely."""
    partition = ManagedSystem(LEVELS["FW1110"], bytes(16), Chance()).create("lpar1")
    assert numbers(partition) == (0, 0, 0, 0, 0, 1)
    assert partition.attributes == AT_FIRST


def test_all_can_be_set_at_once() -> None:
    """R-36: One request sets all attributes, as chsyscfg does."""
    partition = make_system(ALL_ON | {"secure_boot": 2}).find("lpar1")
    assert numbers(partition) == (16, 1, 1, 1, 2, 1)
    assert (partition.kbytes, partition.next_secure_boot) == (16, SecureBoot.ENFORCE)


def sensible(kbytes: int, updates: int, latch: int, dynamic: int) -> bool:
    """Return whether spec/control.md#attributes allows a combination."""
    return bool((kbytes and updates) or not (updates or latch or dynamic))


@pytest.mark.parametrize("wish", list(itertools.product((0, 16), (0, 1), (0, 1), (0, 1))))
def test_combinations_without_sense_are_refused(wish: tuple[int, int, int, int]) -> None:
    """R-36: Each combination without sense is refused, and the refusal names the missing attribute."""
    changes = dict(zip(ATTRIBUTES, wish, strict=False))
    system = make_system()
    if sensible(*wish):
        assert numbers(system.set_attributes("lpar1", changes)) == (*wish, 0, 1)
    else:
        assert "need" in refused(system, **changes).rule.sentence


@pytest.mark.parametrize("start", [(0, 0, 0, 0), (16, 0, 0, 0), (16, 1, 0, 0), (16, 1, 1, 1)])
@pytest.mark.parametrize("running", [False, True])
def test_no_way_leads_to_a_combination_without_sense(start: tuple[int, int, int, int], running: bool) -> None:
    """R-36: After any request in any state, the combination is allowed, or nothing has changed."""
    for wish in itertools.product((None, 0, 16), (None, 0, 1), (None, 0, 1), (None, 0, 1)):
        system = make_system(dict(zip(ATTRIBUTES, start, strict=False)))
        if running:
            system.power_on("lpar1")
        changes = {name: value for name, value in zip(ATTRIBUTES, wish, strict=False) if value is not None}
        try:
            system.set_attributes("lpar1", changes)
        except OperatorError:
            assert numbers(system.find("lpar1"))[:4] == start
        else:
            assert sensible(*numbers(system.find("lpar1"))[:4])


@pytest.mark.parametrize("name", [UPDATES, LATCH, DYNAMIC])
def test_they_change_only_while_the_partition_is_off(name: str) -> None:
    """R-36: Signed updates, latch and dynamic keys change only while the partition is off."""
    system = make_system(ALL_ON)
    system.set_attributes("lpar1", {LATCH: 0, DYNAMIC: 0})
    system.power_on("lpar1")
    value = 0 if name == UPDATES else 1
    assert "powered off" in refused(system, **{name: value}).rule.sentence
    assert system.set_attributes("lpar1", {name: 1 - value, UPDATES: 1}).running
    system.power_off("lpar1")
    assert numbers(system.set_attributes("lpar1", {name: value}))[1:4].count(1) == 2 * value


@pytest.mark.parametrize("capable", [0, 1])
def test_remote_restart_changes_only_while_the_partition_is_off(capable: int) -> None:
    """R-54: The attribute for remote restart changes only while the partition is off.

    At the start of the partition it decides whether the partition asks the console.
    """
    for kbytes in 0, 16:
        system = make_system({"keystore_kbytes": kbytes, RESTART: capable})
        partition = system.power_on("lpar1")
        assert refused(system, **{RESTART: 1 - capable}).rule is rules.ATTRIBUTE_IDLE
        assert refused(system, **{RESTART: 1 - capable, "keystore_kbytes": 0}).rule is rules.ATTRIBUTE_IDLE
        assert system.set_attributes("lpar1", {RESTART: capable, "secure_boot": 1}).running
        system.power_off("lpar1")
        system.set_attributes("lpar1", {RESTART: 1 - capable})
        assert partition.attributes.simplified_remote_restart_capable == 1 - capable


def test_secure_boot_waits_for_the_next_ipl() -> None:
    """R-36: Secure boot can be set at any time. The running IPL keeps its mode."""
    system = make_system(ON)
    partition = system.power_on("lpar1")
    system.set_attributes("lpar1", {"secure_boot": 2})
    assert (partition.secure_boot, partition.next_secure_boot) == (SecureBoot.OFF, SecureBoot.ENFORCE)
    system.ipl("lpar1")
    assert partition.secure_boot is SecureBoot.ENFORCE


@pytest.mark.parametrize(
    "changes,span",
    [
        ({"secure_boot": 3}, "0 to 2"),
        ({UPDATES: 2}, "0 to 1"),
        ({LATCH: -1}, "0 to 1"),
        ({"keystore_kbytes": -1}, "0, or 4 to 64 or 128 as the firmware level allows"),
    ],
)
def test_values_that_no_attribute_has_are_refused(changes: dict[str, int], span: str) -> None:
    """R-36: A value out of range is refused, and the refusal has the range."""
    error = refused(make_system(ON), **changes)
    assert f"it is {span}" in error.message
    assert error.rule is rules.ATTRIBUTE_RANGE


def test_unknown_attributes_are_refused_and_the_known_ones_named() -> None:
    """R-36: An unknown attribute is refused with the known names, and nothing of the request is applied."""
    error = refused(make_system(), keystore_kbytes=16, keystore_magic=1)
    assert "'keystore_magic'" in error.message
    assert DYNAMIC in error.message
    assert error.rule is rules.ATTRIBUTE_KNOWN


def test_sizes_keep_their_rules() -> None:
    """R-31, R-32: Sizes have the same rules in each request that sets a size."""
    system = make_system(ON)
    assert refused(system, keystore_kbytes=8).rule.sentence == "a keystore never shrinks, except to 0"
    assert refused(system, keystore_kbytes=8).message == "lpar1: 8 KiB is less than its 16 KiB"
    assert ", and no size for a keystore: 0, or 4 to " in refused(system, keystore_kbytes=3).message
    assert refused(system, keystore_kbytes=3, keystore_signed_updates=1).rule.sentence
    system.power_on("lpar1")
    assert "powered off" in refused(system, keystore_kbytes=32).rule.sentence


def test_a_level_without_signed_updates_refuses_them() -> None:
    """R-36, R-74: an attribute that the firmware lacks can't be switched on."""
    system = make_system(ON, "FW950")
    error = refused(system, **{UPDATES: 1})
    assert error.message == f"{UPDATES} needs SIGNED_UPDATE, which {system.level.name} lacks"


@pytest.mark.parametrize("name", [UPDATES, DYNAMIC])
def test_zeroing_attributes_of_a_store_in_use_is_hscl0dc8(name: str) -> None:
    """R-36: While objects of signed updates exist, zeroing their attributes is refused with HSCL0DC8."""
    system = make_system(ALL_ON)
    hold(system, SIGNED, PLAIN)
    zeroed = {UPDATES: 0, LATCH: 0, DYNAMIC: 0} if name == UPDATES else {DYNAMIC: 0}
    assert refused(system, **zeroed).rule.code == "HSCL0DC8"
    everything = refused(system, keystore_kbytes=0, **zeroed)
    assert (everything.rule.code, everything.rule.id) == ("HSCL0DC8", "size.in-use")
    assert numbers(system.set_attributes("lpar1", {LATCH: 0}))[2] == 0
    hold(system, PLAIN)
    zeroed.pop(LATCH, None)
    assert numbers(system.set_attributes("lpar1", zeroed))[0] == 16


def test_disabling_takes_the_attributes_along() -> None:
    """R-33, R-36: Disabling an empty keystore sets its other attributes to 0, also while running."""
    system = make_system(ALL_ON)
    partition = system.power_on("lpar1")
    system.set_attributes("lpar1", {"keystore_kbytes": 0})
    assert numbers(partition) == (0, 0, 0, 0, 0, 1)
    system.power_off("lpar1")
    assert numbers(system.set_attributes("lpar1", {"keystore_kbytes": 16})) == (16, 0, 0, 0, 0, 1)


def test_a_refused_partition_keeps_its_attributes() -> None:
    """R-22: A refused partition keeps the attributes of its stored record."""
    system = make_system(ALL_ON)
    refusal = StorageError(storage.IMAGE_LENGTHS, "the image is damaged")
    system.adopt(system.find("lpar1").profile, state=power.refused(refusal))
    assert "stays as it was stored" in refused(system, **{LATCH: 0}).rule.sentence
    assert system.set_attributes("lpar1", {LATCH: 1}).refused is refusal


def test_the_latch_is_cleared_once_and_takes_the_image_along() -> None:
    """R-36: Clearing the latch changes the image's generation, so PK and latch become durable together.

    A second clearing changes nothing.
    """
    system = make_system(ALL_ON)
    partition = system.power_on("lpar1")
    keystore = partition.keystore
    assert keystore
    keystore.contents.mark_flushed(keystore.contents.generation)
    partition.disarm_without_verification(LatchUse.PK_TAKEN)
    generation = keystore.contents.generation
    assert keystore.contents.dirty
    assert partition.profile.attributes.keystore_signed_updates_without_verification == 0
    assert partition.profile.image_generation == generation
    assert partition.take_latch_use() is LatchUse.PK_TAKEN
    partition.disarm_without_verification(LatchUse.PK_DELETED)
    assert keystore.contents.generation == generation
    assert partition.take_latch_use() is None


def test_without_signed_updates_the_call_does_not_exist() -> None:
    """R-36: Without the attribute, SIGNED_UPDATE returns H_FUNCTION before any other check."""
    system = make_system(ON)
    partition = system.power_on("lpar1")
    guest = Guest(partition)
    assert guest.config().algorithms == 0
    assert guest.do(Opcode.SIGNED_UPDATE) == Answer(-2)
    assert guest.refusals[0].rule.id == "call.switched"
    assert "swpks hmc set lpar1 keystore_signed_updates=1" in guest.refusals[0].message
    assert guest.do(Opcode.REVOKE_OBJECT) == Answer(-2)
    assert guest.refusals[1].rule.id == "call.served"


SB_VERSION = b"SB_VERSION"
WORLD_READABLE_AND_PROVIDED = 0x08000008


@pytest.mark.parametrize("consumer_password", [b"", b"firmware has locked its objects"])
def test_dynamic_keys_make_sb_version(consumer_password: bytes) -> None:
    """R-36: With dynamic keys, each IPL makes SB_VERSION: one byte 1, readable without a password."""
    system = make_system(ON | {UPDATES: 1})
    partition = system.power_on("lpar1")
    assert Guest(partition).read(1, SB_VERSION) == Answer(-7)
    system.power_off("lpar1")
    system.set_attributes("lpar1", {DYNAMIC: 1})
    for start in (system.power_on, system.ipl, system.ipl):
        guest = Guest(start("lpar1"))
        if consumer_password:
            assert guest.set_password(1, consumer_password) == Answer(0)
        assert guest.read(1, SB_VERSION) == Answer(0, 1, WORLD_READABLE_AND_PROVIDED, b"\x01")
        assert guest.read(3, SB_VERSION) == Answer(-7)
        assert guest.config().used == 0
        assert guest.remove(1, SB_VERSION, password=consumer_password).status == -10
        assert guest.write(1, SB_VERSION, b"0", password=consumer_password).status == -16
    system.power_off("lpar1")
    system.set_attributes("lpar1", {DYNAMIC: 0})
    system.power_on("lpar1")
    assert Guest(partition).read(1, SB_VERSION) == Answer(-7)


def test_sb_version_is_no_use_of_the_store() -> None:
    """R-33, R-36: A keystore that has only SB_VERSION is empty and may be disabled while running."""
    system = make_system(ALL_ON)
    partition = system.power_on("lpar1")
    assert partition.keystore
    assert partition.keystore.contents.object_count == 0
    assert partition.keystore.contents.snapshot().objects == ()
    assert numbers(system.set_attributes("lpar1", {"keystore_kbytes": 0})) == (0, 0, 0, 0, 0, 1)
