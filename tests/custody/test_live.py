"""A live migration: records are durable before their effects, and no time-out decides (R-51, R-55)."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from hcall_abi.errors import OperatorError, ScarcityError, StorageError
from hcall_abi.faults import NvramFault
from hcall_abi.requests import tell_custody
from hcall_abi.rules import migration as rules
from hcall_abi.rules import service
from hcall_server.machine.patience import PATIENCE
from hcall_server.machine.sessions import Link
from hcall_server.platform.custody import Custody, Mode, Word
from hcall_server.platform.partition import Partition
from tests.custody.conftest import Stage
from tests.custody.world import PASSWORD, A, E
from tests.rules.breaking import logged

OWN, FROZEN, RELEASED = Custody.OWN, Custody.FROZEN, Custody.RELEASED


def session(stage: Stage) -> Link:
    """Open a session with the partition `a` at S."""
    link = Link(0.0, lambda: None)
    stage.s.machine.open_session(link, stage.s.a, link.on_refusal)
    return link


def reason(link: Link) -> int:
    """Return the reason of the GOODBYE that ended a session, or 0 while it is open."""
    return link.ending.reason if link.ending else 0


async def test_a_live_migration_keeps_all_that_an_ipl_would_end(stage: Stage) -> None:
    """R-51: objects, passwords, IPL count, generation and access key move to T. Nothing stays at S."""
    before = stage.s.a
    profile, ipl_count = before.profile, before.ipl_count
    await stage.gone()
    after = stage.t.a
    assert after.running
    assert after.profile._replace(custody=OWN, epoch=0, peer=b"") == profile
    assert after.ipl_count == ipl_count == 1
    assert stage.t.guest().read(3, b"object", password=PASSWORD).written == b"data"
    assert stage.t.guest().read(3, b"object").status != 0
    assert stage.t.transport.listening == {A}
    assert stage.t.keys == {A: profile.access_key}
    assert stage.s.machine.system.partitions == {}
    assert (stage.s.keys, stage.s.transport.listening) == ({}, set())
    assert not any("partition" in name for name in stage.s.nvram.records)


async def test_a_target_that_restarts_before_it_serves_begins_an_ipl(stage: Stage) -> None:
    """R-04, R-51: if T restarts first, passwords are lost and an IPL begins. The objects stay."""
    await stage.released()
    await stage.t.start()
    assert await stage.t.take(stage.uuid, Word.ACTIVATE)
    assert (stage.t.a.running, stage.t.a.ipl_count) == (True, 2)
    assert stage.t.guest().read(3, b"object").written == b"data"
    assert stage.t.cut().machine.system.find(A).ipl_count == 2
    assert PASSWORD not in b"".join(stage.t.nvram.records.values())


def refuse_keys(stage: Stage, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Let the disk of T refuse the next key files, as many as given."""
    transport, failures = stage.t.machine.transport, [1] * times
    publish = transport.publish_key

    def failing(partition: Partition) -> None:
        if failures:
            failures.pop()
            raise ScarcityError(service.SCARCE_SPACE, "no space is left")
        publish(partition)

    monkeypatch.setattr(transport, "publish_key", failing)


