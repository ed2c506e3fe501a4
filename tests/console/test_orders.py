"""Orders that run at the same time or name the wrong system: one owner, and clear refusals (R-51)."""

from __future__ import annotations

from uuid import UUID

import msgspec
import pytest
import trio

from hcall_abi.bounds import MAX_EPOCH
from hcall_abi.control_bodies import CopyToRestore, CustodyMessage
from hcall_abi.errors import OperatorError
from hcall_abi.requests import (
    end_recovery,
    power_off,
    power_on,
    restore_copy,
    set_nvram_fault,
    set_trusted_key,
    tell_custody,
)
from hcall_abi.rules import migration as rules
from hcall_server.console.entries import Entry, heard, renumbered
from hcall_server.console.lines.run import run_line
from hcall_server.console.migration_tools import barred
from hcall_server.platform.custody import Decision
from hcall_server.service.settings import Settings
from swpks.hmc import wire
from swpks.hmc.orders import ConsoleHandler
from tests.console.moving import KEY, moving
from tests.console.stand import StandCaller
from tests.console.test_migrate import frozen_without_end
from tests.console.test_safety import Held, frozen_released


@pytest.mark.parametrize("live", [True, False], ids=["live", "inactive"])
async def test_an_order_that_another_one_has_overtaken_is_refused(autojump_clock, live: bool) -> None:
    """R-51: If the partition leaves after an order was validated, the order is refused.

    The register keeps the new owner, which then gets SERVE.
    """
    async with moving("a", "b", "c") as world:
        if live:
            world.power("a", on=True)
        held = Held(world, "c", "checkArrival")
        caught = list[OperatorError]()

        async def second() -> None:
            try:
                await world.ended(await world.migrate("a", "c"))
            except OperatorError as error:
                caught.append(error)

        world.rig.nursery.start_soon(second)
        await held.reached.wait()
        assert (await world.ended(await world.migrate("a", "b"))).state == "done"
        held.free.set()
        await world.rig.until(lambda: caught, 60)
        assert caught[0].rule is rules.CUSTODY_OWNED, caught
        assert caught[0].message == "x belongs to b"
        await world.kill("b")
        await world.start("b")
        await world.demand_at("b", b"first")


@pytest.mark.parametrize("live", [True, False], ids=["live", "inactive"])
async def test_power_that_changes_during_the_checks_is_a_refusal(autojump_clock, live: bool) -> None:
    """R-51, R-52: A migration is refused if the partition's power changes during the checks.

    The job would be of the wrong kind: a live and an inactive migration differ.
    """
    async with moving(one_key=not live) as world:
        if live:
            world.power("a", on=True)
        held = Held(world, "b", "checkArrival")
        refused: list[OperatorError] = []

        async def order() -> None:
            try:
                await world.migrate()
            except OperatorError as error:
                refused.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(order)
            await held.reached.wait()
            await world.known("a").call((power_off if live else power_on)("x"))
            held.free.set()
        assert [each.rule for each in refused] == [rules.MIGRATION_POWER]
        assert world.rig.console.jobs.all == []
        assert await world.custody("a") == ("own", 0)


@pytest.mark.parametrize("live", [True, False], ids=["live", "inactive"])
async def test_a_job_whose_source_does_not_own_ends(autojump_clock, live: bool) -> None:
    """R-51: A job fails if its source does not own the partition. The view and the register may be wrong."""
    async with moving("a", "b", "c") as world:
        if live:
            world.power("a", on=True)
        held = Held(world, "c", "checkArrival")
        world.rig.nursery.start_soon(world.migrate, "a", "c")
        await held.reached.wait()
        old = world.known("a").view
        assert (await world.ended(await world.migrate("a", "b"))).state == "done"
        await world.rig.until(lambda: not world.site("a").machine.system.partitions)
        await trio.sleep(10)
        await world.kill("b")
        registry = world.rig.console.registry
        registry.enter(world.entry._replace(owner=""))
        world.known("a").view = old
        held.free.set()
        await world.rig.until(lambda: len(world.rig.console.jobs.all) == 2)
        job = await world.ended(seconds=120)
        assert job.state == "failed"
        assert job.rule_id in ("custody.owned", "name.exists"), (job.rule_id, job.lines)
        await world.start("b")
        await trio.sleep(30)
        assert world.serving() == ["b"]
        assert registry.name_of(world.entry.owner) == "b"


def test_a_register_that_names_another_owner_is_corrected() -> None:
    """R-51: A system that shows ARRIVED(e) becomes the owner: attempt e has only one target."""
    from hcall_abi.control_views import CustodyView

    shown = {"custody": "arrived", "mode": "asking", "epoch": 1, "generation": 3, "peer_id": "a"}
    fact = CustodyView(uuid="u", name="x", **shown)  # type: ignore[arg-type]
    entry = Entry("u", "x", "live", 2, Decision.OPEN, 1, "a", "c", "a", over=False)
    now = heard(entry, "b", fact)
    assert now is not None
    assert (now.owner, now.moved, now.epoch) == ("b", 1, 2)


