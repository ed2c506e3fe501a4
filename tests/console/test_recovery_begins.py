"""How a recovery begins: by itself, once, or by an order that joins a running one (R-45)."""

from __future__ import annotations

import pytest
import trio

from hcall_abi.errors import OperatorError
from hcall_abi.requests import begin_recovery, delete_partition, end_recovery
from hcall_abi.rules import hmc as rules
from tests.console.rig import Site, running
from tests.console.test_recovery import BARE, damage, demand_recovered, filled, lost


@pytest.mark.parametrize("manual", [False, True])
async def test_a_connected_system_that_comes_into_recovery_is_recovered(manual, autojump_clock) -> None:
    """R-45: A connected system that enters Recovery is recovered by itself. A manual recovery waits."""
    async with running(Site(), manual_recovery=manual) as rig:
        await filled(rig)
        rig.kill_console()
        for name in "ab":
            await rig.ask(delete_partition(name, destroy=True))
        rig.site.kill()
        rig.site.lose_service_processor()
        await rig.site.start(rig.nursery, BARE)
        await rig.ask(end_recovery(give_up=True))
        await rig.start_console()
        await rig.until(lambda: rig.system.connected)
        await trio.sleep(30)
        assert rig.console.jobs.all == []
        await rig.ask(begin_recovery())
        await trio.sleep(30)
        if manual:
            assert rig.console.jobs.all == []
            return
        await demand_recovered(rig)
        assert len(rig.console.jobs.all) == 1


async def test_a_recovery_that_has_failed_is_not_begun_again_at_each_event(autojump_clock) -> None:
    """R-45: after a failure the system stays in Recovery until an operator decides."""
    async with running(Site()) as rig:
        await filled(rig)
        for each in rig.system.copies:
            if each.name == "b":
                damage(rig, each.number)
        await lost(rig)
        await rig.until(lambda: rig.console.jobs.all and rig.console.jobs.all[-1].state == "failed")
        await trio.sleep(100)
        assert len(rig.console.jobs.all) == 1


async def test_an_order_follows_a_recovery_that_runs(autojump_clock) -> None:
    """R-45: An order joins a running recovery. An order that gives stores up does not."""
    async with running(Site(), manual_recovery=True) as rig:
        await filled(rig)
        await lost(rig)
        await rig.until(lambda: rig.system.connected)
        job = rig.console.recovery(rig.system)
        assert rig.console.recovery(rig.system) is job
        with pytest.raises(OperatorError) as caught:
            rig.console.recovery(rig.system, give_up=True)
        assert caught.value.rule is rules.HMC_JOB_ALONE
        await rig.ended(job)
        await demand_recovered(rig)


async def test_a_recovery_waits_for_an_order_where_that_is_set(autojump_clock) -> None:
    async with running(Site(), manual_recovery=True) as rig:
        await filled(rig)
        await lost(rig)
        await rig.until(lambda: rig.system.view and rig.system.view.state == "Recovery")
        await trio.sleep(100)
        assert rig.console.jobs.all == []
        await rig.ended(rig.console.recover(rig.system))
        await demand_recovered(rig)
