"""The job `recover` restores lost stores, with kills and losses at each request (R-45, R-48)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from hcall_abi.control_views import SystemView
from hcall_abi.errors import OperatorError
from hcall_abi.requests import create_partition, set_trusted_key, show_system, show_trusted_key
from hcall_abi.rules import hmc as rules
from hcall_server.platform.system import ManagedSystem
from hcall_server.service.settings import Settings
from tests.console.rig import CANARY, Rig, Site, running

KEY = bytes(range(32))
BARE = Settings()


async def filled(rig: Rig) -> None:
    """Fill two stores with objects, and wait for copies of both."""
    await rig.write("a", CANARY)
    await rig.write("b", b"of b")
    await rig.copied()


async def lost(rig: Rig, settings: Settings | None = None) -> None:
    """Replace the service processor; the settings of the next start name no system and no partitions."""
    rig.site.kill()
    rig.site.lose_service_processor()
    await rig.site.start(rig.nursery, settings or BARE)


async def started_alone(rig: Rig) -> ManagedSystem:
    """Start the system with partitions that do not wait for the console (R-54)."""
    await rig.site.start(rig.nursery, replace(rig.site.settings, without_console=True))
    return rig.site.machine.system


async def state(rig: Rig) -> SystemView:
    """Return the state in the view of the system."""
    return await rig.ask(show_system())


async def demand_recovered(rig: Rig) -> None:
    """Assert that the state is the one before the loss."""
    await rig.until(lambda: not rig.console.jobs.running(rig.system) and rig.console.jobs.all)
    job = rig.console.jobs.all[-1]
    assert job.state == "done", job.lines
    view = await state(rig)
    assert (view.state, view.name, [each.name for each in view.partitions]) == (
        "Operating",
        "lab",
        ["a", "b"],
    )
    assert rig.data("a") == CANARY
    assert rig.data("b") == b"of b"


async def test_a_replaced_service_processor_is_recovered_by_itself(autojump_clock) -> None:
    """R-45, R-48: The recovery restores the system's name too, and prints the time of each store's copy."""
    async with running(Site()) as rig:
        await filled(rig)
        before = {name: rig.site.machine.system.find(name).profile for name in "ab"}
        await trio.sleep(3600)
        await lost(rig)
        await rig.until(lambda: rig.console.jobs.all)
        await demand_recovered(rig)
        job = rig.console.jobs.all[-1]
        assert (job.done, job.total) == (3, 3)
        assert job.lines[0].startswith("a: from 2027-01-15 ")
        assert f"generation {before['a'].image_generation}" in job.lines[0]
        assert "minutes ago" in job.lines[0] or "hours ago" in job.lines[0]
        assert job.lines[-1] == "lab is Operating, with 2 restored stores"
        for name, profile in before.items():
            now = rig.site.machine.system.find(name).profile
            assert (now.uuid, now.number) == (profile.uuid, profile.number)
            assert (now.restores, now.image_generation) > (profile.restores, profile.image_generation)
            assert now.ipl_count > profile.ipl_count
        await rig.write("a", b"after")
        await rig.copied()


async def test_a_damaged_copy_is_skipped_and_said(autojump_clock) -> None:
    """The job skips a damaged copy, reports it, and takes the next older copy."""
    async with running(Site(), manual_recovery=True) as rig:
        await filled(rig)
        await rig.write("b", b"newer, and damaged")
        await rig.copied()
        newest = max((each for each in rig.system.copies if each.name == "b"), key=lambda each: each.rank)
        damage(rig, newest.number)
        await lost(rig)
        job = await rig.ended(rig.console.recover(rig.system))
        await demand_recovered(rig)
        output = "\n".join(job.lines)
        assert "b: this is older than the last known copy; skipped:" in output
        assert "does not authenticate" in output


def damage(rig: Rig, number: int) -> None:
    """Flip a bit of a stored copy."""
    blob = bytearray(rig.store.blob(number))
    blob[-1] ^= 1
    with rig.store._database.changes() as change:
        change.execute("UPDATE copy SET blob = ? WHERE number = ?", (bytes(blob), number))


async def test_a_store_without_a_good_copy_keeps_the_system_in_recovery(autojump_clock) -> None:
    """The system stays in Recovery until an operator accepts the loss; then the bad copies are put aside."""
    async with running(Site(), manual_recovery=True) as rig:
        await filled(rig)
        uuid = rig.uuid("b")
        for each in rig.system.copies:
            if each.name == "b":
                damage(rig, each.number)
        await lost(rig)
        job = await rig.ended(rig.console.recover(rig.system))
        assert job.state == "failed"
        assert "b: not restored" in job.lines
        assert "stays in Recovery" in job.lines[-1]
        assert "b" in job.lines[-1]
        assert (await state(rig)).state == "Recovery"
        job = await rig.ended(rig.console.recover(rig.system, give_up=True))
        assert job.state == "done"
        assert "given up: b" in job.lines
        view = await state(rig)
        assert [each.name for each in view.partitions] == ["a"]
        assert uuid in rig.store.forgotten(1)


async def test_a_known_store_without_any_copy_is_named(autojump_clock) -> None:
    """A partition that was created while the console was away has no copy; the job names it."""
    async with running(Site()) as rig:
        await filled(rig)
        rig.kill_console()
        await rig.ask(create_partition("c", 16))
        await rig.site.machine.encryptor.flush()
        await lost(rig)
        await rig.start_console()
        await rig.until(lambda: rig.console.jobs.all and rig.console.jobs.all[-1].state == "failed")
        assert "not restored: c" in rig.console.jobs.all[-1].lines[-1]
        await rig.ended(rig.console.recover(rig.system, give_up=True))
        await demand_recovered(rig)


async def test_copies_of_another_key_are_opened_with_that_key(autojump_clock) -> None:
    """A store without a copy under the new key is restored with the old key.

    Then the new key is set again.
    """
    async with running(Site(), manual_recovery=True) as rig:
        await filled(rig)
        old = (await rig.ask(show_trusted_key())).id
        keep = rig.store.keep_copy

        def only_one(*arguments):
            rig.site.kill()
            return keep(*arguments)

        rig.store.keep_copy = only_one  # type: ignore[method-assign]
        new = (await rig.ask(set_trusted_key("change", key=KEY))).id
        await rig.until(lambda: not rig.system.connected)
        keys = {(each.name, each.trusted_key_id) for each in rig.system.copies}
        assert keys == {("a", old), ("a", new), ("b", old)}
        rig.store.keep_copy = keep  # type: ignore[method-assign]
        await lost(rig)
        await rig.ended(rig.console.recover(rig.system))
        await demand_recovered(rig)
        assert (await rig.ask(show_trusted_key())).id == new


async def test_a_new_system_takes_the_stores_with_the_operators_key(autojump_clock) -> None:
    """The console's sealed key opens only under the lost root key, so the operator's key is needed."""
    async with running(Site()) as rig:
        await rig.ask(set_trusted_key("change", key=KEY))
        await filled(rig)
        await lost_whole(rig)
        # A new system reports no loss to the console. Only the operator knows of the loss.
        assert rig.console.jobs.all == []
        job = await rig.ended(rig.console.recover(rig.system))
        assert job.state == "failed"
        needed = rig.system.row.trusted_key_id
        assert f"need the trusted system key {needed}, and lab has none" in job.lines[-1]
        assert "`chtskey -m lab -o restore --newkey FILE`, then recover again" in job.lines[-1]
        assert (await state(rig)).state == "Operating"
        wrong = (await rig.ask(set_trusted_key("restore", key=bytes(32)))).id
        job = await rig.ended(rig.console.recover(rig.system))
        assert f"need the trusted system key {needed}, and lab has {wrong}" in job.lines[-1]
        await rig.ask(set_trusted_key("restore", key=KEY))
        await rig.ended(rig.console.recover(rig.system))
        await demand_recovered(rig)
        assert rig.system.name == "lab"


async def lost_whole(rig: Rig) -> None:
    """Replace card and service processor: the same address then has another system, without partitions."""
    rig.site.kill()
    rig.site.lose_card_and_service_processor()
    await rig.site.start(rig.nursery, BARE)
    before = rig.system.system_id
    await rig.until(lambda: rig.system.system_id != before and rig.system.connected)


async def test_a_system_with_partitions_is_not_recovered(autojump_clock) -> None:
    async with running(Site()) as rig:
        await filled(rig)
        job = await rig.ended(rig.console.recover(rig.system))
        assert job.state == "failed"
        assert "is in the state Operating, with 2 partitions" in job.lines[-1]
        assert rig.data("a") == CANARY


async def test_a_console_without_copies_says_so(autojump_clock) -> None:
    async with running(Site("lab", "")) as rig:
        job = await rig.ended(rig.console.recover(rig.system))
        assert job.lines == ["the console has no copies of lab"]
        await lost(rig)
        await trio.sleep(30)
        assert len(rig.console.jobs.all) == 1


REQUESTS = 14
"""More than the requests of a whole recovery."""


@pytest.mark.usefixtures("not_measured")
@pytest.mark.parametrize("at", range(REQUESTS))
async def test_a_recovery_survives_a_lost_answer(at: int, autojump_clock) -> None:
    """If the answer to a request is lost, the job repeats the request, and no store is restored twice."""
    async with running(Site(), manual_recovery=True) as rig:
        await filled(rig)
        await lost(rig)
        await rig.until(lambda: rig.system.connected)
        await trio.sleep(10)
        interrupt(rig, at, lambda: setattr(rig.site.link, "lost_answers", 1))
        await rig.ended(rig.console.recover(rig.system))
        await demand_recovered(rig)
        assert {each.profile.restores for each in rig.site.machine.system.partitions.values()} == {1}


@pytest.mark.usefixtures("not_measured")
@pytest.mark.parametrize("at", range(REQUESTS))
async def test_a_recovery_survives_a_kill_of_the_console(at: int, autojump_clock, tmp_path: Path) -> None:
    """If the console is killed before the answer to a request, the job goes on at the next start."""
    async with running(Site(), path=tmp_path / "console.sqlite", manual_recovery=True) as rig:
        await filled(rig)
        await lost(rig)
        await rig.until(lambda: rig.system.connected)
        await trio.sleep(10)
        killed = trio.Event()

        def kill() -> None:
            rig.kill_console()
            killed.set()

        interrupt(rig, at, kill)
        rig.console.recover(rig.system)
        with trio.move_on_after(30):
            await killed.wait()
        if killed.is_set():
            await rig.start_console()
        await demand_recovered(rig)
        assert {each.profile.restores for each in rig.site.machine.system.partitions.values()} == {1}


@pytest.mark.usefixtures("not_measured")
@pytest.mark.parametrize("at", range(REQUESTS))
async def test_a_recovery_survives_a_kill_of_the_system(at: int, autojump_clock) -> None:
    """After a kill of the system at any request, the job waits for it and restores every store."""
    async with running(Site(), manual_recovery=True) as rig:
        await filled(rig)
        await lost(rig)
        await rig.until(lambda: rig.system.connected)
        await trio.sleep(10)
        interrupt(rig, at, rig.site.kill)
        job = rig.console.recover(rig.system)
        with trio.move_on_after(30):
            await rig.ended(job)
        disarm(rig)
        if rig.site.link.machine is None:
            await rig.site.start(rig.nursery, BARE)
        await rig.ended(job)
        await demand_recovered(rig)


async def test_a_second_loss_in_the_middle_is_noticed(autojump_clock) -> None:
    """After a second loss, stores that were restored before are restored again."""

    def arm(rig: Rig, replace: Callable[[], None]) -> None:
        interrupt(rig, nth("restoreCopy", 2, rig), replace)

    await demand_recovered_from_a_second_loss(arm)


async def test_a_second_loss_behind_a_lost_answer_is_noticed(autojump_clock) -> None:
    """If a restore's answer is lost and the processor is lost again, that store is restored again too."""

    def arm(rig: Rig, replace: Callable[[], None]) -> None:
        def lose_answer() -> None:
            rig.site.link.lost_answers = 1
            # The processor is lost again when the same store is restored again.
            interrupt(rig, nth("restoreCopy", 1, rig), replace)

        interrupt(rig, nth("restoreCopy", 1, rig), lose_answer)

    await demand_recovered_from_a_second_loss(arm)


