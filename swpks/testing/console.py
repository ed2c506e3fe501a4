"""A management console and its systems inside the process: the real code, without sockets and disk.

async with emulated_console({"a": ["lpar1"], "b": []}) as console:
    lpar1 = await console.partition("lpar1", "a")
    await lpar1.channel.call(write_object(Authorization(3), b"label", b"data"))
    await console.backup("a")
    await console.replace_service_processor("a")        # its console restores the store by itself
    status, text = await console.line("lssyscfg -r lpar -m a -F name,state")

Each function returns when its work is complete.  It waits for events and never sleeps, so a MockClock may
run.  To test a console that is off, use `power_cut` and `start`.  To test a system that is off, use
`power_cut_system` and `start_system`.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import trio

from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.mistakes import UnknownName, check_kind
from hcall_client.mistakes import check_loop
from hcall_client.where import NotLocated
from swpks.testing.at_caller import async_block, at_caller
from swpks.testing.block import tasks_around
from swpks.testing.console_caller import ConsoleLog, LineAnswer, LineFiles, unwatched
from swpks.testing.console_mistakes import (
    ConsoleOff,
    JobFailed,
    Systems,
    check_whose,
    told_of_the_mark,
    words_of,
)
from swpks.testing.console_recovery import KIND, STARTED, begun_jobs, begun_recovery
from swpks.testing.options import check_console, numbers_of, options_named
from swpks.testing.peers import MemoryNetwork
from swpks.testing.system import EmulatedSystem, SystemPower, settings_of

if TYPE_CHECKING:
    from hcall_server.console.console import ManagementConsole
    from hcall_server.console.jobs import Job
    from hcall_server.console.profile_files import ProfileFiles
    from hcall_server.console.store import ConsoleStore
    from hcall_server.console.systems import KnownSystem
    from swpks.testing.partition import EmulatedPartition

Move = Callable[["KnownSystem", "KnownSystem", str], Awaitable["Job"]]
PARTITIONS: Mapping[str, Sequence[str]] = MappingProxyType({"a": ("lpar1",), "b": ("lpar1",)})
"""The systems of an emulated console, and their partitions."""
COPY_INTERVAL = 60.0
"""Seconds by the trio clock after which a changed store is copied; `backup` does not wait for them."""


class EmulatedConsole:
    """A running management console with its systems.

    `management` is the console's own object; a test may read it.  `files` has the operator's files by their
    relative paths, for the lines that name files.  `log` is the console's log.
    """

    management: ManagementConsole

    def __init__(
        self,
        store: ConsoleStore,
        systems: Mapping[str, EmulatedSystem],
        nursery: trio.Nursery,
        date: Callable[[], float],
        **settings: Any,
    ) -> None:
        self.systems = Systems(systems)
        self.files: dict[str, bytes] = {}
        self.log = ConsoleLog()
        self._store = store
        self._profile_files: ProfileFiles | None = None
        self._nursery = nursery
        self._date = date
        self._settings = settings
        self._scope: trio.CancelScope | None = None
        self._ended = trio.Event()
        self._ordered: set[int] = set()
        """The numbers of the recoveries that the test has ordered."""

    def __repr__(self) -> str:
        return f"EmulatedConsole({', '.join(self.systems)})"

    # Lines and jobs

    @at_caller
    async def line(self, line: str | Sequence[str]) -> LineAnswer:
        """Run a line of the console, and return its answer; a string is split as by a shell.

        A relative path in the line names one of `files`.  An absolute path names a file on disk.
        """
        words = words_of(line)
        self._demand_on()
        from hcall_server.console.lines.run import run_line

        caller, before = LineFiles(self.files, words), len(self.log.events)
        status = await run_line(self.management, words, caller)
        if words[:1] == [KIND]:
            self._ordered |= begun_jobs(self.log.events[before:])
        return LineAnswer(status, caller.text)

    @at_caller
    async def backup(self, system: str) -> Job:
        """Copy all stores of a system to the console now; return the job, or raise JobFailed."""
        return await self.finish(self.management.back_up(self.known(system)))

    @at_caller
    async def recover(self, system: str, *, give_up: bool = False) -> Job:
        """Restore all stores of a system; return the job, or raise JobFailed."""
        known = self.known(system)
        self.systems[system].demand_on()  # otherwise the job would wait for the system
        job = self.management.recover(known, give_up=give_up)
        self._ordered.add(job.number)
        return await self.finish(job)

    @at_caller
    async def finish(self, job: Job) -> Job:
        """Wait for the end of a job and return it; JobFailed if it has failed."""
        from hcall_server.console.jobs import Job

        self.systems.demand()
        check_kind(Job, "the argument of finish", job, 'await finish(await backup("a"))')
        if job.state == "running":  # while the console is off, the job never ends
            self._demand_on()
        await self.management.jobs.follow(job, unwatched)
        if job.state == "failed":
            raise JobFailed(job)
        return job

    # Migration

    @at_caller
    async def migrate(self, name: str, source: str, target: str) -> Job:
        """Move a partition to another system: live if it runs, else inactive; return the job.

        SwpksError if the order is refused, JobFailed if the job fails.  The session of an `EmulatedPartition`
        ends with the move: call `partition` again.
        """
        return await self._moved(self.management.migrations.migrate, name, source, target)

    @at_caller
    async def restart_remotely(self, name: str, source: str, target: str) -> Job:
        """Restart a partition of a lost system on another one; return the job.  Errors as in `migrate`."""
        return await self._moved(self.management.migrations.restart, name, source, target)

    async def _moved(self, move: Move, name: str, source: str, target: str) -> Job:
        self.systems.check_order(name, source, target)
        systems = self.known(source), self.known(target)
        try:
            return await self.finish(await move(*systems, name))
        except OperatorError as error:
            raise told_of_the_mark(error, name, source, target, self.systems) from None

    @at_caller
    def locate(self, name: str, system: str | None = None) -> Callable[[], trio.abc.Stream]:
        """Return the argument `locate` for `swpks.open_following`, which follows a partition.

        `locate` connects to the system that serves the partition; the console knows which one.  If several
        partitions have the name, `system` names a system that has the partition or has had it.  `locate`
        raises NotLocated while no system serves the partition, and while the console is off.
        """
        from hcall_server.console.whereabouts import place_of

        self.systems.check_order(name, system)
        check_whose(name, system, self.systems)

        def connect() -> trio.abc.Stream:
            if self._scope is None:
                raise NotLocated(f"no console says where {name} is: {ConsoleOff()}")
            try:
                place = place_of(self.management.systems, f"{system}/{name}" if system else name)
            except SwpksError as error:
                raise NotLocated(f"{error.message}; the partitions are {self.systems.partitions()}") from None
            owner = self.systems[place.system.where]
            if not owner.serves(place.name):
                raise NotLocated(f"no system serves {name}")
            return owner.connect(place.name)

        return connect

    # Systems

    @at_caller
    async def partition(self, name: str, system: str) -> EmulatedPartition:
        """Return a partition with an open session; a partition that is off is powered on first.

        The session ends with its machine, so call this again after a power cut.  After a start, a system
        may serve only when the console allows it.  OperatorError if the console is off then.
        """
        self.systems.check_order(name, system)
        owner = self.systems[system]
        if owner.running:
            owner.check_name(name)
        if self._scope and self.known(system).connected:
            await owner.answered(name)
        return await owner.partition(name)

    @at_caller
    def known(self, system: str) -> KnownSystem:
        """Return the console's object of a system, with its `copies`; ConsoleOff if the console is off."""
        owner = self.systems[system]
        self._demand_on()
        for each in self.management.systems:
            if each.where == owner.name:
                return each
        raise UnknownName(
            f"the console does not manage the system {system}: write await add({system!r}) first"
        )

    @at_caller
    async def add(self, system: str) -> None:
        """Add a system to those that the console manages, and wait until the console has a stream to it."""
        self._demand_on()
        await self.management.add_system(self.systems[system].name)
        await self._connected(system)

    @at_caller
    async def power_cut_system(self, system: str) -> None:
        """Cut the power of a system, and wait until the console has lost the stream to it."""
        await self.systems[system].power_cut()
        if self._scope:
            known = self.known(system)
            await self.log.until(lambda: not known.connected)

    @at_caller
    async def start_system(self, system: str) -> None:
        """Start a system from its parts, and wait until the console has a stream to it again."""
        await self.systems[system].start()
        if self._scope:
            self.known(system).wake()
            await self._connected(system)

    @at_caller
    async def replace_service_processor(self, system: str) -> Job | None:
        """Cut the power of a system, replace its NVRAM by an empty one, and start the system.

        Wait until the console has recovered the system without an order, and return that job; JobFailed if
        the job has failed.  Return None if the console is off, has no copies, or waits for an order.
        """
        await self.power_cut_system(system)
        self.systems[system].replace_service_processor()
        await self.start_system(system)
        return await self.recovered(system)

    @at_caller
    async def recovered(self, system: str) -> Job | None:
        """Wait for a recovery that the console begins without an order.

        Results and errors are those of `replace_service_processor`.  Use it if the console was off while the
        service processor was replaced.
        """
        self.systems.demand()
        if self._scope is None or self.management.settings.manual_recovery:
            return None
        known, jobs, lost = self.known(system), self.management.jobs, self.systems[system].state == "Recovery"
        job = jobs.running(known)
        if job is None or job.kind != KIND:
            find = partial(begun_recovery, self.log.events, known.name, self._ordered)
            begun = await self.log.until(find) if lost else find()
            job = jobs.find(cast("int", begun.fields["job"])) if begun and "job" in begun.fields else None
        # A system that has its stores now has lost nothing by a recovery that failed before.
        over = job is None or (job.state == "failed" and not lost)
        return None if job is None or over else await self.finish(job)

    # The console's own power

    @at_caller
    async def power_cut(self) -> None:
        """Cut the power of the console; its store stays, with its profile backups."""
        self.systems.demand()
        if self._scope:
            self._scope.cancel()
            await self._ended.wait()
            self._scope = None

    @at_caller
    async def start(self) -> None:
        """Start the console on its store, and wait until it has streams to all running systems."""
        self.systems.demand()
        if self._scope:
            raise SystemPower("the console runs already: write await restart()")
        from hcall_server.console.console import ConsoleSettings, ManagementConsole

        self.management = ManagementConsole(
            self._store,
            lambda where: self.systems[where].link,
            entropy=os.urandom,
            date=self._date,
            settings=ConsoleSettings(**self._settings),
            log=self.log,
        )
        if self._profile_files is None:
            self._profile_files = self.management.profile_files
        # Profile backups belong to the store, which survives a power cut.
        self.management.profile_files = self._profile_files
        self.log.info(STARTED, console=self.management.name)
        await self._nursery.start(self._run)
        for name, system in self.systems.items():
            if system.running:
                await self._connected(name)

    @at_caller
    async def restart(self) -> None:
        """Cut the power of the console, and start it again."""
        await self.power_cut()
        await self.start()

    def _demand_on(self) -> None:
        self.systems.demand()
        if self._scope is None:
            raise ConsoleOff

    async def _run(self, *, task_status: trio.TaskStatus[None]) -> None:
        self._ended = trio.Event()
        try:
            with trio.CancelScope() as self._scope:
                await self.management.run(task_status=task_status)
        finally:
            self._ended.set()

    async def _connected(self, system: str) -> None:
        known = self.known(system)
        await self.log.until(lambda: known.connected)