@pytest.mark.parametrize("lost", [False, True])
async def test_an_activation_that_fails_is_tried_again(
    stage: Stage, autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    """R-51: if the disk refuses the key file, T repeats the activation without an order."""
    await stage.released()
    if lost:
        await stage.t.start()
    refuse_keys(stage, monkeypatch, 3)
    with logged("partition.not_activated") as lines:
        assert await stage.t.take(stage.uuid, Word.ACTIVATE)
        assert (stage.t.a.profile.custody, stage.t.a.running) == (Custody.ARRIVED, False)
        await trio.sleep(1)
    assert (len(lines), stage.t.a.running, stage.t.a.ipl_count) == (3, True, 2 if lost else 1)
    assert stage.t.guest().read(3, b"object", password=b"" if lost else PASSWORD).written == b"data"


async def test_an_operator_activates_a_partition_first(
    stage: Stage, autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-04: if an operator powers the partition on first, an IPL begins and passwords are lost.

    A later power-off stays in effect.
    """
    await stage.released()
    refuse_keys(stage, monkeypatch, 4)
    assert await stage.t.take(stage.uuid, Word.ACTIVATE)
    await trio.sleep(1)
    stage.t.machine.power_on(A)
    stage.t.machine.power_off(A)
    await trio.sleep(10)
    assert (stage.t.a.running, stage.t.a.ipl_count) == (False, 2)
    stage.t.machine.power_on(A)
    assert stage.t.guest().read(3, b"object", password=PASSWORD).status != 0


async def test_a_number_of_a_taken_place_is_another_one(stage: Stage) -> None:
    """R-47: if T already uses the partition's number, the partition gets a new number. Its UUID stays."""
    stage.t.machine.changes.create("other")
    await stage.arrived()
    assert (stage.t.a.number, stage.t.a.profile.uuid, stage.s.machine.system.by_uuid(stage.uuid)) == (
        2,
        stage.uuid,
        stage.s.a,
    )


async def test_a_taken_name_refuses_the_copy_and_changes_nothing(stage: Stage) -> None:
    """R-50: if the name is in use at T, T refuses the copy for this reason.

    T stores nothing about the attempt.
    """
    stage.t.machine.changes.create(A)
    await stage.frozen()
    commits = stage.t.nvram.commits
    with pytest.raises(OperatorError, match="there is a partition 'a'"):
        await stage.t.take(
            stage.uuid, Word.FINAL, traveller=stage.s.machine.custodian.traveller_of(stage.s.a)
        )
    assert stage.t.machine.custodian.standing(stage.uuid).epoch == 0
    assert stage.t.nvram.commits == commits


async def test_sessions_end_when_the_release_is_durable(stage: Stage, nursery: trio.Nursery) -> None:
    """R-51: sessions at S get GOODBYE 3 only when the release is durable."""
    link = session(stage)
    await stage.prepared()
    generation = stage.s.machine.custodian.standing(stage.uuid).generation
    stage.s.worker.gate = trio.Event()
    nursery.start_soon(lambda: stage.s.take(stage.uuid, Word.PREPARED, generation=generation))
    await trio.testing.wait_all_tasks_blocked()
    assert (reason(link), stage.s.a.running) == (0, True)
    stage.s.worker.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert (reason(link), stage.s.a.running) == (3, False)


async def test_another_generation_is_no_release(stage: Stage) -> None:
    """R-51: PREPARED for another generation of the store does not release the partition."""
    await stage.prepared()
    generation = stage.s.machine.custodian.standing(stage.uuid).generation
    assert await stage.s.take(stage.uuid, Word.PREPARED, generation=generation + 1) is None
    assert stage.s.a.profile.custody is FROZEN


async def test_a_resumed_source_serves_the_same_ipl(stage: Stage) -> None:
    """R-51: if S resumes, sessions, passwords and the IPL continue."""
    link = session(stage)
    await stage.in_doubt()
    for refused in (stage.s.machine.counted_ipl, stage.s.machine.counted_power_on):
        with pytest.raises(OperatorError) as caught:
            await refused(A)
        assert caught.value.rule is rules.CUSTODY_OWNED
    assert await stage.s.take(stage.uuid, Word.RESUME)
    assert (link.ending, stage.s.a.running, stage.s.a.ipl_count) == (None, True, 1)
    assert stage.s.guest().read(3, b"object", password=PASSWORD).status == 0
    assert (await stage.s.machine.counted_ipl(A)).ipl_count == 2


async def test_a_source_that_restarted_in_doubt_starts_after_resume(
    stage: Stage, autojump_clock: trio.testing.MockClock
) -> None:
    """R-51: if S restarts in doubt, it waits for the console's answer, and then starts the partition anew."""
    await stage.frozen()
    await stage.s.start()
    assert not stage.s.a.running
    facts = stage.s.shown(stage.uuid)
    assert facts
    assert (facts.custody, facts.mode) == (FROZEN, Mode.IN_DOUBT)
    assert await stage.s.take(stage.uuid, Word.RESUME)
    await trio.sleep(1)
    assert (stage.s.a.running, stage.s.a.ipl_count) == (True, 2)


async def test_the_power_of_a_moving_partition(stage: Stage) -> None:
    """R-51: a live migration needs a running partition, and a release needs a powered-off one.

    Otherwise the step is refused, and the custody is unchanged.
    """
    with pytest.raises(OperatorError) as caught:
        await stage.s.take(stage.uuid, Word.RELEASE)
    assert caught.value.rule is rules.MIGRATION_POWER
    await stage.copying()
    stage.s.machine.power_off(A)
    with pytest.raises(OperatorError) as caught:
        await stage.s.take(stage.uuid, Word.AGREED)
    assert caught.value.rule is rules.MIGRATION_POWER
    assert (stage.s.a.profile.custody, stage.s.a.mode) == (OWN, Mode.COPYING)


# Patience and cancellation


async def test_a_cancelled_caller_does_not_stop_a_step(stage: Stage, nursery: trio.Nursery) -> None:
    """R-51: if the caller is cancelled, its step is still completed. A repeated order waits for that."""
    await stage.prepared()
    generation = stage.s.machine.custodian.standing(stage.uuid).generation
    stage.s.worker.gate = trio.Event()
    with trio.CancelScope() as scope:
        nursery.start_soon(_cancel_later, scope)
        await stage.s.take(stage.uuid, Word.PREPARED, generation=generation)
    assert scope.cancelled_caught
    second: list[object] = []

    async def again() -> None:
        second.append(await stage.s.take(stage.uuid, Word.PREPARED, generation=generation))

    nursery.start_soon(again)
    await trio.testing.wait_all_tasks_blocked()
    facts = stage.s.shown(stage.uuid)
    assert (second, facts and facts.custody) == ([], FROZEN)
    stage.s.worker.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    facts = stage.s.shown(stage.uuid)
    assert (second, facts and facts.custody) == ([None], RELEASED)


async def _cancel_later(scope: trio.CancelScope) -> None:
    await trio.testing.wait_all_tasks_blocked()
    scope.cancel()


async def test_a_verb_has_patience_and_the_step_has_more(
    stage: Stage, autojump_clock: trio.testing.MockClock
) -> None:
    """R-23: if NVRAM does not answer, the request times out and reports that.

    Its step continues, and the order may be repeated.
    """
    await stage.prepared()
    generation = stage.s.machine.custodian.standing(stage.uuid).generation
    stage.s.worker.gate = trio.Event()
    request = tell_custody(str(stage.uuid), E, "prepared", generation=generation)
    for _ in range(3):
        begun = trio.current_time()
        with pytest.raises(StorageError) as caught:
            await stage.s.link.call(request)
        assert caught.value.rule is rules.CUSTODY_STORED
        assert trio.current_time() - begun == pytest.approx(PATIENCE)
    stage.s.worker.gate.set()
    view = await stage.s.link.call(request)
    assert view.custody[0].custody == "released"


@pytest.mark.parametrize("after", [False, True])
async def test_nvram_that_fails_delays_every_step(
    stage: Stage, autojump_clock: trio.testing.MockClock, after: bool
) -> None:
    """R-23, R-51: if each commit fails several times, before or after its effect, the result is the same."""
    for home in (stage.s, stage.t):
        faults = [NvramFault("io", nth=nth, times=2, after=after) for nth in (1, 4, 7, 10)]
        home.machine.nvram.set_faults(*faults)
    await stage.gone()
    assert stage.t.guest().read(3, b"object", password=PASSWORD).written == b"data"
    assert stage.s.cut().machine.system.partitions == {}
    assert stage.s.machine.encryptor.health.failures >= 2


async def test_words_of_one_partition_wait_for_each_other(stage: Stage, nursery: trio.Nursery) -> None:
    """R-51: an ABORT waits until FROZEN is durable. Then S is in doubt."""
    await stage.copying()
    stage.s.worker.gate = trio.Event()
    nursery.start_soon(lambda: stage.s.take(stage.uuid, Word.AGREED, peer=stage.t.id))
    await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(lambda: stage.s.take(stage.uuid, Word.ABORT))
    await trio.testing.wait_all_tasks_blocked()
    facts = stage.s.machine.custodian.facts_of(stage.uuid)
    assert facts
    assert (facts.custody, facts.mode, facts.tried) == (OWN, Mode.COPYING, E)
    stage.s.worker.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    facts = stage.s.shown(stage.uuid)
    assert facts
    assert (facts.custody, facts.mode) == (FROZEN, Mode.IN_DOUBT)


async def test_a_change_of_standing_is_told(stage: Stage, nursery: trio.Nursery) -> None:
    """A driver can wait for each change of a partition's state. An error of the attempt is shown."""
    custodian = stage.s.machine.custodian
    heard: list[Mode] = []

    async def watch() -> None:
        while True:
            await custodian.changed(stage.uuid)
            heard.append(custodian.standing(stage.uuid).mode)

    nursery.start_soon(watch)
    await trio.testing.wait_all_tasks_blocked()
    await stage.in_doubt()
    await trio.testing.wait_all_tasks_blocked()
    assert heard == [Mode.COPYING, Mode.WAITING, Mode.IN_DOUBT]
    custodian.failed(stage.uuid, "the target is away")
    facts = stage.s.shown(stage.uuid)
    assert facts
    assert (facts.tried, facts.trouble) == (E, "the target is away")


async def test_an_attempt_that_has_left_no_record_is_shown(stage: Stage) -> None:
    """R-55: the console sees why an attempt ended, even if none of its records became durable."""
    await stage.copying()
    await stage.s.take(stage.uuid, Word.ABORT)
    stage.s.machine.custodian.failed(stage.uuid, "the target is away")
    facts = stage.s.shown(stage.uuid)
    assert facts
    assert (facts.epoch, facts.tried, facts.trouble) == (0, E, "the target is away")
    assert stage.s.cut().machine.custody_facts() == []


async def test_a_stop_in_the_middle_of_a_step(stage: Stage, nursery: trio.Nursery) -> None:
    """R-51: if the system stops during a step, the caller gets an error that leaves the result open."""
    await stage.prepared()
    generation = stage.s.machine.custodian.standing(stage.uuid).generation
    stage.s.worker.gate = trio.Event()
    refused: list[StorageError] = []

    async def order() -> None:
        try:
            await stage.s.take(stage.uuid, Word.PREPARED, generation=generation)
        except StorageError as error:
            refused.append(error)

    nursery.start_soon(order)
    await trio.testing.wait_all_tasks_blocked()
    stage.s.stop()
    await trio.testing.wait_all_tasks_blocked()
    assert [each.rule for each in refused] == [rules.CUSTODY_STORED]
