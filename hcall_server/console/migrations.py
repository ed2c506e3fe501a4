"""The orders of migration and remote restart, for the lines of the console (spec/migration.md#orders).

    job = await console.migrations.migrate(source, target, "lpar1")
    await console.jobs.follow(job, report)

A refused order raises SwpksError with its rule, and has changed nothing.
"""

from __future__ import annotations

import trio
import trio.lowlevel

from hcall_abi.control_views import PartitionView
from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.requests import check_arrival, show_needs, show_trusted_key, tell_custody
from hcall_abi.rules import console, hmc
from hcall_abi.rules import migration as rules
from hcall_abi.rules.rule import Rule
from hcall_server.console.carried import left, serves_elsewhere
from hcall_server.console.entries import (
    Entry,
    forced,
    record,
)
from hcall_server.console.jobs import Job, JobKind, JobRun, Jobs
from hcall_server.console.migration import MigrationJob, MigrationPlan
from hcall_server.console.migration_status import MigrationStatus, Statuses
from hcall_server.console.migration_tools import (
    MigrationTools,
    demand_key,
    demand_owned,
    fact_of,
    partition_of,
)
from hcall_server.console.refusals import decided
from hcall_server.console.restarting import Restarter, RestartPlan, find_uuid, is_decided
from hcall_server.console.returning import demand_returnable, demand_takes, give_back
from hcall_server.console.stopping import stop
from hcall_server.console.systems import KnownSystem
from hcall_server.platform.custody import Custody, Decision

__all__ = ["MigrationStatus", "Migrations"]

MIGRATE, RESTART = "migrate", "restart"
"""The kinds of jobs."""
STOP_SECONDS = 10.0
"""Seconds for which a stop waits for the end of the job."""


