"""The management console's rules about partitions: sizes, totals, power, names."""

import itertools
import re
from collections.abc import Callable
from uuid import UUID

import pytest

from hcall_abi.console import AT_FIRST, IN_USE_CODE
from hcall_abi.consumers import SecureBoot
from hcall_abi.errors import OperatorError, StorageError
from hcall_abi.levels import LEVELS
from hcall_abi.rules import console as rules
from hcall_abi.rules import storage
from hcall_abi.rules.rule import Fault, Rule
from hcall_server.platform import power
from hcall_server.platform.partition import Partition
from hcall_server.platform.power import Power
from hcall_server.platform.profile import PartitionProfile
from hcall_server.platform.system import ManagedSystem
from tests.guest import Answer, Chance, Guest


def make_system(level: str = "FW950", total: int | None = None) -> ManagedSystem:
    return ManagedSystem(LEVELS[level], bytes(16), Chance(), total_kbytes=total)


def picture(system: ManagedSystem) -> object:
    """Return all state that a refused request must not change."""
    return [
        (each.profile, each.power, each.secure_boot, each.keystore) for each in system.partitions.values()
    ]


def refused(system: ManagedSystem, request: Callable[[], object]) -> OperatorError:
    """Make a request that must be refused as an operator's fault; return the error.

    Check that it has a rule with a page, and that nothing has changed.
    """
    before = picture(system)
    with pytest.raises(OperatorError) as caught:
        request()
    assert picture(system) == before
    assert caught.value.fault is Fault.OPERATOR
    assert re.fullmatch(r"spec/control\.md#[a-z]+", caught.value.rule.page)
    return caught.value


def test_the_keystore_of_a_new_partition_is_off() -> None:
    """R-30, R-35: The keystore of a new partition is off: every call returns H_FUNCTION."""
    system = make_system()
    partition = system.create("lpar1")
    assert (partition.kbytes, partition.keystore, partition.power) == (0, None, Power.OFF)
    system.power_on("lpar1")
    assert Guest(partition).gen_password(3) == Answer(-2)


@pytest.mark.parametrize("later", [False, True])
def test_it_is_enabled_at_creation_or_later(later: bool) -> None:
    """R-30: A keystore that is enabled at creation equals one that is enabled later: empty, of that size."""
    system = make_system()
    partition = system.create("lpar1", 0 if later else 16)
    if later:
        system.set_attributes("lpar1", {"keystore_kbytes": 16})
    system.power_on("lpar1")
    config = Guest(partition).config()
    assert (config.total, config.used) == (16 * 1024, 0)


SIZES = [("FW950", size, size == 0 or 4 <= size <= 64) for size in (0, 1, 3, 4, 5, 63, 64, 65, 128, -1, -64)]
SIZES += [("FW1110", size, size == 0 or 4 <= size <= 128) for size in (0, 3, 4, 64, 65, 127, 128, 129, -4)]


@pytest.mark.parametrize("level,kbytes,fine", SIZES)
def test_sizes(level: str, kbytes: int, fine: bool) -> None:
    """R-31: Sizes are 4 to 64 KiB in steps of 1, and up to 128 on Power11. Others are refused."""
    system = make_system(level)
    if fine:
        assert system.create("lpar1", kbytes).kbytes == kbytes
        system.create("lpar2")
        assert system.set_attributes("lpar2", {"keystore_kbytes": kbytes}).kbytes == kbytes
    else:
        system.create("there")
        sized = {"keystore_kbytes": kbytes}
        for request in (
            lambda: system.create("lpar1", kbytes),
            lambda: system.set_attributes("there", sized),
        ):
            refused(system, request)
        if kbytes > 0:
            error = refused(system, lambda: system.set_attributes("there", {"keystore_kbytes": kbytes}))
            assert f"0, or 4 to {LEVELS[level].max_kbytes} KiB on {level}" in error.message


GROWING = [
    # columns: present size, requested size, whether the partition runs, whether the change is permitted
    (0, 4, False, True),
    (0, 4, True, False),
    (4, 5, False, True),
    (4, 64, False, True),
    (4, 5, True, False),
    (8, 7, False, False),
    (8, 4, True, False),
    (8, 8, True, True),
    (0, 0, True, True),
    (8, 0, False, True),
    (8, 0, True, True),
]


