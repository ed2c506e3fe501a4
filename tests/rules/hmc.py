"""Rules of the management console: its systems, its store, its jobs, recoveries and profile backups."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import trio

from hcall_abi.rules.catalogue import RULES
from hcall_abi.rules.rule import Rule
from hcall_server.console.namesakes import give_name
from hcall_server.console.profile_format import decode_profiles
from hcall_server.console.store import ConsoleStore
from tests.console.rig import CANARY, Rig, Site, running
from tests.rules.breaking import Break, Breaks, breaks, refused, refused_late, run


def _console(then: Callable[[Rig], Awaitable[Rule]], *names: str) -> Break:
    """Return a function that breaks a rule: `then` does something wrong at a console with these systems."""

    async def broken() -> Rule:
        async with running(*(Site(name) for name in names or ("lab",)), manual_recovery=True) as rig:
            return await then(rig)

    return lambda _: run(broken)


def _asked(then: Callable[[Rig], object]) -> Callable[[Rig], Awaitable[Rule]]:
    """Return a function that makes a request, which the console refuses at once."""

    async def broken(rig: Rig) -> Rule:
        await trio.lowlevel.checkpoint()
        return refused(then, rig)

    return broken


def _begun(then: Callable[[Rig], Awaitable[None]]) -> Callable[[Rig], Awaitable[Rule]]:
    """Return a function that prepares and begins a recovery, which fails. The job names the rule."""

    async def broken(rig: Rig) -> Rule:
        await then(rig)
        job = await rig.ended(rig.console.recover(rig.system))
        return RULES[job.rule_id]

    return broken


async def _own_name(rig: Rig) -> Rule:
    return await refused_late(rig.console.add_system("/lab", "other"))


async def _place(rig: Rig) -> Rule:
    rig.site.kill()
    rig.site.link.restart(rig.sites["/other"].machine)
    return await refused_late(rig.console.add_system("/lab", "other"))


async def _two_jobs(rig: Rig) -> Rule:
    rig.console.back_up(rig.system)
    return await _asked(lambda rig: rig.console.back_up(rig.system))(rig)


async def _nothing(rig: Rig) -> None:
    await rig.copied()


async def _no_copies(rig: Rig) -> None:
    """Let the system lose its stores before the console has any copy of them."""
    rig.site.kill()
    rig.site.lose_service_processor()
    with rig.store._database.changes() as change:
        change.execute("DELETE FROM copy")
    await rig.site.start(rig.nursery, Site("lab", "").settings)
    await rig.until(lambda: rig.system.view and rig.system.view.state == "Recovery")


async def _behind(rig: Rig) -> Rule:
    await rig.write("a", CANARY)
    backup = await rig.console.save_profiles(rig.system)
    await rig.write("a", b"later")
    plan = await rig.console.plan_profiles(rig.system, 1, backup)
    return refused(rig.console.restore_profiles, rig.system, plan)


async def _runs(rig: Rig) -> Rule:
    backup = await rig.console.save_profiles(rig.system)
    rig.site.machine.power_on("a")
    plan = await rig.console.plan_profiles(rig.system, 1, backup)
    return refused(rig.console.restore_profiles, rig.system, plan, force=True)


async def _recovering(rig: Rig) -> Rule:
    await _no_copies(rig)
    return await refused_late(rig.console.save_profiles(rig.system))


def _store(statement: str) -> Break:
    """Return a function that breaks a rule: another program has run this SQL on a console's store."""

    def broken(folder: Path) -> Rule:
        path = folder / "console.sqlite"
        ConsoleStore(path).close()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(statement)
        return refused(ConsoleStore, path)

    return broken


def _two_consoles(folder: Path) -> Rule:
    with closing(ConsoleStore(folder / "console.sqlite")):
        return refused(ConsoleStore, folder / "console.sqlite")


def _file_gone(folder: Path) -> Rule:
    with closing(ConsoleStore(folder / "console.sqlite")) as store:
        (folder / "console.sqlite").unlink()
        return refused(store.set_identity, "c" * 32, "console")


async def _same_name(rig: Rig) -> Rule:
    return await refused_late(give_name(rig.console.systems, rig.console.find("other"), "lab"))


BREAKS: Breaks = {
    "hmc.system-name-new": _console(_same_name, "lab", "other"),
    "hmc.system-known": _console(_asked(lambda rig: rig.console.find("nobody"))),
    "hmc.system-named": _console(_asked(lambda rig: rig.console.find(None)), "lab", "other"),
    "hmc.system-own-name": _console(_own_name),
    "hmc.system-place": _console(_place, "lab", "other"),
    "hmc.store-file": _store("PRAGMA application_id = 77"),
    "hmc.store-level": _store("PRAGMA user_version = 99"),
    "hmc.store-owner": _two_consoles,
    "hmc.store-written": _file_gone,
    "hmc.job-known": _console(_asked(lambda rig: rig.console.jobs.find(7))),
    "hmc.job-alone": _console(_two_jobs),
    "hmc.recovery-empty": _console(_begun(_nothing)),
    "hmc.recovery-copies": _console(_begun(_no_copies)),
    "hmc.profile-file": breaks(decode_profiles, b"no backup"),
    "hmc.profile-level": breaks(decode_profiles, b"swpks profile backup 99 0\n{}"),
    "hmc.profile-name": _console(_asked(lambda rig: rig.console.profile_files.read("0123ABC", "../x"))),
    "hmc.profile-state": _console(_recovering),
    "hmc.profile-idle": _console(_runs),
    "hmc.profile-forced": _console(_behind),
}