class Migrations:
    """Orders about partitions that move between systems of the console."""

    def __init__(self, tools: MigrationTools) -> None:
        self._tools = tools
        self._registry = tools.registry
        self._restarter = Restarter(tools, self._end_migration)
        self.jobs: Jobs
        """The jobs of the console.  They need the kinds of this object, so they are set after it was made."""

    def __repr__(self) -> str:
        return f"Migrations({self._registry!r})"

    def kinds(self) -> dict[str, JobKind]:
        """Return the kinds of jobs."""
        return {
            MIGRATE: JobKind(MigrationPlan, self._migrate),
            RESTART: JobKind(RestartPlan, self._restarter.perform),
        }

    async def _migrate(self, run: JobRun) -> None:
        await MigrationJob(run, self._tools).perform()

    # Migration

    async def validate(self, source: KnownSystem, target: KnownSystem, name: str) -> None:
        """Check that a partition can move: `migrlpar -o v`."""
        await self._validated(source, target, name)

    async def migrate(self, source: KnownSystem, target: KnownSystem, name: str) -> Job:
        """Validate, and begin to move a partition: `-o m`.

        A running partition moves live.  A partition that is powered off moves by a copy (inactive).
        """
        validated = await self._validated(source, target, name)
        # This check runs again, because another order may have begun meanwhile.
        partition = self._idle(source, validated.uuid, name)
        # The checks above depend on the kind of migration, and the kind has changed.
        if partition.power != validated.power:
            message = f"{name} was powered on or off meanwhile: repeat the order"
            raise OperatorError(rules.MIGRATION_POWER, message, advised=True)
        live = partition.power == "running"
        plan = MigrationPlan(partition.uuid, name, target.system_id, live)
        return self.jobs.start(MIGRATE, source, plan)

    async def _validated(self, source: KnownSystem, target: KnownSystem, name: str) -> PartitionView:
        """Return the partition; SwpksError if it can't move."""
        if source is target:
            raise OperatorError(rules.MIGRATION_SYSTEMS, f"source and target are both {source.name}")
        needs = await source.call(show_needs(name))
        await self._tools.view(source)
        partition = self._idle(source, needs.uuid, name)
        if partition.power == "running":
            if not (await self._tools.view(target)).mobility:
                message = f"{target.name} does not listen: start it with --mobility"
                raise OperatorError(rules.MOBILITY_LISTENS, message, advised=True)
        else:
            key = (await source.call(show_trusted_key())).id or ""
            await demand_key(target, key, name)
        await target.call(check_arrival(needs))
        return partition

    def _idle(self, source: KnownSystem, uuid: str, name: str) -> PartitionView:
        """Return the partition; OperatorError if the system does not own it, or if an attempt moves it."""
        demand_owned(self._tools, source, uuid, name)
        partition = partition_of(source, uuid)
        if partition is None:
            raise self._lacks(console.NAME_EXISTS, f"{source.name} has no partition {name!r} any more", name)
        entry = self._registry.of(partition.uuid)
        forced_now = entry is not None and entry.decision is Decision.FORCED
        if partition.mode != "serving" or forced_now or self._job_of(partition.uuid):
            raise OperatorError(rules.CUSTODY_IDLE, f"{name} is {partition.mode} at {source.name}, or moves")
        return partition

    async def stop(self, source: KnownSystem, name: str) -> str:
        """Stop a migration before its point of no return: `-o s`; return the line for the operator."""
        entry = self._running(source, name)
        return await stop(self._tools, source, entry, lambda: self._unended(entry.uuid))

    async def _unended(self, uuid: str) -> Job | None:
        """Wait until the job about a partition has ended; return None.

        If the job takes too long, return the job.
        """
        job = self._job_of(uuid)
        if job is None:
            return None
        with trio.move_on_after(STOP_SECONDS):
            await self.jobs.follow(job, _unreported)
        return job if job.state == "running" else None

    async def recover(self, source: KnownSystem, name: str, *, force: bool = False) -> Job | str:
        """Bring an attempt to its end: `-o r`.

        Return the job to follow.  If the attempt has ended without a job, return the line for the operator.

        `force` depends on the kind of the attempt.  In a live attempt the source is lost, so the target
        serves.  In an inactive attempt the partition goes back to its source.
        """
        entry = self._running(source, name)
        await self._refreshed(entry)
        # The entry is read again, because the attempt may have ended.  It is read by its UUID, because
        # another partition may have the name now.
        entry = self._tools.entry(entry.uuid)
        if _has_ended(entry):
            return self._job_of(entry.uuid) or self._ended_line(entry)
        if force and entry.kind == "live" and entry.decision is not Decision.FORCED:
            await self._force(entry)
        elif force and entry.kind == "inactive" and entry.final and entry.target != source.system_id:
            await self._send_back(source, entry)
        self._tools.courier.poke(entry.uuid)
        return self._job_of(entry.uuid) or self._go_on(source, self._tools.entry(entry.uuid))

    def _ended_line(self, entry: Entry) -> str:
        owner = self._registry.name_of(entry.owner) or "no system of this console"
        return f"the attempt {entry.epoch} has ended: {entry.name} is at {owner}"

    async def recover_restart(self, source: KnownSystem, name: str) -> Job | str:
        """Bring a remote restart to its end: `rrstartlpar -o recover`; return what `recover` returns."""
        if self._running(source, name).kind != "restart":
            raise self._lacks(rules.MIGRATION_RUNNING, f"no remote restart of {name} runs", name)
        return await self.recover(source, name)

    async def _refreshed(self, entry: Entry) -> None:
        """Request the views of both systems of an attempt; skip a system that is away."""
        for system_id in (entry.source, entry.target):
            system = self._registry.system(system_id)
            if system is not None:
                system.wake()
                try:
                    await self._tools.view(system)
                except SwpksError as error:
                    if error.rule is hmc.HMC_STORE_WRITTEN:
                        raise

    async def _force(self, entry: Entry) -> None:
        """Decide that the target of a live attempt serves, because its source is lost (row 14)."""
        target = self._tools.system(entry.target)
        await self._tools.view(target)
        async with self._tools.courier.turn(entry.uuid):
            now = self._tools.entry(entry.uuid)
            if now.decision is Decision.DONE:
                return
            self._tools.enter(forced(now, fact_of(self._tools, target, entry.uuid)), "forced")
        await self._tools.courier.look(target)

    async def _send_back(self, source: KnownSystem, entry: Entry) -> None:
        """Give a released partition back to its source by a new attempt; bar its target first.

        SwpksError if the source can't open the copy, or if the target can't be barred.
        """
        if entry.owner != source.system_id:
            raise decided(entry)
        await demand_takes(self._tools, entry)
        await give_back(self._tools, entry)

    def make_room(self, system: KnownSystem) -> None:
        """End the migration or restart job of a system, so that its recovery can begin.

        The system has lost its stores, and it can have one running job only.
        """
        running = self.jobs.running(system)
        if running is not None and running.kind in (MIGRATE, RESTART):
            self.jobs.end_of(system, f"the recovery of {system.name} comes first")

    def go_on(self, system: KnownSystem) -> None:
        """After the recovery of a system, begin the job again that `make_room` has ended.

        Only a job that moves a partition by a copy begins again.
        """
        for entry in self._registry.entries:
            of = entry.target if entry.kind == "restart" else entry.source
            if entry.final and of == system.system_id and not self.jobs.running(system):
                self._go_on(system, entry)

    def _go_on(self, source: KnownSystem, entry: Entry) -> Job:
        """Begin a job for an attempt that has no job."""
        if entry.kind == "restart":
            target = self._tools.system(entry.target)
            return self.jobs.start(RESTART, target, RestartPlan(entry.uuid, entry.name, entry.source))
        if entry.kind == "live":  # the job belongs to the source
            source = self._tools.system(entry.source)
        back = entry.target == source.system_id
        wanted = entry.source if back else entry.target
        plan = MigrationPlan(entry.uuid, entry.name, wanted, entry.kind == "live", entry.epoch)
        return self.jobs.start(MIGRATE, source, plan)

    def _running(self, source: KnownSystem, name: str) -> Entry:
        """Return the entry of an open attempt from or to a system; OperatorError if there is none."""
        for entry in self._registry.entries:
            here = source.system_id in (entry.source, entry.target)
            if entry.name == name and here and (not _has_ended(entry) or self._job_of(entry.uuid)):
                return entry
        raise self._lacks(rules.MIGRATION_RUNNING, f"no migration of {name} from {source.name} runs", name)

    def _lacks(self, rule: Rule, finding: str, name: str) -> OperatorError:
        """Return the error about an order that finds nothing to do.

        The message names the system that has the partition.
        """
        place = self._registry.found_at(name)
        return OperatorError(rule, f"{finding}; {place}" if place else finding)

    def _job_of(self, uuid: str) -> Job | None:
        """Return the running job about a partition, None if there is none."""
        runs = [*self.jobs.plans(MIGRATE), *self.jobs.plans(RESTART)]
        return next((run.job for run in runs if run.plan.uuid == uuid), None)

    # Remote restart

    async def validate_restart(self, source: KnownSystem, target: KnownSystem, name: str) -> None:
        """Check that a partition can be restarted at a target: `rrstartlpar -o validate`."""
        uuid = find_uuid(self._tools, source, name)
        await self._restarter.validate(source, target, uuid, name)

    async def restart(self, source: KnownSystem, target: KnownSystem, name: str) -> Job:
        """Validate, and begin to restart a partition of a lost system; the job belongs to the target."""
        uuid = find_uuid(self._tools, source, name)
        entry = self._registry.of(uuid)
        # After the decision no check can change the owner, so the job just goes on.
        if not is_decided(entry, target):
            self._demand_alone(uuid, name)
            await self._restarter.validate(source, target, uuid, name)
            self._demand_alone(uuid, name)
        return self.jobs.start(RESTART, target, RestartPlan(uuid, name, source.system_id))

    def _end_migration(self, uuid: str) -> None:
        """End the migration job of a partition that a remote restart has given to another system."""
        for run in self.jobs.plans(MIGRATE):
            if run.plan.uuid == uuid:
                self.jobs.end_of(run.system, "a remote restart takes its place")

    def _demand_alone(self, uuid: str, name: str) -> None:
        running = self._job_of(uuid)
        if running and running.kind == RESTART:
            raise OperatorError(hmc.HMC_JOB_ALONE, f"job {running.number} restarts {name} already")

    async def cleanup(self, source: KnownSystem, name: str) -> str:
        """Have the former system drop its store of a partition that was restarted elsewhere.

        Return the line for the operator.
        """
        entry = self._left_behind(source, name)
        await self._refreshed(entry)
        await self._tools.view(source)
        entry = self._tools.entry(entry.uuid)
        fact = fact_of(self._tools, source, entry.uuid)
        facts = self._registry.facts(entry.uuid)
        owner = self._registry.name_of(entry.owner)
        if fact is None or record(fact) is not Custody.RELEASED:
            state = fact.custody.upper() if fact else "unknown"
            raise OperatorError(rules.RESTART_CLEANUP, f"{name} is {state} at {source.name}")
        if not serves_elsewhere(entry, source.system_id, fact, facts):
            message = f"{owner or 'no system'} has not shown that it owns {name}"
            raise OperatorError(rules.RESTART_CLEANUP, message)
        word = left(entry, fact)
        await source.call(tell_custody(word.uuid, word.epoch, word.word, peer_id=word.peer))
        await self._tools.courier.look(source)
        place = f"{owner} has it" if owner else "it has moved, and was deleted where it was"
        return f"{name} is removed from {source.name}: {place}"

    def _left_behind(self, source: KnownSystem, name: str) -> Entry:
        """Return the entry of a partition whose store may still be at a system.

        OperatorError if there is no such partition.
        """
        named = [each for each in self._registry.entries if each.name == name]
        kept = [each for each in named if self._has_store_of(source, each)]
        if not kept:
            raise self._lacks(rules.RESTART_CLEANUP, f"{source.name} has nothing of {name} to clean up", name)
        facts = {each.uuid: fact_of(self._tools, source, each.uuid) for each in kept}
        released = (each for each in kept if (at := facts[each.uuid]) and record(at) is Custody.RELEASED)
        return next(released, kept[0])  # several partitions may have had this name: prefer a released one

    def _has_store_of(self, source: KnownSystem, entry: Entry) -> bool:
        """Return whether a system may still have the store of a partition that it does not own.

        The partition has another owner, or was deleted at its owner.
        """
        shown = source.system_id in self._registry.facts(entry.uuid)
        if not entry.owner:
            return bool(entry.moved) and shown
        known = shown or source.system_id == entry.source
        return known and bool(self._registry.elsewhere(source, entry.uuid))

    async def cancel(self, source: KnownSystem, name: str) -> Job | str:
        """Cancel a remote restart whose target has not opened the copy: `rrstartlpar -o cancel`.

        Before the console has decided the restart, this ends its job, and returns the line for the operator.
        After the decision, the source gets the partition back, and this returns the job that does it.
        """
        uuid = find_uuid(self._tools, source, name)
        run = next((each for each in self.jobs.plans(RESTART) if each.plan.uuid == uuid), None)
        entry = self._registry.of(uuid)
        if entry and entry.kind == "restart" and entry.decision is Decision.FORCED:
            return await self._cancel_decided(entry, run)
        if entry and entry.kind == "restart" and entry.decision is Decision.DONE and run:
            raise decided(entry)
        if run is None:
            raise self._lacks(rules.MIGRATION_RUNNING, f"no remote restart of {name} runs", name)
        await self._end_restart(run)
        return f"the remote restart of {name} is cancelled"

    async def _cancel_decided(self, entry: Entry, run: JobRun | None) -> Job:
        await demand_returnable(self._tools, entry)
        source = self._tools.system(entry.source)
        if other := self.jobs.running(source):
            message = f"job {other.number} ({other.kind}) of {source.name} runs: wait for its end"
            raise OperatorError(hmc.HMC_JOB_ALONE, message, advised=True)
        if run:
            await self._end_restart(run)
        await give_back(self._tools, entry)
        return self._go_on(source, self._tools.entry(entry.uuid))

    async def _end_restart(self, run: JobRun) -> None:
        self.jobs.end_of(run.system, f"the remote restart of {run.plan.name} was cancelled")
        await self.jobs.follow(run.job, _unreported)

    # Views

    def status(self, system: KnownSystem | None = None) -> list[MigrationStatus]:
        """Return the status of all partitions in the register.

        With a `system`, only of those that are there, or that move from or to it.
        """
        return self._statuses().all(system)

    def moving(self, system: KnownSystem, partition: PartitionView) -> bool:
        """Return whether lssyscfg shows the state of a partition as `Migrating - ...` on this system."""
        return self._statuses().moving(system, partition)

    def remote_restart_status(self, system: KnownSystem, partition: PartitionView) -> str:
        """Return the words of lssyscfg about remote restart, such as ``Remote Restartable``."""
        return self._statuses().remote_restart(system, partition)

    def _statuses(self) -> Statuses:
        return Statuses(self._registry, self._job_of)


def _has_ended(entry: Entry) -> bool:
    """Return whether an attempt can't move the partition any more."""
    return (entry.over and not entry.final) or entry.decision in (Decision.NEW, Decision.DONE)


async def _unreported(_: Job) -> None:
    """Follow a job, and report nothing."""
    await trio.lowlevel.checkpoint()
