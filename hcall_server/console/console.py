"""The management console: several systems, their copies, and jobs about them (spec/console.md).

The package begins with the essay: guarantees, kinds of state, sources of work.

    console = ManagementConsole(ConsoleStore(path), dial, entropy=os.urandom, date=time.time)
    async with trio.open_nursery() as nursery:
        await nursery.start(console.run)
        system = await console.add_system("state/run/control.sock")
        job = console.back_up(system)

Times are in seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import trio

from hcall_abi.control_bodies import CopyToRestore
from hcall_abi.control_views import PartitionView
from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.near import near_question
from hcall_abi.requests import ConsoleRequest, detach_console, show_system
from hcall_abi.rules import hmc as rules
from hcall_abi.rules import migration
from hcall_server.console.advice import at_store, to_accept_loss, to_connect
from hcall_server.console.answers import demand_form
from hcall_server.console.backup import BackupPlan, backup
from hcall_server.console.courier import Courier
from hcall_server.console.jobs import Job, JobKind, JobRun, Jobs, may_repeat
from hcall_server.console.link import Dial, SystemLink
from hcall_server.console.migration_tools import MigrationTools, StoreGuard
from hcall_server.console.migrations import Migrations
from hcall_server.console.namesakes import demand_free_name
from hcall_server.console.profile_files import ProfileFiles
from hcall_server.console.profile_format import ProfileBackup
from hcall_server.console.profile_plan import RestoreLevel, RestorePlan, StorePlaces, plan_restore
from hcall_server.console.profiles import ProfileTools
from hcall_server.console.recovery import RecoveryPlan, RecoveryTools, recovery_plan
from hcall_server.console.registry import Registry
from hcall_server.console.seen import is_check
from hcall_server.console.store import ConsoleStore, SystemRow
from hcall_server.console.systems import AwaitedSystem, EventLog, KnownSystem, NoLog
from hcall_server.console.taking import Taker
from hcall_server.console.waiting import reason
from hcall_server.console.watch import StreamKeeper
from hcall_server.sealing.copies import read_copy

DETACH_SECONDS = 5.0
"""Seconds that a removed system has to answer detachConsole."""
_ID_SIZE = 16


@dataclass(frozen=True)
class ConsoleSettings:
    """Settings: the console's name, the number of copies of each store, manual recovery or not."""

    name: str = "console"
    keep: int = 3
    manual_recovery: bool = False
    profiles: Path | None = None
    """The folder of profile backups with bare names; None holds them in memory."""


