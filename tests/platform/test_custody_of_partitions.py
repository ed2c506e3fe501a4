"""A system serves and changes only the partitions that it owns. It reserves the names of departed ones."""

import itertools
from collections.abc import Callable
from uuid import UUID

import pytest

from hcall_abi.consumers import SecureBoot
from hcall_abi.errors import OperatorError
from hcall_abi.levels import LEVELS
from hcall_abi.rules import console as rules
from hcall_abi.rules import migration
from hcall_server.platform.custody import OWNING, STORED, UNSURE, Custody, Mode, mode_after_start
from hcall_server.platform.departed import Departed
from hcall_server.platform.partition import Partition
from hcall_server.platform.power import Power, PowerEvent
from hcall_server.platform.system import ManagedSystem
from hcall_server.platform.whole import PartitionWish
from tests.guest import Answer, Chance, Guest

PEER = bytes(range(16))
STANDS = list(itertools.product(sorted(STORED), Mode))


def make_system(level: str = "FW1110", total: int | None = None) -> ManagedSystem:
    return ManagedSystem(LEVELS[level], bytes(16), Chance(), total_kbytes=total)


def standing(custody: Custody, mode: Mode, *, running: bool = False) -> tuple[ManagedSystem, Partition]:
    """A system with one partition, `lpar1`, in this custody and mode."""
    system = make_system()
    partition = system.create("lpar1", 8)
    if running:
        system.power_on("lpar1")
    partition.set_custody(custody, 7, PEER)
    partition.mode = mode
    return system, partition


def refusal(request: Callable[[], object]) -> OperatorError:
    with pytest.raises(OperatorError) as caught:
        request()
    return caught.value


@pytest.mark.parametrize("custody,mode", STANDS)
def test_power_asks_custody(custody: Custody, mode: Mode) -> None:
    """R-51, R-54: Only an owner that serves allows a change of power. Each refusal names the state."""
    for event in PowerEvent:
        _, partition = standing(custody, mode, running=event in (PowerEvent.IPL, PowerEvent.POWER_OFF))
        before = partition.power
        if custody in OWNING and mode in (Mode.SERVING, Mode.COPYING):
            assert partition.next_power(event) is (
                Power.OFF if event is PowerEvent.POWER_OFF else Power.RUNNING
            )
            continue
        error = refusal(lambda: partition.next_power(event))  # noqa: B023 - called at once
        asking = custody in OWNING and mode is Mode.ASKING
        assert error.rule is (migration.CUSTODY_CONFIRMED if asking else migration.CUSTODY_OWNED)
        for word in "lpar1", custody.name, mode.value, "attempt 7", PEER.hex():
            assert word in error.message
        assert partition.power is before


@pytest.mark.parametrize("custody,mode", STANDS)
def test_only_an_owned_partition_is_changed(custody: Custody, mode: Mode) -> None:
    """R-51: Only an owner can change or delete the partition. A refusal changes nothing."""
    requests: list[Callable[[ManagedSystem], object]] = [
        lambda system: system.set_attributes("lpar1", {"secure_boot": 2}),
        lambda system: system.change("lpar1", PartitionWish(auto_start=False)),
        lambda system: system.demand_change("lpar1", PartitionWish("other")),
        lambda system: system.set_access_key("lpar1", bytes(32)),
        lambda system: system.demand_deletable("lpar1"),
        lambda system: system.owned("lpar1"),
        lambda system: system.delete("lpar1"),
    ]
    for request in requests:
        system, partition = standing(custody, mode)
        before = partition.profile
        if custody in OWNING and mode not in UNSURE:
            request(system)
            continue
        assert refusal(lambda: request(system)).rule is migration.CUSTODY_OWNED  # noqa: B023
        assert system.partitions == {"lpar1": partition}
        assert partition.profile == before


def test_a_partition_that_does_not_exist_is_owned_by_nobody_here() -> None:
    """R-30: A partition that does not exist is refused by the rule of its name."""
    assert refusal(lambda: make_system().owned("lpar1")).rule is rules.NAME_EXISTS


def test_a_frozen_partition_runs_on() -> None:
    """R-51: A frozen partition stays RUNNING with its passwords. The operator can't stop it.

    When the partition leaves, it is off and has no passwords.
    """
    system, partition = standing(Custody.OWN, Mode.SERVING, running=True)
    guest = Guest(partition)
    assert guest.gen_password(3).status == 0
    partition.set_custody(Custody.FROZEN, 8, PEER)
    partition.mode = Mode.WAITING
    for request in system.power_off, system.ipl, system.power_on:
        assert refusal(lambda request=request: request("lpar1")).rule is migration.CUSTODY_OWNED  # type: ignore[misc]
    assert partition.running
    assert partition.keystore is not None
    assert partition.keystore.used_state().passwords
    partition.set_custody(Custody.RELEASED, 8, PEER)
    partition.leave()
    partition.leave()
    assert not system.find("lpar1").running
    assert not partition.keystore.used_state().passwords


