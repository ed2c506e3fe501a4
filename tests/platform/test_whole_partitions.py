"""Whole partitions: created with a number, changed, renamed, deleted. Also the name of the system."""

import re
from collections.abc import Callable
from uuid import UUID

import pytest

from hcall_abi.console import RESERVED_NAMES
from hcall_abi.errors import OperatorError
from hcall_abi.levels import LEVELS
from hcall_abi.rules import console as rules
from hcall_abi.rules import service, storage
from hcall_abi.rules.rule import Rule
from hcall_server.platform.absent import no_partition
from hcall_server.platform.custody import Custody
from hcall_server.platform.departed import Departed
from hcall_server.platform.power import refused
from hcall_server.platform.system import ManagedSystem
from hcall_server.platform.system_state import SystemState
from hcall_server.platform.whole import PartitionWish
from tests.guest import Answer, Chance, Guest

UPDATES = "keystore_signed_updates"


@pytest.fixture
def system() -> ManagedSystem:
    """A system with two partitions: `a` has a keystore of 8 KiB, and `b` has no keystore."""
    system = ManagedSystem(LEVELS["FW1110"], bytes(16), Chance(), total_kbytes=100)
    system.create("a", 8)
    system.create("b")
    return system


def picture(system: ManagedSystem) -> object:
    """Return all state that a refused request must not change."""
    found = [(name, each.profile, each.power, each.keystore) for name, each in system.partitions.items()]
    return found, system.name, system.assigned_kbytes


def broken(system: ManagedSystem, request: Callable[[], object]) -> Rule:
    """Return the rule that a request breaks; check that it changes nothing."""
    before = picture(system)
    with pytest.raises(OperatorError) as caught:
        request()
    assert picture(system) == before
    return caught.value.rule


def fill(system: ManagedSystem, name: str = "a") -> None:
    """Put an object into a keystore, and leave the partition off."""
    system.power_on(name)
    assert Guest(system.find(name)).write(3, b"label", b"data") == Answer(0)
    system.power_off(name)


def test_a_partition_is_created_with_number_and_attributes(system: ManagedSystem) -> None:
    """R-30, R-36: A partition is created with number and attributes. By default: the lowest free number."""
    made = system.create("c", 4, number=9, further={UPDATES: 1, "secure_boot": 2})
    assert (made.number, made.kbytes, made.attributes.numbers[UPDATES]) == (9, 4, 1)
    assert system.create("d", further={"keystore_kbytes": 5}).kbytes == 5
    assert system.find("d").number == 3
    assert system.create("e", number=65535).number == 65535


@pytest.mark.parametrize(
    "wish,rule",
    [
        ({"number": 0}, rules.PARTITION_NUMBER),
        ({"number": 65536}, rules.PARTITION_NUMBER),
        ({"number": 2}, rules.PARTITION_NUMBER),
        ({"further": {"colour": 1}}, rules.ATTRIBUTE_KNOWN),
        ({"further": {"secure_boot": 3}}, rules.ATTRIBUTE_RANGE),
        ({"further": {UPDATES: 1}}, rules.ATTRIBUTE_KEYSTORE),
        ({"kbytes": 93}, rules.SIZE_TOTAL),
        ({"further": {"keystore_kbytes": 3}}, rules.SIZE_RANGE),
        ({"kbytes": 8, "further": {"keystore_kbytes": 8}}, rules.ATTRIBUTE_FORM),
    ],
)
def test_creating_is_all_or_nothing(system: ManagedSystem, wish: dict, rule: Rule) -> None:
    """R-30 to R-36: A new partition that breaks a rule of a change is refused, and nothing is created."""
    assert broken(system, lambda: system.create("c", **wish)) is rule


def test_name_start_and_attributes_change_together(system: ManagedSystem) -> None:
    """R-47: Name, start and attributes change in one request. UUID, number, key and objects stay."""
    fill(system)
    before = system.find("a")
    profile, keystore = before.profile, before.keystore
    changed = system.change("a", PartitionWish("z", auto_start=False, further={"secure_boot": 1}))
    assert changed is before
    assert changed.keystore is keystore
    assert list(system.partitions) == ["z", "b"]
    attributes = profile.attributes.with_numbers({"secure_boot": 1})
    assert changed.profile == profile._replace(name="z", auto_start=False, attributes=attributes)


@pytest.mark.parametrize(
    "wish,rule",
    [
        (PartitionWish("b"), rules.NAME_NEW),
        (PartitionWish("tcp"), rules.NAME_FORM),
        (PartitionWish("z", False, {"colour": 1}), rules.ATTRIBUTE_KNOWN),
        (PartitionWish("z", False, {"keystore_kbytes": 4}), rules.SIZE_SHRINKS),
        (PartitionWish("b", False, {"secure_boot": 2}), rules.NAME_NEW),
    ],
)
def test_a_change_is_all_or_nothing(system: ManagedSystem, wish: PartitionWish, rule: Rule) -> None:
    """R-36: If any part of a change breaks a rule, nothing is changed."""
    assert broken(system, lambda: system.change("a", wish)) is rule


@pytest.mark.parametrize("name", RESERVED_NAMES)
def test_reserved_names_are_in_the_rule(system: ManagedSystem, name: str) -> None:
    """Each reserved name is refused, and the rule lists the name."""
    assert broken(system, lambda: system.create(name)) is rules.NAME_FORM
    assert name in rules.NAME_FORM.sentence.replace(",", "").split()