@pytest.mark.parametrize("now,asked,running,permitted", GROWING)
def test_growing_needs_a_stopped_partition_and_shrinking_is_never(
    now: int, asked: int, running: bool, permitted: bool
) -> None:
    """R-32, R-33: A keystore grows only while the partition is off. It never shrinks, but may become 0."""
    system = make_system()
    system.create("lpar1", now)
    if running:
        system.power_on("lpar1")
    if permitted:
        partition = system.set_attributes("lpar1", {"keystore_kbytes": asked})
        assert partition.kbytes == asked
        assert (partition.keystore is not None) == bool(asked)
    else:
        refused(system, lambda: system.set_attributes("lpar1", {"keystore_kbytes": asked}))


@pytest.mark.parametrize("policy", [0, 0x0200_0000])
@pytest.mark.parametrize("running", [True, False])
def test_a_keystore_in_use_is_not_disabled(policy: int, running: bool) -> None:
    """R-33: While any object exists, also a transient one, size 0 is refused with HSCL0DC8."""
    system = make_system()
    guest = Guest(system.create("lpar1", 8))
    system.power_on("lpar1")
    assert guest.write(1, b"label", b"data", policy=policy) == Answer(0)
    refusal = refused(system, lambda: system.set_attributes("lpar1", {"keystore_kbytes": 0}))
    assert refusal.rule.code == IN_USE_CODE == "HSCL0DC8"
    assert "HSCL0DC8" in str(refusal)
    assert guest.read(1, b"label").status == 0
    assert guest.remove(1, b"label") == Answer(0)
    if not running:
        system.power_off("lpar1")
    system.set_attributes("lpar1", {"keystore_kbytes": 0})
    assert guest.read(1, b"label").status in {-2, -75}


def test_once_disabled_it_waits_for_power_off() -> None:
    """R-33, R-35: A keystore that was disabled in a running partition can be enabled only after power-off."""
    system = make_system()
    guest = Guest(system.create("lpar1", 8))
    system.power_on("lpar1")
    system.set_attributes("lpar1", {"keystore_kbytes": 0})
    assert guest.gen_password(3) == Answer(-2)
    refused(system, lambda: system.set_attributes("lpar1", {"keystore_kbytes": 8}))
    system.ipl("lpar1")
    refused(system, lambda: system.set_attributes("lpar1", {"keystore_kbytes": 8}))
    system.power_off("lpar1")
    system.set_attributes("lpar1", {"keystore_kbytes": 4})
    system.power_on("lpar1")
    assert guest.config().total == 4096


def test_disabling_takes_passwords_with_it_but_confirms_nothing() -> None:
    """R-33, R-04, R-20: After disabling and enabling, no password is set.

    A removed object is still pending until the new store is durable.
    """
    system = make_system()
    guest = Guest(system.create("lpar1", 8))
    system.power_on("lpar1")
    guest.write(3, b"label", b"data")
    guest.remove(3, b"label")
    guest.set_password(3, b"old")
    system.set_attributes("lpar1", {"keystore_kbytes": 0})
    system.power_off("lpar1")
    system.set_attributes("lpar1", {"keystore_kbytes": 8})
    system.power_on("lpar1")
    assert guest.confirm(3, b"label") == Answer(0, 0)
    assert guest.set_password(3, b"new") == Answer(0)


def test_growing_keeps_the_objects() -> None:
    """R-32: the larger store has the objects of the smaller one."""
    system = make_system()
    guest = Guest(system.create("lpar1", 4))
    system.power_on("lpar1")
    guest.write(3, b"label", bytes(4000))
    system.power_off("lpar1")
    system.set_attributes("lpar1", {"keystore_kbytes": 64})
    system.power_on("lpar1")
    assert guest.read(3, b"label").r4 == 4000
    assert guest.config().total == 65536


def test_all_keystores_stay_within_the_total() -> None:
    """R-34: On FW950 the total is 1 MiB: sixteen keystores of 64 KiB, and not one KiB more."""
    system = make_system()
    for n in range(16):
        system.create(f"lpar{n}", 64 if n else 60)
    assert refused(system, lambda: system.create("more", 5)).message.startswith("5 KiB do not fit: 1020")
    system.create("more", 4)
    system.create("none")
    for name in ("lpar0", "none"):
        refused(system, lambda name=name: system.set_attributes(name, {"keystore_kbytes": 64}))  # type: ignore[misc]
    system.set_attributes("lpar5", {"keystore_kbytes": 0})
    assert system.set_attributes("lpar0", {"keystore_kbytes": 64}).kbytes == 64
    assert system.set_attributes("none", {"keystore_kbytes": 60}).kbytes == 60
    refused(system, lambda: system.set_attributes("lpar5", {"keystore_kbytes": 4}))