def test_it_arrives_without_an_ipl() -> None:
    """R-51: An arrived partition has IPL count, mode, passwords and TRANSIENT objects of its source."""
    source = make_system()
    source.create("lpar1", 8, further={"keystore_signed_updates": 1, "linux_dynamic_key_secure_boot": 1})
    source.set_attributes("lpar1", {"secure_boot": 2})
    source.power_on("lpar1")
    one = source.set_attributes("lpar1", {"secure_boot": 1})
    guest = Guest(one)
    password = guest.gen_password(3).written
    assert guest.write(3, b"label", b"data", policy=0x2200_0000, password=password) == Answer(0)
    assert one.keystore is not None
    profile = one.profile._replace(custody=Custody.ARRIVED, epoch=9, peer=PEER)
    two = make_system().adopt(profile, one.keystore.contents.snapshot())
    two.arrive(one.keystore.used_state(), one.secure_boot)
    assert (two.power, two.ipl_count, two.profile) == (Power.RUNNING, one.ipl_count, profile)
    assert (two.secure_boot, two.next_secure_boot) == (SecureBoot.ENFORCE, SecureBoot.AUDIT)
    assert Guest(two).read(3, b"label", password=password).written == b"data"
    assert Guest(two).read(1, b"SB_VERSION").written == b"\1"
    assert Guest(two).gen_password(3).status != 0
    assert refusal(lambda: two.arrive(None, SecureBoot.OFF)).rule is rules.POWER_STOPPED


def test_a_partition_without_keystore_arrives_too() -> None:
    """R-35, R-51: A partition without a keystore arrives with its profile, in the mode of its IPL."""
    partition = make_system().create("lpar1")
    partition.arrive(None, SecureBoot.AUDIT)
    assert (partition.power, partition.secure_boot, partition.ipl_count) == (
        Power.RUNNING,
        SecureBoot.AUDIT,
        0,
    )


@pytest.mark.parametrize("custody", sorted(STORED))
def test_the_mode_after_a_start(custody: Custody) -> None:
    """R-51: After a start, the custody decides the mode and whether the system owns the partition."""
    partition = make_system().create("lpar1")
    again = make_system().adopt(partition.profile._replace(custody=custody, epoch=7))
    assert again.mode is mode_after_start(custody, asks=False)
    assert again.owned == (custody in OWNING)


def test_a_prepared_partition_takes_its_room() -> None:
    """R-51: A prepared partition takes name, number and space before it may be served."""
    system = make_system(total=16)
    partition = system.create("lpar1", 12)
    partition.set_custody(Custody.PREPARED, 7, PEER)
    partition.mode = Mode.SETTLED
    assert system.assigned_kbytes == 12
    assert refusal(lambda: system.create("lpar2", 8)).rule is rules.SIZE_TOTAL
    assert refusal(lambda: system.create("lpar1")).rule is rules.NAME_NEW
    assert system.create("lpar2", 4).number == 2


LEFT = Departed(UUID(int=5, version=4), "lpar1", Custody.GONE, 7, PEER, reserves_name=True)


def test_the_name_of_a_partition_that_has_left_is_kept() -> None:
    """R-51: The name of a partition that has left stays reserved until an operator frees it."""
    system = make_system()
    system.create("other")
    system.departed[LEFT.uuid] = LEFT
    stranger = make_system().create("lpar1").profile
    for request in (
        lambda: system.create("lpar1"),
        lambda: system.change("other", PartitionWish("lpar1")),
        lambda: system.demand_room(stranger, None),
    ):
        error = refusal(request)
        assert error.rule is rules.NAME_NEW
        assert "has moved to another system" in error.message
    assert system.reserving("lpar1") == LEFT
    system.demand_room(stranger._replace(uuid=LEFT.uuid), None)
    assert system.create("lpar1", frees_name=True).name == "lpar1"
    assert system.departed == {LEFT.uuid: LEFT._replace(reserves_name=False)}
    assert system.reserving("lpar1") is None


def test_a_refused_partition_frees_no_name() -> None:
    """R-51: If no new partition is made, the reserved name stays reserved."""
    system = make_system()
    system.departed[LEFT.uuid] = LEFT
    refusal(lambda: system.create("lpar1", 9999, frees_name=True))
    refusal(lambda: system.create("lpar1", number=0, frees_name=True))
    assert system.reserving("lpar1") == LEFT


def test_a_partition_that_has_moved_is_not_restored_here() -> None:
    """R-51: A partition that has moved can't be restored here: there would be two owners.

    If only its copy was dropped here, it can be restored.
    """
    system = make_system()
    system.departed[LEFT.uuid] = LEFT
    error = refusal(lambda: system.demand_not_left(LEFT.uuid))
    assert error.rule is migration.CUSTODY_OWNED
    assert PEER.hex() in error.message
    system.departed[LEFT.uuid] = LEFT._replace(custody=Custody.NONE)
    system.demand_not_left(LEFT.uuid)
    system.demand_not_left(UUID(int=6))