def test_a_running_partition_keeps_its_name(system: ManagedSystem) -> None:
    """A running partition can't be renamed, but its start and its attributes can change."""
    system.power_on("a")
    assert broken(system, lambda: system.change("a", PartitionWish("z"))) is rules.PARTITION_OFF
    wish = PartitionWish("a", auto_start=False, further={"secure_boot": 2})
    assert system.change("a", wish).auto_start is False


def test_a_refused_partition_is_not_changed(system: ManagedSystem) -> None:
    """A refused partition can't be changed. A request with its present values is no change."""
    error = OperatorError(storage.RECORDS_LEVEL, "too large")
    profile = system.find("b").profile
    system.adopt(profile._replace(name="c", number=3), state=refused(error))
    for wish in (
        PartitionWish("z"),
        PartitionWish(auto_start=False),
        PartitionWish(further={"secure_boot": 2}),
    ):
        assert broken(system, lambda wish=wish: system.change("c", wish)) is rules.POWER_STORED  # type: ignore[misc]
    system.change("c", PartitionWish("c", True, {"secure_boot": 0}))


def test_no_partition_takes_a_name_that_an_unreadable_one_may_have(system: ManagedSystem) -> None:
    """While a name is unreadable, no partition can be renamed: it could get that name."""
    error = OperatorError(storage.RECORDS_LEVEL, "lost")
    profile = system.find("b").profile._replace(name="unreadable:x", number=3)
    system.adopt(profile, state=refused(error, name_unknown=True))
    assert broken(system, lambda: system.change("a", PartitionWish("z"))) is rules.NAME_UNREADABLE
    system.delete("unreadable:x", destroy=True)
    assert system.change("a", PartitionWish("z")).name == "z"


@pytest.mark.parametrize("destroy", [False, True])
def test_an_empty_partition_is_deleted(system: ManagedSystem, destroy: bool) -> None:
    """An empty partition is deleted. Its name, its number and its space are free again."""
    gone = system.delete("a", destroy=destroy)
    assert gone.gone
    assert system.assigned_kbytes == 0
    new = system.create("a", 100)
    assert (new.number, new.profile.uuid == gone.profile.uuid) == (1, False)


def test_a_partition_with_objects_is_deleted_on_purpose(system: ManagedSystem) -> None:
    """R-33: A partition with objects is deleted only with `destroy`."""
    fill(system)
    assert broken(system, lambda: system.delete("a")) is rules.PARTITION_EMPTY
    system.delete("a", destroy=True)
    assert list(system.partitions) == ["b"]


@pytest.mark.parametrize("destroy", [False, True])
def test_a_running_partition_is_not_deleted(system: ManagedSystem, destroy: bool) -> None:
    """A running partition is not deleted, even with `destroy`."""
    system.power_on("b")
    assert broken(system, lambda: system.delete("b", destroy=destroy)) is rules.PARTITION_OFF
    assert broken(system, lambda: system.delete("c", destroy=destroy)) is rules.NAME_EXISTS


def test_a_refused_partition_is_deleted_on_purpose(system: ManagedSystem) -> None:
    """A refused partition is deleted only with `destroy`, because its contents are unknown."""
    error = OperatorError(storage.RECORDS_LEVEL, "too large")
    profile = system.find("b").profile._replace(name="c", number=3)
    system.adopt(profile, state=refused(error))
    assert broken(system, lambda: system.delete("c")) is rules.PARTITION_EMPTY
    assert system.delete("c", destroy=True).profile == profile


def test_the_name_of_the_system(system: ManagedSystem) -> None:
    """The system can be renamed in each state but Reset pending. A name can't look like a serial number."""
    for state in SystemState.OPERATING, SystemState.RECOVERY:
        system.state = state
        system.set_name(f"Server of {state.name}")
        assert broken(system, lambda: system.set_name("a*b")) is service.SYSTEM_NAME_FORM
    assert system.name == "Server of RECOVERY"
    system.state = SystemState.RESET_PENDING
    assert broken(system, lambda: system.set_name("a")) is rules.SYSTEM_OPERATING


def test_a_partition_that_has_left(system: ManagedSystem) -> None:
    """The error says that it has left, and where to ask; it proposes no similar name of another partition."""
    left = Departed(UUID(int=1), "lpar2", Custody.GONE, 1, b"\x2a" * 8)
    told = no_partition("lpar2", system.partitions, [left])
    assert told.endswith(f"by a migration: ask the system with the id {'2a' * 8}, or the console")
    dropped = left._replace(custody=Custody.NONE)
    assert "has left" not in no_partition("lpar2", system.partitions, [dropped])


@pytest.mark.parametrize(
    "name, told",
    [
        ("2", "; 2 is the id of b: give its name"),
        ("lpar", "; did you mean lpar7?"),
        ("z", "; the system has a, b, lpar7, more0, more1, more2, more3, more4, more5, more6 and 3 more"),
        ("z" * 100_000, "and 3 more"),
    ],
)
def test_a_name_that_does_not_exist(system: ManagedSystem, name: str, told: str) -> None:
    """The error for an unknown name has advice: the partition with that id, a similar name, or all names."""
    for other in ("lpar7", *(f"more{number}" for number in range(10))):
        system.create(other)
    with pytest.raises(OperatorError, match=re.escape(told)) as caught:
        system.find(name)
    assert caught.value.message.startswith(f"there is no partition {name!r}; ")


def test_a_name_in_a_system_without_partitions() -> None:
    """If a system has no partitions, the error for any name says so."""
    empty = ManagedSystem(LEVELS["FW1110"], bytes(16), Chance(), total_kbytes=100)
    with pytest.raises(OperatorError, match="no partition 'a'; the system has no partition"):
        empty.find("a")