@pytest.mark.parametrize("level,total", [("FW950", 1024), ("FW1110", 16384)])
def test_the_total_is_the_levels_unless_it_is_configured(level: str, total: int) -> None:
    """R-34: The total is the level's or the configured one. A store that grows counts once."""
    assert make_system(level).total_kbytes == total
    system = make_system(level, total=10)
    system.create("lpar1", 6)
    refused(system, lambda: system.create("lpar2", 5))
    assert system.set_attributes("lpar1", {"keystore_kbytes": 10}).kbytes == 10
    refused(system, lambda: system.set_attributes("lpar1", {"keystore_kbytes": 11}))
    system.create("lpar2", 0)


POWER = [
    # columns: state, request, state after the request or the rule that refuses it
    (Power.OFF, "power_on", Power.RUNNING),
    (Power.OFF, "power_off", rules.POWER_RUNNING),
    (Power.OFF, "ipl", rules.POWER_RUNNING),
    (Power.RUNNING, "power_on", rules.POWER_STOPPED),
    (Power.RUNNING, "power_off", Power.OFF),
    (Power.RUNNING, "ipl", Power.RUNNING),
    (Power.REFUSED, "power_on", rules.POWER_OPENED),
    (Power.REFUSED, "power_off", rules.POWER_RUNNING),
    (Power.REFUSED, "ipl", rules.POWER_RUNNING),
]
DAMAGED = power.refused(StorageError(storage.IMAGE_LENGTHS, "the image is damaged"))


@pytest.mark.parametrize("state,request_name,after", POWER)
def test_power(state: Power, request_name: str, after: Power | Rule) -> None:
    """Each request in each state does what the power table says. Each way into RUNNING counts an IPL."""
    system = make_system()
    partition = system.create("lpar1", 8)
    if state is Power.RUNNING:
        system.power_on("lpar1")
    elif state is Power.REFUSED:
        partition = system.adopt(partition.profile, state=DAMAGED)
    count = partition.ipl_count
    if isinstance(after, Rule):
        before = picture(system)
        with pytest.raises(OperatorError) as caught:
            getattr(system, request_name)("lpar1")
        assert (caught.value.rule, caught.value.fault) == (after, Fault.OPERATOR)
        assert picture(system) == before
    else:
        assert getattr(system, request_name)("lpar1") is partition
        assert partition.power is after
        assert partition.ipl_count == count + (after is Power.RUNNING)


def test_the_power_table_is_whole() -> None:
    """The power table has a row for every event in every state."""
    assert power.TABLE.keys() == set(itertools.product(Power, power.PowerEvent))
    verbs = [event for _, event in power.TABLE if event is not power.PowerEvent.ARRIVE]
    assert len(POWER) == len(verbs)


def test_the_secure_boot_mode_takes_effect_at_the_next_ipl() -> None:
    """R-10: A secure-boot mode that is set while the partition runs is in effect from the next IPL."""
    system = make_system()
    partition = system.create("lpar1", 8)
    system.set_attributes("lpar1", {"secure_boot": SecureBoot.ENFORCE})
    assert partition.secure_boot is SecureBoot.OFF
    system.power_on("lpar1")
    guest = Guest(partition)
    assert guest.write(3, b"label", b"data", policy=0x2000_0000) == Answer(0)
    system.set_attributes("lpar1", {"secure_boot": SecureBoot.AUDIT})
    assert guest.read(3, b"label").status == 0
    system.ipl("lpar1")
    assert guest.read(3, b"label") == Answer(-10, 0, 0x2000_0000)
    system.set_attributes("lpar1", {"secure_boot": SecureBoot.ENFORCE})
    system.power_off("lpar1")
    system.power_on("lpar1")
    assert guest.read(3, b"label").written == b"data"


GOOD_NAMES = ["a", "0", "lpar1", "a.b-c_d", "x" * 31, "Control", "tcp1"]
BAD_NAMES = ["", "x" * 32, ".a", "-a", "_a", "a/b", "a b", "a\n", "é", "..", "control", "tcp", "a\0"]


@pytest.mark.parametrize("name", GOOD_NAMES + BAD_NAMES)
def test_names(name: str) -> None:
    """R-30: A name becomes a file name, so it has plain letters and is no reserved word."""
    system = make_system()
    if name in BAD_NAMES:
        refused(system, lambda: system.create(name))
    else:
        assert system.create(name) is system.find(name)
        refused(system, lambda: system.create(name))