async def test_a_store_that_is_elsewhere_is_not_restored_by_hand(autojump_clock) -> None:
    """R-45, R-52: The console refuses to restore a store whose owner is another system.

    A system that restored the store without the console asks before it serves.
    """
    async with moving(manual_recovery=True) as world:
        copy = world.rig.store.blob(world.known("a").copies[0].number)
        assert (await world.ended(await world.migrate())).state == "done"
        await world.kill("a")
        world.site("a").lose_service_processor()
        await world.site("a").start(world.rig.nursery, Settings())
        await world.rig.until(lambda: world.known("a").connected)
        assert (await world.view("a")).state == "Recovery"
        handler = ConsoleHandler(world.rig.console)
        body = msgspec.json.encode(CopyToRestore(copy=copy))
        asked = wire.Forwarded(operation="restoreCopy", name="", system="a", body=msgspec.Raw(body))
        answer = await handler.handle(wire.WireRequest(ask=asked), None)  # type: ignore[arg-type]
        assert b"custody.owned" in answer
        assert b"it belongs to b" in answer
        assert (await world.view("a")).restored == []
        await world.rig.ask(set_trusted_key("restore", key=KEY), world.site("a"))
        # The request goes directly to the system. The console would refuse it.
        await world.rig.ask(restore_copy(copy), world.site("a"))
        await world.rig.ask(end_recovery(give_up=True), world.site("a"))
        await trio.sleep(30)
        assert world.serving() == ["b"]
        assert (await world.custody("a"))[0] in ("released", "gone")


async def test_a_migration_is_stopped_at_its_source_alone(autojump_clock) -> None:
    """R-51: A stop is sent to the source only. Each further stop order sends it again.

    An order that names the target is refused.
    """
    async with moving() as world:
        world.power("a", on=True)
        world.network.silent = True
        job = await world.migrate()
        await trio.sleep(1)
        with pytest.raises(OperatorError) as caught:
            await world.migrations.stop(world.known("b"), "x")
        assert caught.value.rule is rules.MIGRATION_SYSTEMS
        assert "its source, a" in caught.value.message
        assert (world.entry.decision, job.state) == (Decision.OPEN, "running")
        world.rig.console.registry.enter(world.entry._replace(decision=Decision.ABORTED))
        output = await world.migrations.stop(world.known("a"), "x")
        assert output == "the attempt 1 of x is stopped: a serves it"
        assert (await world.fact("a")).trouble == "stopped by order"
        assert (await world.ended(job)).state == "failed"


async def test_a_refused_restart_changes_nothing(autojump_clock) -> None:
    """R-52: While a target that may have a copy is away, a restart is refused, and the migration goes on."""
    async with moving("a", "b", "c") as world:
        world.deafen("a", "prepared")
        job = await frozen_without_end(world)
        await world.kill("b")
        await world.kill("a")
        before = world.entry
        orders = world.migrations.validate_restart, world.migrations.restart
        for order in orders:
            with pytest.raises(OperatorError) as caught:
                await order(world.known("a"), world.known("c"), "x")
            assert caught.value.rule is rules.RESTART_TARGET
        assert world.entry == before
        assert job.state == "running", job.lines
        with pytest.raises(OperatorError) as caught:
            await barred(world.migrations._tools, before)
        assert caught.value.rule is rules.RESTART_TARGET
        assert world.entry == before
        await world.start("b")
        job = await world.migrations.recover(world.known("a"), "x", force=True)
        assert (await world.ended(job)).state == "done", job.lines
        await world.demand_at("b", b"first")


async def test_a_recovery_ends_at_the_target_that_owns(autojump_clock) -> None:
    """R-51: `recover` succeeds if the target owns the partition under the number that the attempt had first.

    A bar had given the attempt a second number.
    """
    async with moving() as world:
        deaf = await frozen_released(world)
        registry = world.rig.console.registry
        registry.enter(renumbered(world.entry, registry.next_epoch(world.uuid)))
        world.rig.console.jobs.end_of(world.known("a"), "ended")
        assert world.entry.epoch == 2
        job = await world.migrations.recover(world.known("a"), "x")
        await trio.sleep(5)
        deaf.clear()
        ended = await world.ended(job, 60)
        assert ended.state == "done", ended.lines
        await world.demand_at("b", b"first")


async def test_an_attempt_is_later_than_all_that_its_source_has_tried(autojump_clock) -> None:
    """R-51: After a loss of the console's store, an attempt gets a number above the source's last one."""
    async with moving() as world:
        world.power("a", on=True)
        world.network.cut = True
        for _ in range(3):
            assert (await world.ended(await world.migrate())).state == "failed"
        registry = world.rig.console.registry
        registry._entries.clear()
        world.network.cut = False
        job = await world.ended(await world.migrate())
        assert (job.state, job.lines[0]) == ("done", "row 1: OPEN(4) at the console"), job.lines


