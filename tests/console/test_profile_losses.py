"""Profile restores lose only announced data, and begin only if they can end (R-46)."""

from __future__ import annotations

from hcall_abi.requests import create_partition, set_trusted_key, show_trusted_key
from tests.console.rig import CANARY, Site, running
from tests.console.test_profiles import KEY, names, restored, saved
from tests.console.test_recovery import interrupt, nth


async def test_a_loss_that_was_not_announced_is_refused_by_the_system(autojump_clock) -> None:
    """R-46: Data that was written after the plan is not lost.

    --forcekeystore permits only the losses in the plan.
    """
    async with running(Site()) as rig:
        backup = await saved(rig)
        for level, force in ((2, False), (2, True), (4, True)):
            plan = await rig.console.plan_profiles(rig.system, level, backup if level == 2 else None)  # type: ignore[arg-type]
            await rig.write("a", b"later, %d" % level)
            job = await rig.ended(rig.console.restore_profiles(rig.system, plan, force=force))
            assert job.state == "failed"
            assert "a has changed since this restore was announced" in job.lines[-1]
            assert rig.data("a") == b"later, %d" % level


async def test_an_empty_partition_that_was_filled_meanwhile_is_not_deleted(autojump_clock) -> None:
    """R-46: A partition that was empty in the plan and has objects at the deletion is not deleted."""
    async with running(Site()) as rig:
        plan = await rig.console.plan_profiles(rig.system, 4, None)
        await rig.write("a", CANARY)
        job = await rig.ended(rig.console.restore_profiles(rig.system, plan))
        assert job.state == "failed"
        assert "a has changed since this restore was announced" in job.lines[-1]
        assert rig.data("a") == CANARY


async def test_a_damaged_copy_is_noticed_before_the_first_step(autojump_clock) -> None:
    """R-46: If a copy is damaged, the job fails before it changes a partition.

    The job then sets the trusted system key again that was present before.
    """
    async with running(Site()) as rig:
        backup = await saved(rig)
        copy = bytearray(backup.partitions[1].copy or b"")
        copy[-1] ^= 1
        backup.partitions[1].copy = bytes(copy)
        await rig.ask(set_trusted_key("change", key=KEY))
        present = (await rig.ask(show_trusted_key())).id
        await rig.write("a", b"later")
        await rig.ask(create_partition("c", 16))
        plan = await rig.console.plan_profiles(rig.system, 1, backup)
        job = await rig.ended(rig.console.restore_profiles(rig.system, plan, force=True))
        assert job.state == "failed"
        assert job.lines[-1].endswith("was changed; nothing was changed")
        assert await names(rig) == ["a", "b", "c"]
        assert rig.data("a") == b"later"
        assert (await rig.ask(show_trusted_key())).id == present


async def test_a_copy_with_another_name_than_the_backup_says_is_noticed_before(autojump_clock) -> None:
    """R-46: The name in the file is not authenticated, so it must equal the name in the sealed copy."""
    async with running(Site()) as rig:
        backup = await saved(rig)
        backup.partitions[0].name = "other"
        await restored(rig, 4, None, force=True)
        plan = await rig.console.plan_profiles(rig.system, 1, backup)
        job = await rig.ended(rig.console.restore_profiles(rig.system, plan))
        assert job.state == "failed"
        assert job.lines[-1].startswith("the copy of other is one of a")
        assert await names(rig) == []


async def test_a_step_that_fails_all_the_same_says_what_was_done(autojump_clock) -> None:
    """R-46: If a store changes after the checks, the job fails and lists the steps that were done."""
    async with running(Site()) as rig:
        backup = await saved(rig)
        await rig.ask(create_partition("c", 16))
        plan = await rig.console.plan_profiles(rig.system, 1, backup)
        keystore = rig.site.machine.system.find("b").keystore
        assert keystore is not None
        interrupt(rig, nth("deletePartition", 1, rig), keystore.contents.touch)
        job = await rig.ended(rig.console.restore_profiles(rig.system, plan))
        assert job.state == "failed"
        assert job.lines[-1].endswith("; done: delete c, restore a; not done: restore b")