def test_unknown_partitions_are_named_in_the_refusal() -> None:
    """R-30: A request about a missing partition is refused, and the refusal has its name."""
    system = make_system()
    for request in (system.find, system.power_on, system.power_off, system.ipl):
        assert "'nobody'" in refused(system, lambda request=request: request("nobody")).message  # type: ignore[misc]
    refused(system, lambda: system.set_attributes("nobody", {"keystore_kbytes": 4}))
    refused(system, lambda: system.set_attributes("nobody", {"secure_boot": SecureBoot.AUDIT}))


def stored_profile(number: int, name: str) -> PartitionProfile:
    return PartitionProfile(number, name, UUID(int=number), access_key=bytes(32))


def test_numbers_are_the_lowest_that_are_free() -> None:
    """R-01: Each partition has its own number: the lowest free one, and never 0."""
    system = make_system()
    system.adopt(stored_profile(2, "stored"))
    assert [system.create(name).number for name in "abc"] == [1, 3, 4]
    assert system.by_number(2) is system.find("stored")
    assert system.by_number(0) is system.by_number(5) is None


def test_a_refused_partition_neither_starts_nor_changes() -> None:
    """R-22: A refused partition can't be started or changed. Its record, space and number stay."""
    system = make_system(total=20)
    stored = AT_FIRST.with_numbers({"keystore_kbytes": 16})
    profile = stored_profile(1, "damaged")._replace(attributes=stored, ipl_count=3, image_generation=9)
    reason = StorageError(storage.IMAGE_LENGTHS, "the image is damaged")
    partition = system.adopt(profile, state=power.refused(reason))
    with pytest.raises(OperatorError, match="damaged cannot start: the image is damaged"):
        system.power_on("damaged")
    assert (partition.power, partition.ipl_count, partition.refused) == (Power.REFUSED, 3, reason)
    assert (partition.profile, partition.keystore) == (profile, None)
    for kbytes in (0, 17):
        change = {"keystore_kbytes": kbytes}
        refused(system, lambda change=change: system.set_attributes("damaged", change))  # type: ignore[misc]
    refused(system, lambda: system.create("other", 5))
    assert system.create("other", 4).number == 2


def test_nothing_is_created_while_a_name_is_unknown() -> None:
    """R-22: While a name is unreadable, no partition is created: it could get that name."""
    system = make_system()
    system.create("known", 4)
    lost = power.refused(StorageError(storage.RECORDS_WHOLE, "its profile is missing"), name_unknown=True)
    system.adopt(stored_profile(7, "stand-in"), state=lost)
    refused(system, lambda: system.create("lpar1"))
    assert system.power_on("known").running
    assert system.set_attributes("known", {"keystore_kbytes": 0}).kbytes == 0


def test_partitions_of_two_systems_and_of_one_share_nothing() -> None:
    """R-01: Two partitions with equal names, numbers and labels, in one system or two, share no state."""
    guests = []
    for system in (make_system(), make_system()):
        for name in ("lpar1", "lpar2"):
            guests.append(Guest(system.create(name, 8)))
            system.power_on(name)
    for n, guest in enumerate(guests):
        assert guest.write(3, b"label", b"data %d" % n) == Answer(0)
        assert guest.set_password(3, b"word %d" % n) == Answer(0)
    for n, guest in enumerate(guests):
        assert guest.read(3, b"label", password=b"word %d" % n).written == b"data %d" % n
        assert guest.read(3, b"label", password=b"word %d" % (n - 1)) == Answer(-10)


def test_strict_memory_is_the_systems_choice() -> None:
    """R-76: Strict memory is on by default. A partition uses the setting of its system."""
    assert make_system().create("lpar1").strict_memory
    relaxed = ManagedSystem(LEVELS["FW950"], bytes(16), Chance(), strict_memory=False)
    assert not relaxed.create("lpar1").strict_memory
    unaligned = ManagedSystem(LEVELS["FW1110"], bytes(16), Chance(), strict_wrapping=False).create("lpar1")
    assert (unaligned.strict_memory, unaligned.strict_wrapping) == (True, False)


def test_texts_show_names_and_sizes_only() -> None:
    """R-02: The text of a system or partition shows no contents."""
    system = make_system()
    partition: Partition = system.create("lpar1", 8)
    assert repr(partition) == "Partition(1, 'lpar1', 8 KiB, off)"
    assert repr(system) == "ManagedSystem(FW950, 1 partitions)"
