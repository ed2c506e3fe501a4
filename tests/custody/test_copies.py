"""Copies that arrive without a mobility channel, and the checks before a migration (R-50, R-52, R-53)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.requests import check_arrival, release_partition, show_needs, take_partition
from hcall_abi.rules import backup
from hcall_abi.rules import migration as rules
from hcall_server.platform.custody import Custody, Mode, Word
from hcall_server.platform.system_state import SystemState
from hcall_server.platform.trusted_key import TrustedSystemKey
from hcall_server.service.settings import Settings
from tests.custody.conftest import Stage
from tests.custody.world import HMC, PASSWORD, A, E, Home


async def off_with_keys(stage: Stage) -> TrustedSystemKey:
    """Power `a` off, and set the same trusted system key at both systems."""
    stage.s.machine.power_off(A)
    key = await stage.s.machine.backups.provide_key()
    assert key
    await stage.t.machine.backups.restore_key(key)
    return key


async def test_an_inactive_migration(stage: Stage) -> None:
    """R-52: S releases the powered-off partition, then T takes its copy. Both orders may be repeated."""
    await off_with_keys(stage)
    order = release_partition(A, str(stage.uuid), E, stage.t.id.hex())
    copies = [await stage.s.link.call(order) for _ in range(2)]
    assert stage.s.a.profile.custody is Custody.RELEASED
    take = take_partition(copies[0].copy, E, stage.s.id.hex())
    check = take_partition(copies[0].copy, E, stage.s.id.hex(), check=True)
    assert (await stage.t.link.call(check)).name == A
    assert stage.t.machine.system.partitions == {}
    view = await stage.t.link.call(take)
    commits = stage.t.nvram.commits
    assert view == await stage.t.link.call(take)
    assert stage.t.nvram.commits == commits
    assert (view.custody, view.power, view.uuid) == ("arrived", "off", str(stage.uuid))
    assert stage.t.keys == {A: stage.s.a.access_key}
    await stage.t.machine.counted_power_on(A)
    assert stage.t.guest().read(3, b"object").written == b"data"
    assert (await stage.t.link.call(take)).power == "running"
    with pytest.raises(OperatorError) as caught:
        await stage.t.link.call(take_partition(copies[1].copy, E + 1, stage.s.id.hex()))
    assert caught.value.rule in (rules.ARRIVAL_CUSTODY, backup.COPY_IDLE)


async def test_an_old_copy_does_not_arrive(stage: Stage) -> None:
    """R-52: the number of an attempt must be larger than that of every earlier one, at both systems."""
    await off_with_keys(stage)
    copy = await stage.s.link.call(release_partition(A, str(stage.uuid), E, stage.t.id.hex()))
    await stage.t.take(stage.uuid, Word.BAR, E)
    for check in (False, True):
        with pytest.raises(OperatorError) as caught:
            await stage.t.link.call(take_partition(copy.copy, E, stage.s.id.hex(), check=check))
        assert caught.value.rule is rules.CUSTODY_EPOCH
    await stage.t.link.call(take_partition(copy.copy, E + 1, stage.s.id.hex()))
    stage.t.machine.system.find(A)
    with pytest.raises(OperatorError) as caught:
        await stage.t.link.call(release_partition(A, str(stage.uuid), E, stage.s.id.hex()))
    assert caught.value.rule is rules.CUSTODY_EPOCH
    with pytest.raises(OperatorError) as caught:
        await stage.t.link.call(
            release_partition(A, str(stage.uuid).replace("-", "-", 1)[:-1] + "0", E, "0" * 32)
        )
    assert caught.value.rule is rules.CUSTODY_UUID


@pytest.mark.parametrize("other", [False, True])
async def test_a_copy_of_another_key_is_refused_before_decryption(stage: Stage, other: bool) -> None:
    """R-53: if the trusted system key is missing or another one, a copy is refused and nothing is changed."""
    stage.s.machine.power_off(A)
    copy = await stage.s.link.call(release_partition(A, str(stage.uuid), E, stage.t.id.hex()))
    if other:
        await stage.t.machine.backups.restore_key(TrustedSystemKey(bytes(32)))
    with pytest.raises(SwpksError) as caught:
        await stage.t.link.call(take_partition(copy.copy, E, stage.s.id.hex()))
    assert caught.value.rule is (backup.COPY_KEY if other else backup.TRUSTED_KEY_SET)
    assert stage.t.machine.system.partitions == {}
    assert stage.t.machine.custodian.facts() == []


async def test_a_running_partition_is_not_released(stage: Stage) -> None:
    """R-51: the release of a running partition is refused, and no record is written."""
    commits = stage.s.nvram.commits
    with pytest.raises(OperatorError) as caught:
        await stage.s.link.call(release_partition(A, str(stage.uuid), E, stage.t.id.hex()))
    assert caught.value.rule is rules.MIGRATION_POWER
    assert (stage.s.nvram.commits, stage.s.a.profile.epoch) == (commits, 0)


async def test_a_restore_keeps_custody_and_asks(stage: Stage) -> None:
    """R-45, R-54: a restore replaces the contents. Custody and an open question to the console stay."""
    await off_with_keys(stage)
    await stage.s.machine.attachment.attach(HMC, "hmc")
    copy = await stage.s.machine.backups.copy_of(A)
    await stage.s.start()
    restored = await stage.s.machine.backups.restore(copy.blob)
    assert restored.mode is Mode.ASKING
    await stage.s.take(stage.uuid, Word.SERVE, 0)
    # If the power were on, SERVE would start the partition.
    stage.s.machine.power_off(A)
    await stage.s.take(stage.uuid, Word.RELEASE, E, peer=stage.t.id)
    with pytest.raises(OperatorError) as caught:
        await stage.s.machine.backups.restore(copy.blob)
    assert caught.value.rule is rules.CUSTODY_OWNED


async def test_a_partition_that_left_is_not_lost_in_recovery(stage: Stage) -> None:
    """R-48: a later Recovery does not wait for a partition that has left, because its key file is removed."""
    await stage.gone()
    stage.s.nvram.records.clear()
    stage.s.nvram.mark.held = [b"", b""]
    machine = stage.s.cut(settings=Settings()).machine
    assert machine.system.state is SystemState.RECOVERY
    assert machine.recovery.lost == []


async def test_a_lost_partition_comes_back_with_its_attempt(stage: Stage) -> None:
    """R-48, R-51: in Recovery, the copy of a partition arrives with the epoch in the console's register."""
    key = await off_with_keys(stage)
    copy = await stage.s.machine.backups.copy_of(A)
    stage.s.nvram.records.clear()
    stage.s.nvram.mark.held = [b"", b""]
    await stage.s.start(Settings())
    machine = stage.s.machine
    await machine.backups.restore_key(key)
    view = await stage.s.link.call(take_partition(copy.blob, E, stage.s.id.hex()))
    assert (view.custody, machine.recovery.lost) == ("arrived", [])
    await machine.recovery.end(give_up=False)
    assert await machine.encryptor.flush()
    assert stage.s.a.running
    assert stage.s.cut().at(stage.uuid) == (Custody.ARRIVED, Mode.SERVING, E)