class ManagementConsole:
    """A management console.

    `dial` makes the link to a place.  `entropy` returns random bytes, and `date` seconds since 1970.
    """

    def __init__(
        self,
        store: ConsoleStore,
        dial: Dial,
        *,
        entropy: Callable[[int], bytes],
        date: Callable[[], float],
        settings: ConsoleSettings | None = None,
        log: EventLog | None = None,
    ) -> None:
        self.store = store
        self.settings = settings or ConsoleSettings()
        self.date = date
        self.log: EventLog = log or NoLog()
        self.taker = Taker(store, self.settings.keep, date)
        self._dial = dial
        self.id, self.name = self._identity(entropy)
        self._systems: dict[int, KnownSystem] = {}
        self.registry = Registry(store, self._systems.values)
        for row in store.systems():
            self._know(row, dial(row.where))
        self.awaited: dict[str, AwaitedSystem] = {}
        """Systems that were given at the start and are not known yet, by their places."""
        self.courier = Courier(self.registry, self._systems.values, self.log)
        tools = MigrationTools(store, self.taker, self.registry, self.courier, entropy)
        self.migrations, self._guard = Migrations(tools), StoreGuard(tools)
        self._watcher = StreamKeeper(
            (self.id, self.name),
            store,
            self.taker,
            others=self._systems.values,
            recover=self._recover_by_itself,
            courier=self.courier,
            log=self.log,
        )
        self.profile_files = ProfileFiles(self.settings.profiles)
        self._profiles = ProfileTools(store, self.taker, date)
        self._nursery: trio.Nursery | None = None
        self.jobs = Jobs(store, self._kinds(), self._systems.get, self.log)
        self.jobs.after = self._after_job
        self.migrations.jobs = self.jobs

    def __repr__(self) -> str:
        return f"ManagementConsole({self.name!r}, {len(self._systems)} systems)"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep a stream to each system open and perform jobs, until cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.jobs.run)
            nursery.start_soon(self.courier.run)
            self._nursery = nursery
            for system in self.systems:
                self._watch(system)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                for system in self.systems:
                    system.note_stop()

    # Systems

    @property
    def systems(self) -> list[KnownSystem]:
        """All systems, in the order of their names."""
        return sorted(self._systems.values(), key=lambda system: (system.name, system.key))

    def find(self, name: str | None) -> KnownSystem:
        """Return a system by its name or type-model*serial; None means the only system.

        OperatorError if the name is unknown, or if several systems have it.  OperatorError for None if the
        console knows no system, or several.
        """
        systems = self.systems
        known = ", ".join(f"{each.name} ({each.type_model_serial})" for each in systems) or "none"
        if name is None:
            if len(systems) != 1:
                message = f"the console knows {len(systems)} systems ({known}): name one with -m"
                raise OperatorError(rules.HMC_SYSTEM_NAMED, message, advised=True)
            return systems[0]
        found = [each for each in systems if name in (each.name, each.type_model_serial)]
        if not found:
            near = near_question(name, (each.name for each in systems))
            raise OperatorError(
                rules.HMC_SYSTEM_KNOWN,
                f"the console knows no system {name[:80]!r}{near}; known: {known}",
                advised=True,
            )
        if len(found) > 1:
            message = f"{len(found)} systems are called {name!r}: use the serial number ({known})"
            raise OperatorError(rules.HMC_SYSTEM_NAMED, message, advised=True)
        return found[0]

    async def add_system(self, where: str, name: str | None = None) -> KnownSystem:
        """Add the system at an address, durably; a known system gets this address.

        If a name is given, the system must have this name.  If the address is new, the system must answer.
        """
        system = await self._add_system(where, name)
        self.awaited.pop(where, None)
        return system

    async def _add_system(self, where: str, name: str | None) -> KnownSystem:
        at_place = next((each for each in self._systems.values() if each.where == where), None)
        if at_place and name in (None, at_place.name, at_place.type_model_serial):
            at_place.wake()
            return at_place
        link = self._dial(where)
        view = await link.call(show_system())
        demand_form(view)
        if name not in (None, view.name, view.type_model_serial):
            message = f"the system at {where} is called {view.name!r}, not {name!r}"
            raise OperatorError(rules.HMC_SYSTEM_OWN_NAME, message)
        present = next((each for each in self._systems.values() if each.system_id == view.system_id), None)
        if at_place and present and present is not at_place:
            message = f"{where} leads to {present.name}, which is known at {present.where}"
            raise OperatorError(rules.HMC_SYSTEM_PLACE, message)
        if at_place:  # its stream stores a new name or a new id
            return at_place
        if present:
            present.store_facts(present.row._replace(where=where))
            present.link = link
        else:
            demand_free_name(self.systems, None, view.name)
            row = self.store.add_system(view.name, view.system_id, view.type_model_serial, where)
            present = self._know(row, link)
        present.show(view)
        self.log.info("system.added", system=present.name, place=where)
        self._watch(present)
        return present

    def note_awaited(self, where: str, name: str | None, error: SwpksError) -> None:
        """Remember, for lists, why the system at this address could not be added."""
        before = self.awaited.get(where)
        since = before.since if before else self.date()
        advice = at_store(to_connect(error, where, name or ""), self.store.folder)
        self.awaited[where] = AwaitedSystem(name or "", where, error.message, advice, since)

    async def remove_system(self, name: str) -> str:
        """Remove a system, durably; return "", or why the system still has the id of this console.

        Its copies stay in the store.  If the system is added again, it has these copies again.
        """
        system = self.find(name)
        system.scope.cancel()
        left = f"{system.name} did not answer within {DETACH_SECONDS:g} seconds"
        with trio.move_on_after(DETACH_SECONDS):
            try:
                await system.call(detach_console(self.id, self.name))
                left = ""
            except SwpksError as error:
                left = error.message
        try:
            self.jobs.end_of(system)
            self.store.remove_system(system.key)
        except SwpksError:  # the store can't be written, so the system stays
            self._watch(system)
            raise
        self._systems.pop(system.key, None)
        self.log.info("system.removed", system=system.name, trouble=left)
        return left and f"{system.name} still has the id of this console: {left}"

    def waits(self, system: KnownSystem, uuid: str) -> str:
        """Return why a partition is not served yet, with the remedy; "" if it does not wait."""
        return at_store(reason(self.registry, system, uuid), self.store.folder)

    # Jobs

    def back_up(self, system: KnownSystem) -> Job:
        """Begin to take copies of all stores of a system."""
        return self.jobs.start("backup", system, BackupPlan())

    def recover(self, system: KnownSystem, *, give_up: bool = False) -> Job:
        """Begin to restore all stores of a system; `give_up` accepts the loss of stores without a copy."""
        self.migrations.make_room(system)
        return self.jobs.start("recover", system, recovery_plan(system, give_up=give_up))

    def recovery(self, system: KnownSystem, *, give_up: bool = False) -> Job:
        """Return the running recovery of a system; begin one if there is none.

        OperatorError (`hmc.job-alone`) if `give_up` is given and a recovery runs already.  The plan of a
        running recovery can't be changed.
        """
        running = self.jobs.running(system)
        if running is not None and running.kind == "recover" and not give_up:
            return running
        return self.recover(system, give_up=give_up)

    async def save_profiles(self, system: KnownSystem) -> ProfileBackup:
        """Return a profile backup of a system as it is now."""
        return await self._profiles.save(system)

    async def plan_profiles(
        self, system: KnownSystem, level: RestoreLevel, backup: ProfileBackup | None
    ) -> RestorePlan:
        """Return the plan of a profile restore; nothing is changed.  `restore_profiles` may refuse it."""
        view = await system.call(show_system())
        others = [each for each in self.systems if each is not system]
        shown = {uuid: other.name for other in others for uuid in other.stores}
        elsewhere = {uuid: place for uuid, place in shown.items() if not self.registry.is_here(system, uuid)}
        elsewhere |= self.registry.outside(system)
        own = {view.system_id, *system.former_ids} - {each.system_id for each in others}
        return plan_restore(level, backup, view, StorePlaces(own, elsewhere))

    def restore_profiles(self, system: KnownSystem, plan: RestorePlan, *, force: bool = False) -> Job:
        """Begin a profile restore; OperatorError if the plan is refused, and then nothing is changed."""
        plan.demand(force=force)
        return self.jobs.start("restore-profiles", system, plan)

    async def restore(self, system: KnownSystem, request: ConsoleRequest[PartitionView]) -> PartitionView:
        """Order a system to restore a copy; OperatorError if another system may have the store.

        The register makes the system the owner of the partition before the order.  If the system refuses, the
        register removes this owner again.  If the answer is lost, the owner stays, because the system may
        have restored the store.
        """
        uuid = _uuid_of(request)
        async with self.courier.turn(uuid):
            await system.call(show_system())  # fails if it is away: then it must not become the owner
            self._demand_restorable(system, uuid)
            given = uuid and not is_check(request) and self.registry.give(system, uuid)
            try:
                answer = await system.call(request)
            except SwpksError as error:
                if given and not may_repeat(error):
                    self.registry.release_owner(system, uuid)
                raise
        await self.settle(system)
        return answer

    def _demand_restorable(self, system: KnownSystem, uuid: str) -> None:
        if reason := self._guard.refusal(system, uuid):
            partition = self.registry.names.partition(uuid)
            raise OperatorError(
                migration.CUSTODY_OWNED, f"the store of {partition} is not restored: {reason}"
            )

    async def settle(self, system: KnownSystem) -> None:
        """Send a system the answers about its restored partitions, before an order starts one (R-54)."""
        with suppress(SwpksError):  # if this fails, the system asks again later
            await system.call(show_system())
            await self.courier.look(system)

    async def _restore_profiles(self, run: JobRun) -> None:
        restored = [step.uuid for step in run.plan.steps if step.kind == "restore"]
        for uuid in restored:
            self._demand_restorable(run.system, uuid)
        # The owner is stored before the first step, as in `restore`.  If the answer to a step is lost, the
        # restored store has an owner already.
        given = [uuid for uuid in restored if self.registry.give(run.system, uuid)]
        try:
            await self._profiles.perform(run)
        except SwpksError:
            # If the system shows a store, the store was restored before the refusal.  So it keeps its owner.
            # All other stores lose the owner that was given above.
            for uuid in set(given) - run.system.stores:
                self.registry.release_owner(run.system, uuid)
            raise
        await self.settle(run.system)

    def _recover_by_itself(self, system: KnownSystem) -> None:
        """Begin to recover a system that has lost its stores, unless recoveries need an order."""
        if self.settings.manual_recovery:
            return
        self.migrations.make_room(system)
        if self.jobs.running(system):
            return
        plan = recovery_plan(system)
        if plan.stores:
            self.jobs.start("recover", system, plan)
        else:
            end = to_accept_loss(system, self.store.folder)
            self.log.warning("recovery.no_copies", system=system.name, end=end)

    def _after_job(self, job: Job, system: KnownSystem) -> None:
        """Begin the recovery or the migration that has waited for the end of this job."""
        lost = system.view is not None and system.view.state == "Recovery"
        try:
            if job.kind == "recover":
                self.migrations.go_on(system)
            elif lost:
                self._recover_by_itself(system)
        except SwpksError as error:  # the store can't be written; the next connect tries again
            self.log.warning("recovery.not_begun", system=system.name, error=error.message)

    def _know(self, row: SystemRow, link: SystemLink) -> KnownSystem:
        """Make the object of a stored system, and return it."""
        system = self._systems[row.key] = KnownSystem(row, link, self.store, self.date)
        system.put_names = self.registry.names.put
        return system

    def _watch(self, system: KnownSystem) -> None:
        """Begin to watch a system, if the console runs; end an open stream."""
        system.scope.cancel()
        system.scope = trio.CancelScope()
        if self._nursery:
            self._nursery.start_soon(self._watcher.watch, system)

    def _kinds(self) -> dict[str, JobKind]:
        recovery = RecoveryTools(self.store, self.date, self._guard, self.settle)
        return {
            "backup": JobKind(BackupPlan, backup(self.taker)),
            "restore-profiles": JobKind(RestorePlan, self._restore_profiles),
            "recover": JobKind(RecoveryPlan, recovery.perform),
            **self.migrations.kinds(),
        }

    def _identity(self, entropy: Callable[[int], bytes]) -> tuple[str, str]:
        """Return id and name of this console; store them if they are new."""
        found = self.store.identity()
        console_id = found[0] if found else entropy(_ID_SIZE).hex()
        if found != (console_id, self.settings.name):
            self.store.set_identity(console_id, self.settings.name)
        return console_id, self.settings.name


def _uuid_of(request: ConsoleRequest[PartitionView]) -> str:
    """Return the UUID of the copy in a request; "" for an unreadable copy, which the system will refuse."""
    if not isinstance(request.body, CopyToRestore):
        raise ValueError(f"{request.verb.operation} restores no copy")
    try:
        return str(read_copy(request.body.copy).uuid)
    except SwpksError:
        return ""