async def demand_recovered_from_a_second_loss(arm: Callable[[Rig, Callable[[], None]], None]) -> None:
    """Recover a system whose service processor is replaced again, at the request that `arm` selects."""
    async with running(Site(), manual_recovery=True) as rig:
        await filled(rig)
        await lost(rig)
        await rig.until(lambda: rig.system.connected)
        await trio.sleep(10)
        done = trio.Event()

        def replace() -> None:
            rig.site.kill()
            rig.site.lose_service_processor()
            done.set()

        arm(rig, replace)
        job = rig.console.recover(rig.system)
        await done.wait()
        await rig.site.start(rig.nursery, BARE)
        await rig.ended(job)
        await demand_recovered(rig)


def nth(operation: str, number: int, rig: Rig):
    """Return a condition that is true at the n-th request with this operation from now on."""
    before = rig.site.link.asked.count(operation)
    return lambda: rig.site.link.asked.count(operation) - before >= number


def interrupt(rig: Rig, at, action) -> None:
    """Perform an action once, right after the n-th request from now on."""
    link, begun = rig.site.link, len(rig.site.link.asked)
    due = at if callable(at) else lambda: len(link.asked) - begun > at
    armed = [True]

    class Watched(list):
        def append(self, operation: str) -> None:
            super().append(operation)
            if armed[0] and due():
                armed[0] = False
                action()

    link.asked = Watched(link.asked)