# Checks before a migration


async def test_needs_are_those_that_the_target_checks(stage: Stage) -> None:
    """R-50: the target's rules decide whether a partition fits. The check changes nothing."""
    needs = await stage.s.link.call(show_needs(A))
    assert (needs.uuid, needs.objects, needs.longest_password) == (str(stage.uuid), 1, len(PASSWORD))
    assert needs.formats
    assert (await stage.t.link.call(check_arrival(needs))).name == A
    stage.s.machine.power_off(A)
    assert (await stage.s.link.call(show_needs(A))).formats == []
    with pytest.raises(OperatorError) as caught:
        await stage.s.link.call(check_arrival(needs))
    assert caught.value.rule is rules.ARRIVAL_CUSTODY
    small = Home(stage.t.nursery, Settings(firmware="FW940"), b"x")
    with pytest.raises(OperatorError) as caught:
        await small.link.call(check_arrival(needs))
    assert caught.value.rule is rules.ARRIVAL_LEVEL


async def test_a_copy_that_does_not_fit_does_not_arrive(stage: Stage) -> None:
    """R-50, R-52: a copy that does not fit is refused by the same rules as a live migration."""
    key = await off_with_keys(stage)
    copy = await stage.s.link.call(release_partition(A, str(stage.uuid), E, stage.t.id.hex()))
    small = Home(stage.t.nursery, Settings(firmware="FW940"), b"x")
    await small.machine.backups.restore_key(key)
    with pytest.raises(OperatorError) as caught:
        await small.link.call(take_partition(copy.copy, E, stage.s.id.hex()))
    assert caught.value.rule is rules.ARRIVAL_LEVEL


@pytest.mark.parametrize("case", ["asks", "alone", "not capable", "without console"])
async def test_a_partition_that_is_restored_here_asks(stage: Stage, case: str) -> None:
    """R-45, R-54: a restored partition asks the console, because another system may own it by now."""
    await off_with_keys(stage)
    if case == "not capable":
        stage.s.machine.set_attributes(A, {"simplified_remote_restart_capable": 0})
    copy = await stage.s.machine.backups.copy_of(A)
    if case == "without console":
        await stage.t.start(replace(stage.t.settings, without_console=True))
    if case != "alone":
        await stage.t.machine.attachment.attach(HMC, "hmc")
    restored = await stage.t.machine.backups.restore(copy.blob)
    assert restored.mode is (Mode.ASKING if case == "asks" else Mode.SERVING)
    again = await stage.t.machine.backups.restore(copy.blob)
    assert again.mode is restored.mode
    if case == "asks":
        with pytest.raises(OperatorError) as caught:
            await stage.t.machine.counted_power_on(A)
        assert caught.value.rule is rules.CUSTODY_CONFIRMED
