"""The job `restart`: a partition of a lost system starts elsewhere, from its copy (R-52, R-54).

Page: spec/migration.md#remote-restart.
"""

# The source is dead, or cut off.  It can't agree.  So the job must guarantee:
#
#   1. Before the source serves again, it asks the console for the owner.  The new owner is durable in
#      the register before the target gets the copy.  After that, only a cancellation can give the
#      partition back to its source (`returning`).
#   2. Nothing is sent to a target whose trusted system key is missing, or is another one.
#   3. The target has checked the copy, its level and its space before the owner changes.
#   4. The targets of all unfinished attempts are barred before the owner changes.  Otherwise a source that
#      released the partition before its death could still activate it at one of them.
#   5. Under the lock of the partition, the job requests the view of the source once more.  The decision
#      follows without an await.
#
# A source that comes back as RELEASED counts as dead: it never serves this store again.
#
# Bars take time.  Meanwhile the source may come back, serve, send a newer copy, and fail again.  So the job
# looks up the newest copy again under the lock.  If there is a newer copy, all checks are repeated.
#
# The operator may be wrong: the source may be cut off and still serve.  Then two systems serve.  A lease
# would prevent that.  It was dropped, because a long absence of the console would stop all partitions
# (spec/migration.md).

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from hcall_abi.control_views import PartitionView
from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.requests import power_on, show_system, take_partition
from hcall_abi.rules import migration as rules
from hcall_server.console.copies import CopyFacts, time_text
from hcall_server.console.entries import Entry, record, restarted
from hcall_server.console.jobs import JobRun
from hcall_server.console.migration_tools import (
    MigrationTools,
    barred,
    demand_barrable,
    demand_key,
    fact_of,
    hand_over,
    partition_of,
)
from hcall_server.console.systems import KnownSystem
from hcall_server.platform.custody import Custody, Decision

_DECIDED, _TAKEN, _STARTED = "decided", "taken", "started"
_STEPS = 3


class RestartPlan(msgspec.Struct):
    """A partition, and the id of the system that was lost."""

    uuid: str
    name: str
    source: str


class LastCopy(NamedTuple):
    """The newest copy of a partition on the console."""

    facts: CopyFacts
    blob: bytes


def is_decided(entry: Entry | None, target: KnownSystem) -> bool:
    """Return whether a restart at this target is decided, and not done yet."""
    if entry is None or entry.kind != "restart":
        return False
    return entry.decision is Decision.FORCED and entry.target == target.system_id


def find_uuid(tools: MigrationTools, source: KnownSystem, name: str) -> str:
    """Return the UUID of a partition that was on a lost system; OperatorError for an unknown name."""
    if source.view:
        found = [each.uuid for each in source.view.partitions if each.name == name]
    else:
        last = source.last.partitions if source.last else {}
        found = [uuid for uuid, known in last.items() if known == name]
    entries = [each for each in tools.registry.entries if each.name == name]
    found += [each.uuid for each in entries if source.system_id in (each.owner, each.source)]
    if not found:
        place = tools.registry.found_at(name)
        message = f"{source.name} has shown no partition {name!r}{place and f'; {place}'}"
        raise OperatorError(rules.RESTART_COPY, message)
    return found[0]


