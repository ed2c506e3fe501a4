"""chsysstate -o recover: the stores of a system come back from the console's copies."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio.testing

from tests.console.stand import Stand, standing


@pytest.fixture
async def manual() -> AsyncIterator[Stand]:
    """A powered-off partition lpar1 with an object; a recovery waits for its line."""
    async with standing("S", manual=True) as stand:
        await stand.done('mksyscfg -r lpar -m S -i "name=lpar1,keystore_kbytes=64"')
        await stand.done("chsysstate -r lpar -m S -n lpar1 -o on")
        stand.write("lpar1")
        await stand.done("chsysstate -r lpar -m S -n lpar1 -o shutdown --immed")
        await stand.done("bkprofdata -m S -f monday")
        yield stand


async def test_a_replaced_service_processor(manual: Stand, autojump_clock: trio.testing.MockClock) -> None:
    """R-45: the line follows the job to its end, and prints the time of each restored store."""
    await manual.replace_processor()
    assert await manual.done("lssyscfg -r sys -m S -F state") == "Recovery"
    assert await manual.done("lssyscfg -r lpar -m S") == "No results were found."
    output = await manual.done("chsysstate -r sys -m S -o recover")
    assert "lpar1" in output
    assert await manual.done("lssyscfg -r sys -m S -F state") == "Operating"
    assert (
        await manual.done("lssyscfg -r lpar -m S -F name,keystore_kbytes,state") == "lpar1,64,Not Activated"
    )


async def test_a_system_that_has_its_stores_is_not_recovered(manual: Stand) -> None:
    """R-45: For a system that has its stores, the job fails, and the line reports the failure."""
    output = await manual.refused("chsysstate -r sys -m S -o recover")
    failed = output.split("\n")[-1]
    assert failed.startswith("SWPK0110 job ")
    assert "; `swpks hmc health -m S` shows whether it works; " in failed
    assert "swpks hmc restore FILE -m S`" in failed
    assert "remove the cause" not in failed
    assert await manual.done("lssyscfg -r lpar -m S -F name,keystore_kbytes") == "lpar1,64"


async def test_a_recovery_that_runs_is_followed(
    manual: Stand, autojump_clock: trio.testing.MockClock
) -> None:
    """R-45: the line follows the running job, whether it started by itself or by another line."""
    await manual.replace_processor()
    job = manual.console.recover(manual.console.find("S"))
    output = await manual.done("chsysstate -r sys -m S -o recover")
    assert output.split("\n") == job.lines
    assert [each.kind for each in manual.console.jobs.all] == ["recover"]


@pytest.mark.parametrize("empty", [True, False])
async def test_a_recovery_without_a_copy_names_the_command_that_ends_it(
    empty: bool, autojump_clock: trio.testing.MockClock
) -> None:
    """R-45: If the console has no copy, the refusal of a recovery names the command that ends Recovery.

    That also holds if the system has no partition.
    """
    async with standing("S", manual=empty) as stand:
        if not empty:
            await stand.done('mksyscfg -r lpar -m S -i "name=lpar1,keystore_kbytes=64"')
        for each in stand.console.find("S").copies:
            stand.console.store.forget(stand.console.find("S").key, [each.uuid])
        await stand.replace_processor()
        output = await stand.refused("chsysstate -r sys -m S -o recover")
        assert "S stays in Recovery" in output
        assert "swpks hmc recover -m S --give-up" in output