def disarm(rig: Rig) -> None:
    """Cancel the planned action, if it has not happened."""
    rig.site.link.asked = list(rig.site.link.asked)


async def test_one_job_at_a_time(autojump_clock) -> None:
    async with running(Site(), manual_recovery=True) as rig:
        await filled(rig)
        await lost(rig)
        await rig.until(lambda: rig.system.connected)
        job = rig.console.recover(rig.system)
        with pytest.raises(OperatorError) as caught:
            rig.console.recover(rig.system)
        assert caught.value.rule is rules.HMC_JOB_ALONE
        await rig.ended(job)
        await demand_recovered(rig)


async def test_the_job_backup_takes_all_copies_now(autojump_clock) -> None:
    """R-44: the job takes copies on demand, without waiting for the interval."""
    async with running(Site()) as rig:
        await rig.copied()
        began = trio.current_time()
        await rig.write("a", CANARY)
        job = await rig.ended(rig.console.back_up(rig.system))
        assert (job.state, job.done, job.total) == ("done", 2, 2)
        assert job.lines[0].startswith("a: restores 0, generation ")
        await rig.copied()
        assert trio.current_time() - began < 1
        rig.site.kill()
        job = await rig.ended(rig.console.back_up(rig.system))
        assert (job.state, job.lines) == ("failed", ["nothing serves this system"])
