"""migrlpar, rrstartlpar and lslparmigr over the real migrations of a console (R-50, R-51, R-52)."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from hcall_abi.errors import OperatorError
from hcall_abi.requests import ConsoleRequest, set_trusted_key
from hcall_abi.rules import migration as rules
from hcall_server.console.entries import Entry, begun
from hcall_server.console.lines.run import run_line
from tests.console.moving import KEY, Moving, moving
from tests.console.stand import StandCaller
from tests.console.test_migrate import released
from tests.console.test_restart import decided
from tests.console.test_restored_elsewhere import back_and_asked, dead_source
from tests.console.test_safety import frozen_released


async def line(world: Moving, text: str) -> tuple[int, str]:
    """Run a line, split as a shell splits it; return its exit status and its output."""
    caller = StandCaller()
    status = await run_line(world.rig.console, shlex.split(text), caller)
    return status, "\n".join(caller.lines)


async def refused(world: Moving, text: str) -> str:
    """Run a line that must be refused; return its output."""
    status, reported = await line(world, text)
    assert status == 1, reported
    return reported


@pytest.mark.parametrize(
    "text, reported",
    [
        ('migrlpar -o v -m a -t b -p ""', "HSCL8012 The partition with an empty name was not found."),
        ("migrlpar -o m -m a -t b -p ,", "HSCL8012 The partition named , was not found."),
        ("migrlpar -o m -m a -t b --id x", "HSCL8012 The partition with ID x was not found."),
        ("migrlpar -o m -m a -t b --id 1,9", "HSCL8012 The partition with ID 9 was not found."),
        ('migrlpar -o s -m a -p ""', "SWPK0723 no migration of  from a runs"),
        ("migrlpar -o s -m nosuch -p x", "SWPK0201 "),
        ("migrlpar -o r -m nosuch -p x", "SWPK0201 "),
        ("migrlpar -o m -m a -t nosuch -p x", "SWPK0201 "),
        ("migrlpar -o s -m a -p x", "SWPK0723 no migration of x from a runs"),
        ("migrlpar -o r -m a -p x", "SWPK0723 no migration of x from a runs"),
        ("migrlpar -o r -m a -p x --force", "SWPK0723 no migration of x from a runs"),
        ("migrlpar -o r -m a -p nosuch", "SWPK0723 no migration of nosuch from a runs"),
        ("rrstartlpar -o recover -m a -p x", "SWPK0723 no migration of x from a runs"),
        (
            "rrstartlpar -o cancel -m a -p x",
            "SWPK0723 no remote restart of x runs; partition x is on system a",
        ),
        ("rrstartlpar -o cancel -m a -p nosuch", "SWPK0729 a has shown no partition 'nosuch'"),
        (
            "rrstartlpar -o cleanup -m a -p x",
            "SWPK0732 a has nothing of x to clean up; partition x is on system a; ",
        ),
        ("rrstartlpar -o validate -m a -t b -p x", "SWPK0728 a is connected"),
        ("rrstartlpar -o restart -m a -t a -p x", "SWPK0721 "),
        ("rrstartlpar -o restart -m nosuch -t b -p x", "SWPK0201 "),
    ],
)
async def test_a_wrong_line_changes_nothing(autojump_clock, text: str, reported: str) -> None:
    """R-51, R-52: a wrong line gives one numbered refusal, and begins no attempt and no job."""
    async with moving() as world:
        before = len(world.rig.console.jobs.all)
        assert (await refused(world, text)).startswith(reported)
        assert world.rig.console.registry.entries == []
        assert len(world.rig.console.jobs.all) == before
        assert world.serving() == ["a"]


@pytest.mark.parametrize("live", [True, False], ids=["live", "inactive"])
async def test_a_partition_that_has_left_is_listed(autojump_clock, live: bool) -> None:
    """R-51: the former system lists it without id, custody and mode.

    Its new system lists it as not moving.
    """
    async with moving() as world:
        if live:
            world.power("a", on=True)
        assert (await line(world, "migrlpar -o m -m a -t b -p x"))[0] == 0
        await world.rig.until(lambda: not world.site("a").machine.system.partitions)
        await world.rig.until(lambda: world.known("a").view.custody[0].custody == "gone")  # type: ignore[union-attr]
        names = "name,lpar_id,migration_state,owner_sys_name,row,custody,mode"
        reported = (await line(world, f"lslparmigr -r lpar -m a -F {names}"))[1]
        assert reported == "x,null,Moved,b,row 8: GONE(1) at a,null,null"
        reported = (await line(world, "lslparmigr -r lpar -m a"))[1]
        assert reported.startswith("name=x,lpar_id=,migration_state=Moved,")
        reported = (await line(world, f"lslparmigr -r lpar -m b -F {names}"))[1]
        assert reported == "x,1,Not Moving,b,row 8: GONE(1) at a,arrived,serving"


@pytest.mark.parametrize("force", ["", " --force"])
async def test_recover_of_a_restart_is_not_that_of_a_migration(autojump_clock, force: str) -> None:
    """R-51: `rrstartlpar -o recover --force` does not force the target of a live migration."""
    async with moving() as world:
        world.power("a", on=True)
        world.network.silent = True
        job = await world.migrate()
        await world.rig.until(lambda: world.rig.console.registry.of(world.uuid))
        reported = await refused(world, f"rrstartlpar -o recover -m a -p x{force}")
        assert reported.startswith("SWPK0723 no remote restart of x runs; partition x is on system a; ")
        assert (world.entry.decision.value, job.state) == ("open", "running")
        world.network.silent = False
        await world.ended(job)


async def test_recover_of_an_attempt_that_ends_in_it(autojump_clock) -> None:
    """R-51: If the attempt ends while `recover` runs, the line names the owner and exits with 0."""
    async with moving() as world:
        deaf = await frozen_released(world)
        world.rig.console.jobs.end_of(world.known("a"), "ended")
        before = len(world.rig.console.jobs.all)
        deaf.clear()
        reported = await line(world, "migrlpar -o r -m a -p x")
        assert reported == (0, "the attempt 1 has ended: x is at b")
        assert len(world.rig.console.jobs.all) == before
        await world.demand_at("b", b"first")


async def test_force_is_about_the_attempt_that_was_found(autojump_clock) -> None:
    """R-51: --force ends only the attempt of the named partition on the named system.

    The attempt of another partition with the same name goes on.
    """
    async with moving() as world:
        deaf = await frozen_released(world)
        world.rig.console.jobs.end_of(world.known("a"), "ended")
        ids = world.known("a").system_id, world.known("b").system_id
        # This entry's UUID sorts after that of the moving partition.
        other = begun(Entry("f" * 36, "x"), "live", 1, *ids)
        world.rig.console.registry.enter(other)
        deaf.clear()
        reported = await world.migrations.recover(world.known("a"), "x", force=True)
        assert reported == "the attempt 1 has ended: x is at b"
        assert world.rig.console.registry.of(other.uuid) == other


async def test_recover_goes_on_with_a_restart(autojump_clock) -> None:
    """R-52: `recover` continues a decided restart whose target had no room before."""
    async with moving() as world:
        await world.kill("a")
        link, requests = world.site("b").link, []
        perform = link.call

        async def call(request: ConsoleRequest[Any]) -> Any:
            requests.append(request.verb.operation)
            # The first two requests are the console's checks.
            if requests.count("takePartition") == 3:
                raise OperatorError(rules.ARRIVAL_SIZE, "there is no room")
            return await perform(request)

        link.call = call  # type: ignore[method-assign]
        job = await world.migrations.restart(world.known("a"), world.known("b"), "x")
        assert (await world.ended(job)).state == "failed"
        assert world.entry.decision.value == "forced"
        requests += ["takePartition"]
        assert (await line(world, "rrstartlpar -o recover -m a -p x --force"))[0] == 0
        await world.demand_at("b", b"first")


async def test_a_decided_restart_is_cancelled_by_its_line(autojump_clock) -> None:
    """R-52: The line that cancels a decided restart follows the job until the partition is back."""
    async with moving() as world:
        await decided(world)
        status, reported = await line(world, "rrstartlpar -o cancel -m a -p x")
        assert status == 0, reported
        assert reported.splitlines()[:2] == ["row 16: ARRIVED(3) at a", "x runs at a"]
        await world.demand_here("a", b"first")


async def test_a_partition_that_was_deleted_is_cleaned_up(autojump_clock) -> None:
    """R-52, R-54: If the partition was deleted at b, cleanup removes the store of its former source.

    An earlier partition had the same name.
    """
    async with moving() as world:
        await dead_source(world)
        await back_and_asked(world)
        assert await world.custody("a") == ("released", 1)
        ids = world.known("a").system_id, world.known("b").system_id
        earlier = begun(Entry("0" * 36, "x"), "live", 1, *ids)._replace(owner=ids[1])
        world.rig.console.registry.enter(earlier)
        reported = await line(world, "rrstartlpar -o cleanup -m a -p x")
        assert reported == (0, "x is removed from a: it has moved, and was deleted where it was")
        assert await world.custody("a") == ("gone", 1)
        assert (await refused(world, "rrstartlpar -o cleanup -m a -p x")).startswith("SWPK0732 ")
        assert world.serving() == []


async def test_a_partition_goes_back_only_to_a_source_with_its_key(autojump_clock) -> None:
    """R-52: A partition does not return to its source while the source has another trusted key."""
    async with moving() as world:
        world.refuse("b", "takePartition")
        await released(world)
        world.site("b").link.away = False
        await world.rig.until(lambda: world.known("b").connected)
        before = world.entry
        await world.rig.ask(set_trusted_key("change", key=bytes(32)), world.site("a"))
        reported = await refused(world, "migrlpar -o r --force -m a -p x")
        assert reported.startswith("SWPK0730 the copy of x needs the trusted system key ")
        assert world.entry == before
        await world.rig.ask(set_trusted_key("change", key=KEY), world.site("a"))
        status, reported = await line(world, "migrlpar -o r --force -m a -p x")
        assert status == 0, reported
        await world.demand_at("a", b"first")