@async_block
async def emulated_console(
    partitions: Mapping[str, Sequence[str]] = PARTITIONS,
    *,
    level: str = "FW1110",
    kbytes: int = 64,
    attributes: Mapping[str, int | str] = MappingProxyType({}),
    copy_interval: float = COPY_INTERVAL,
    keep: int = 3,
    manual_recovery: bool = False,
) -> AsyncIterator[EmulatedConsole]:
    """Run a console with fresh, powered-on systems for the length of a block.

    `partitions` maps the name of each system to the names of its partitions.  All partitions have the same
    `level`, `kbytes` and `attributes`, as in `emulated_partition`.  After `copy_interval` seconds, the
    console copies a changed store without `EmulatedConsole.backup`.  The console keeps the `keep` newest
    copies of each store.  With `manual_recovery` it restores a lost store only by an order.
    """
    check_console(
        partitions, level=level, kbytes=kbytes, attributes=attributes, copy_interval=copy_interval, keep=keep,
        manual_recovery=manual_recovery,
    )  # fmt: skip
    check_loop("emulated_console")
    from hcall_server.console.store import ConsoleStore

    began, loop_began = time.time(), trio.current_time()
    own = {"keep": keep, "manual_recovery": manual_recovery}

    def date() -> float:
        """Return the seconds since 1970 by the trio clock, so a MockClock moves them."""
        return began + trio.current_time() - loop_began

    numbers = numbers_of({**attributes, "keystore_kbytes": kbytes})
    with closing(ConsoleStore()) as store:  # closed after the nursery: then no task uses it
        async with tasks_around() as nursery:
            network = MemoryNetwork()
            with options_named(kbytes=kbytes, copy_interval=copy_interval):
                interval: dict[str, Any] = {"firmware": level, "copy_interval_s": copy_interval}
                settings = {
                    each: settings_of(each, partitions[each], numbers, **interval) for each in partitions
                }
            systems = {
                name: EmulatedSystem(name, found, date=date, nursery=nursery, network=network)
                for name, found in settings.items()
            }
            with options_named(kbytes=kbytes):
                await _begin(console := EmulatedConsole(store, systems, nursery, date, **own))
            with closing(console.systems):
                yield console
            console.log.check()


async def _begin(console: EmulatedConsole) -> None:
    """Start the console and its systems, and add the systems to the console."""
    await console.start()
    for name, system in console.systems.items():
        await system.start()
        await console.add(name)