class Restarter(NamedTuple):
    """The checks and steps of remote restarts."""

    tools: MigrationTools
    end_migration: Callable[[str], None]
    """Ends the job of a migration of this partition."""

    async def validate(self, source: KnownSystem, target: KnownSystem, uuid: str, name: str) -> None:
        """Check that a partition can be restarted at a target; nothing is changed."""
        copy = await self.demand(source, target, uuid, name)
        await self.check(source, target, uuid, copy)
        if entry := self.tools.registry.of(uuid):
            await demand_barrable(self.tools, entry)

    async def demand(self, source: KnownSystem, target: KnownSystem, uuid: str, name: str) -> LastCopy:
        """Return the newest copy; OperatorError if the partition may not be restarted at the target."""
        if source is target:
            raise OperatorError(rules.MIGRATION_SYSTEMS, f"{name} is one of {source.name} itself")
        await demand_dead(self.tools, source, uuid)
        self._demand_owner(source, uuid)
        if partition := partition_of(source, uuid):
            _demand_capable(partition)
        copies = self.tools.store.copies_of(uuid)
        if not copies:
            raise OperatorError(rules.RESTART_COPY, f"the console has no copy of {name}")
        facts = copies[0][1]
        # The content is read before the next await.  During that await a newer copy may replace this one in
        # the store.
        copy = LastCopy(facts, self.tools.store.blob(facts.number))
        await demand_key(target, facts.trusted_key_id, name, lost=True)
        return copy

    async def check(self, source: KnownSystem, target: KnownSystem, uuid: str, copy: LastCopy) -> None:
        """Have the target check the copy; OperatorError if the target can't own the partition."""
        epoch = self.tools.registry.next_epoch(uuid)
        shown = await target.call(take_partition(copy.blob, epoch, source.system_id, check=True))
        _demand_capable(shown)

    def _demand_owner(self, source: KnownSystem, uuid: str) -> None:
        entry = self.tools.registry.of(uuid)
        if place := self.tools.registry.claimed(source, uuid):
            raise OperatorError(rules.CUSTODY_OWNED, f"{place} has a store of this partition too")
        if entry is None or (entry.decision is Decision.FORCED and entry.source == source.system_id):
            # This restart is decided already, and the target has not shown yet that it owns the partition.
            return
        if entry.owner not in ("", source.system_id):
            owner = self.tools.registry.name_of(entry.owner)
            raise OperatorError(rules.CUSTODY_OWNED, f"{entry.name} belongs to {owner}")

    async def perform(self, run: JobRun) -> None:
        """Perform a restart, from its last durable step on."""
        run.expect(_STEPS)
        plan: RestartPlan = run.plan
        if _DECIDED not in run.steps and not is_decided(self.tools.registry.of(plan.uuid), run.system):
            await self._decide(run, plan)
        entry = await hand_over(run, self.tools, plan.uuid)
        if _TAKEN not in run.steps:
            run.finish(_TAKEN, f"row 16: ARRIVED({entry.epoch}) at {run.system.name}")
        await self._start(run, plan)

    async def _decide(self, run: JobRun, plan: RestartPlan) -> None:
        """Make the target the owner, durably (row 20); OperatorError if that is not allowed.

        If a newer copy arrives while targets are barred, the checks begin again with the newer copy.
        """
        while not await self._is_decided_with(run, plan, await self._checked(run, plan)):
            pass

    async def _is_decided_with(self, run: JobRun, plan: RestartPlan, copy: LastCopy) -> bool:
        """Make the target the owner, with this copy; return False if a newer copy has arrived."""
        tools, source = self.tools, self.tools.system(plan.source)
        entry = tools.registry.of(plan.uuid) or Entry(plan.uuid, plan.name, owner=source.system_id)
        if not entry.over:
            entry = await self._bar(run, entry)
        async with tools.courier.turn(plan.uuid):
            await demand_dead(tools, source, plan.uuid)
            self._demand_owner(source, plan.uuid)
            if not self._is_newest(plan.uuid, copy):
                return False
            epoch = tools.registry.next_epoch(plan.uuid)
            ids = source.system_id, run.system.system_id
            now = tools.registry.of(plan.uuid) or entry
            tools.enter(restarted(now, "restart", epoch, *ids, copy.blob), "forced")
            # The migration job ends only after the decision, because a refused restart must not disturb it.
            self.end_migration(plan.uuid)
        run.finish(
            _DECIDED,
            f"row 20: FORCED({epoch}) at the console",
            f"{plan.name} goes back to {time_text(copy.facts.time)}, generation {copy.facts.generation}",
        )
        return True

    async def _checked(self, run: JobRun, plan: RestartPlan) -> LastCopy:
        """Return the newest copy, after the target has checked it.

        While the target is away, this waits.
        """
        source = self.tools.system(plan.source)

        async def demanded() -> LastCopy:
            return await self.demand(source, run.system, plan.uuid, plan.name)

        copy = await run.persist(demanded)
        await run.persist(lambda: self.check(source, run.system, plan.uuid, copy))
        return copy

    def _is_newest(self, uuid: str, copy: LastCopy) -> bool:
        return all(facts.rank <= copy.facts.rank for _, facts in self.tools.store.copies_of(uuid))

    async def _bar(self, run: JobRun, entry: Entry) -> Entry:
        """End the open attempt of a lost source by bars; return the entry.

        The source's changes after the last copy are lost too.  OperatorError if the attempt has moved the
        partition already.
        """
        attempt, place = entry.epoch, self.tools.registry.name_of(entry.target)
        now = await barred(self.tools, entry)
        if now.moved > entry.moved:
            owner = self.tools.registry.name_of(now.owner)
            raise OperatorError(
                rules.CUSTODY_OWNED, f"{entry.name} belongs to {owner}: attempt {attempt} moved it"
            )
        run.say(f"row 19: the attempt {attempt} is barred at {place}; a store that it sent there is dropped")
        return now

    async def _start(self, run: JobRun, plan: RestartPlan) -> None:
        """Power the partition on at its new system."""
        target = run.system

        async def started() -> None:
            await self.tools.view(target)
            partition = partition_of(target, plan.uuid)
            # A running partition is no error: an earlier request has started it, and only the answer was
            # lost.
            if partition and partition.power == "off":
                await target.call(power_on(partition.name))

        await run.persist(started, rules.CUSTODY_CONFIRMED)
        run.finish(_STARTED, f"{plan.name} runs at {target.name}")


def _has_lost(tools: MigrationTools, source: KnownSystem, uuid: str) -> bool:
    """Return whether a system has released a partition for good: its target can't get it any more.

    If an attempt still brings the partition to its target, that target has newer contents than the last copy.
    The operator then has to recover the attempt.
    """
    fact, entry = fact_of(tools, source, uuid), tools.registry.of(uuid)
    if fact is None or record(fact) is not Custody.RELEASED:
        return False
    moved = entry.moved if entry else 0
    comes = any(
        record(each) is Custody.PREPARED and each.epoch == fact.epoch > moved
        for each in tools.registry.facts(uuid).values()
    )
    return not comes and not (entry and entry.kind == "inactive" and entry.final)


async def demand_dead(tools: MigrationTools, source: KnownSystem, uuid: str) -> None:
    """Raise OperatorError if a system answers, unless it has released the partition for good.

    This makes a request.  A console that has just started has no stream yet that could show the connection.
    """
    try:
        await source.call(show_system())
    except SwpksError:
        # The request may have failed for another reason.  If the stream is open, the system is not dead.
        answers = source.connected
    else:
        answers = True
    if answers and not _has_lost(tools, source, uuid):
        message = f"{source.name} is connected: migrate the partition, or power the system off"
        raise OperatorError(rules.RESTART_SOURCE, message, advised=True)


def _demand_capable(partition: PartitionView) -> None:
    if not getattr(partition, "simplified_remote_restart_capable", 1):
        raise OperatorError(
            rules.RESTART_CAPABLE, f"{partition.name} has simplified_remote_restart_capable=0"
        )