async def test_a_number_that_no_console_gives_is_refused(autojump_clock) -> None:
    """R-51: a number beyond the console's range is refused, because it would block the partition forever."""
    async with moving() as world:
        await world.rig.ask(tell_custody(world.uuid, MAX_EPOCH, "bar"), world.site("b"))
        await world.rig.until(lambda: world.rig.console.registry.facts(world.uuid))
        job = await world.ended(await world.migrate())
        assert (job.state, job.rule_id) == ("failed", rules.CUSTODY_EPOCH.id), job.lines
        assert world.serving() == ["a"]


def test_numbers_are_bounded_in_bodies() -> None:
    """R-51: numbers in bodies are bounded, so the console can store each of them."""
    body = {"uuid": str(UUID(int=1)), "word": "bar"}
    for kind, epoch in (CustodyMessage, MAX_EPOCH + 1), (CustodyMessage, -1):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(body | {"epoch": epoch}, kind)
    assert msgspec.convert(body | {"epoch": MAX_EPOCH}, CustodyMessage).epoch == MAX_EPOCH


async def test_an_attempt_that_fails_at_its_target_names_it(autojump_clock) -> None:
    """R-51: If the target's NVRAM is full, PREPARED never comes.

    The failed job reports the target's health.
    """
    async with moving() as world:
        world.power("a", on=True)
        world.deafen("b", "activate")
        await world.rig.ask(set_nvram_fault("full", 1000), world.site("b"))
        job = await world.ended(await world.migrate())
        assert (job.state, job.rule_id) == ("failed", rules.MIGRATION_FAILED.id), job.lines
        assert "(target b, whose health says: " in job.lines[-1], job.lines
        assert "NVRAM" in job.lines[-1], job.lines


async def test_a_partition_that_has_left_is_found_elsewhere(autojump_clock) -> None:
    """R-51: the line names the present system; lslparmigr shows `Moved` only at the former system."""
    async with moving() as world:
        assert (await world.ended(await world.migrate())).state == "done"
        await world.rig.until(lambda: not world.site("a").machine.system.partitions)
        await trio.sleep(5)
        caller = StandCaller()
        assert await run_line(world.rig.console, line("lssyscfg -r lpar -m b -F name"), caller) == 0
        assert await run_line(world.rig.console, line("chsysstate -r lpar -m a -n x -o on"), caller) == 1
        assert await run_line(world.rig.console, line("migrlpar -o v -m a -t b -p x"), caller) == 1
        missing = "HSCL8012 The partition named x was not found. The partition x is on system b"
        assert caller.lines == ["x", f"{missing}.", f"{missing}: -m is the source, and -t the target."]
        states = {name: world.migrations.status(world.known(name))[0].state for name in "ab"}
        assert states == {"a": "Moved", "b": "Not Moving"}


@pytest.mark.parametrize(
    "order",
    [
        "migrlpar -o m -m b -t a -p x",
        "migrlpar -o v -m b -t a -p x",
        "migrlpar -o s -m b -p x",
        "migrlpar -o r -m b -p x",
        "rrstartlpar -o restart -m b -t a -p x",
        "rrstartlpar -o cancel -m b -p x",
        "rrstartlpar -o cleanup -m b -p x",
        "chsysstate -r lpar -m b -n x -o on",
        "chsyscfg -r lpar -m b -i name=x,secure_boot=2",
        "rmsyscfg -r lpar -m b -n x",
        "lssyscfg -r lpar -m b --filter lpar_names=x",
        "lssyscfg -r prof -m b --filter lpar_names=x",
        "lsrefcode -r lpar -m b --filter lpar_names=x",
        "lslparmigr -r lpar -m b --filter lpar_names=x",
    ],
)
async def test_an_order_to_the_wrong_system_says_where_the_partition_is(order: str, autojump_clock) -> None:
    """If source and target are exchanged, or -m is wrong, the refusal names the right system."""
    async with moving() as world:
        caller = StandCaller()
        assert await run_line(world.rig.console, line(order), caller) == 1
        (output,) = caller.lines
        assert "partition x is on system a" in output
        assert ("-m is the source, and -t the target" in output) == order.startswith("migrlpar -o") & (
            "-t" in order
        )


async def test_a_verb_for_the_wrong_system_says_where_the_partition_is(autojump_clock) -> None:
    """A verb that the console forwards to the wrong system is refused with the name of the right one."""
    async with moving() as world:
        handler = ConsoleHandler(world.rig.console)
        asked = wire.Forwarded(operation="powerOn", system="b", name="x")
        answer = await handler.handle(wire.WireRequest(ask=asked), None)  # type: ignore[arg-type]
        assert b"partition x is on system a" in answer
        # A similar partition of the wrong system is no advice.
        world.site("b").machine.system.create("xx", 8)
        answer = await handler.handle(wire.WireRequest(ask=asked), None)  # type: ignore[arg-type]
        assert b"did you mean" not in answer


def line(text: str) -> list[str]:
    """Return the words of a line."""
    return text.split()
