"""The parts of the console that migrations and remote restarts use, and the steps that they share.

Page: spec/migration.md#orders.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import NamedTuple

from hcall_abi.control_views import CustodyView, PartitionView, SystemView
from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.requests import show_system, show_trusted_key, take_partition, tell_custody
from hcall_abi.rules import hmc
from hcall_abi.rules import migration as rules
from hcall_server.console.courier import Courier
from hcall_server.console.entries import Entry, aborted, record, renumbered, restarted
from hcall_server.console.jobs import JobRun, may_repeat
from hcall_server.console.patience import waits
from hcall_server.console.registry import Registry
from hcall_server.console.store import ConsoleStore
from hcall_server.console.systems import KnownSystem
from hcall_server.console.taking import Taker
from hcall_server.failpoints import ConsolePoint
from hcall_server.platform.custody import LEFT, OWNING, Custody, Decision

_BAR_TRIES = 6
_BAR_PAUSE = 5.0


class MigrationTools(NamedTuple):
    """Store, register and courier of the console; `entropy` makes tokens."""

    store: ConsoleStore
    taker: Taker
    registry: Registry
    courier: Courier
    entropy: Callable[[int], bytes]

    def entry(self, uuid: str) -> Entry:
        """Return the entry of a partition; OperatorError if it has none."""
        entry = self.registry.of(uuid)
        if entry is None:
            partition = self.registry.names.partition(uuid)
            raise OperatorError(rules.MIGRATION_RUNNING, f"{partition} takes part in no migration")
        return entry

    def enter(self, entry: Entry, point: ConsolePoint | None = None) -> None:
        """Store an entry, and have the courier send the migration words that this entry requires."""
        self.registry.enter(entry, point)
        self.courier.poke(entry.uuid)

    def system(self, system_id: str) -> KnownSystem:
        """Return a system by its id; OperatorError if the console does not know it any more."""
        system = self.registry.system(system_id)
        if system is None:
            message = f"the console does not know the system {system_id} any more: add it again"
            raise OperatorError(rules.MIGRATION_SYSTEMS, message, advised=True)
        return system

    async def view(self, system: KnownSystem) -> SystemView:
        """Return the present view of a system, and store its facts in the register."""
        view = await system.call(show_system())
        await self.courier.look(system)
        return system.view or view


def fact_of(tools: MigrationTools, system: KnownSystem, uuid: str) -> CustodyView | None:
    """Return the custody of a partition that a system has shown, None if it has shown none."""
    return next((each for each in tools.registry.facts_of(system) if each.uuid == uuid), None)


def partition_of(system: KnownSystem, uuid: str) -> PartitionView | None:
    """Return the partition in the last view of a system, None if it is not there."""
    partitions = system.view.partitions if system.view else []
    return next((each for each in partitions if each.uuid == uuid), None)


def demand_owned(tools: MigrationTools, source: KnownSystem, uuid: str, name: str) -> None:
    """Raise OperatorError unless a system owns a partition.

    It does not own the partition if the register names another owner, or if its last view shows another
    custody.
    """
    if elsewhere := tools.registry.elsewhere(source, uuid):
        raise OperatorError(rules.CUSTODY_OWNED, f"{name} belongs to {elsewhere}")
    partition, fact = partition_of(source, uuid), fact_of(tools, source, uuid)
    custody = partition.custody.upper() if partition else record(fact).name if fact else ""
    if custody and Custody[custody] not in OWNING:
        raise OperatorError(rules.CUSTODY_OWNED, f"{name} is {custody} at {source.name}")


async def demand_key(target: KnownSystem, key_id: str, name: str, *, lost: bool = False) -> None:
    """Raise OperatorError unless a system has the trusted system key of a copy.

    The caller must call this before it sends anything else: a system without this key must not get the copy.
    `lost` changes the advice in the message.  The system that made the copy is dead, so its key can't be
    changed.
    """
    present = (await target.call(show_trusted_key())).id
    if present == key_id and key_id:
        return
    needed = f"the copy of {name} needs the trusted system key {key_id or '(none)'}"
    command = f"`chtskey -m {shlex.quote(target.name)} -o restore --newkey FILE`"
    without = f"{name} waits for its system" if lost else f"change the key of {name}'s system first"
    advice = f"set that key from its file: {command}; without the file, {without}"
    finding = f"{needed}, and {target.name} has {present or 'none'}"
    raise OperatorError(rules.RESTART_KEY, f"{finding}; {advice}", advised=True)


# The end of an attempt


async def barred(tools: MigrationTools, entry: Entry) -> Entry:
    """Bar the targets of all open attempts (row 19); return the new entry, which has no open attempt.

    OperatorError if a target can't be reached.  A target may have become the owner already.  So the caller
    must check the owner in the new entry.
    """
    if _has_ended(entry):
        return entry
    tools.courier.barring.add(entry.uuid)
    try:
        return await _barred(tools, entry)
    finally:
        tools.courier.barring.discard(entry.uuid)


def _has_ended(entry: Entry) -> bool:
    return entry.decision is Decision.DONE or (entry.over and not entry.final)


def _holders(tools: MigrationTools, entry: Entry) -> list[KnownSystem]:
    """Return the systems that have to be barred: each may have or get a copy.

    The target of the entry is the last one.  OperatorError if one of the systems was removed from the
    console.
    """
    holders = {uid for uid, fact in tools.registry.facts(entry.uuid).items() if fact.custody == "prepared"}
    others = holders.union(entry.open_targets) - {entry.target}
    return [tools.system(each) for each in (*sorted(others), entry.target)]


async def demand_barrable(tools: MigrationTools, entry: Entry) -> None:
    """Raise OperatorError if a system that has to be barred does not answer.

    An attempt that has ended needs no bar.
    """
    if _has_ended(entry):
        return
    for system in _holders(tools, entry):
        try:
            await system.call(show_system())
        except SwpksError as error:
            if not may_repeat(error):
                raise
            raise _may_hold(system, entry, error.message) from None


async def _barred(tools: MigrationTools, entry: Entry) -> Entry:
    await demand_barrable(tools, entry)  # raises before anything is changed
    registry, entry = tools.registry, tools.entry(entry.uuid)
    # An answer to the check above may have shown that the target serves.  That ends the attempt, and no bar
    # is needed.
    if _has_ended(entry):
        return entry
    epoch = registry.next_epoch(entry.uuid)
    systems = _holders(tools, entry)
    # A forced attempt must stay decided, even if a bar fails.  So its entry does not get the new number, and
    # only the bar has it.
    if entry.decision is not Decision.FORCED:
        registry.enter(renumbered(entry, epoch))
    for system in systems:
        await _bar(tools, entry, system, epoch)
    registry.enter(aborted(tools.entry(entry.uuid), over=True), "aborted")
    return tools.entry(entry.uuid)


async def _bar(tools: MigrationTools, entry: Entry, system: KnownSystem, epoch: int) -> None:
    """Order a system to drop its copy of an attempt, and wait until its view shows that.

    From then on the system refuses this copy.  If the system already owns the partition, the function returns
    without an effect.
    """
    trouble = "its answer shows the copy still"
    for _ in range(_BAR_TRIES):
        try:
            await system.call(tell_custody(entry.uuid, epoch, "bar"))
            await tools.courier.look(system)
        except SwpksError as error:
            if not may_repeat(error):
                raise
            trouble = error.message
        fact = fact_of(tools, system, entry.uuid)
        # The bar counts only when a view shows it.  An answer may be lost, and a view shows durable records
        # only.
        if fact and record(fact) in LEFT and fact.epoch >= epoch:
            return
        if tools.entry(entry.uuid).moved > entry.moved:
            return
        if not system.connected:
            break
        await tools.courier.changed(_BAR_PAUSE)
    raise _may_hold(system, entry, trouble)


def _may_hold(system: KnownSystem, entry: Entry, trouble: str) -> OperatorError:
    message = f"{system.name} may hold a copy of {entry.name} by attempt {entry.epoch}: {trouble}"
    return OperatorError(rules.RESTART_TARGET, message)


class StoreGuard(NamedTuple):
    """Refuses restores of a store that another system has, or may get."""

    tools: MigrationTools

    def elsewhere(self, system: KnownSystem, uuid: str) -> str:
        """Return why a recovery must not restore a store at a system, "" if it may."""
        entry = self.tools.registry.of(uuid)
        if entry and entry.moved and not entry.owner:
            return "it has moved, and was deleted where it was"
        if place := self.tools.registry.elsewhere(system, uuid):
            return f"it belongs to {place}"
        return self.refusal(system, uuid)

    def refusal(self, system: KnownSystem, uuid: str) -> str:
        """Return why an operator must not restore a store at a system, "" if the operator may."""
        # `Courier._answer` makes a similar check.  Here an owner that was removed from the console counts as
        # lost (waiting.py).
        registry = self.tools.registry
        entry = registry.of(uuid)
        owner = entry and registry.owner_of(entry)
        if owner and owner is not system:
            return f"it belongs to {owner.name}"
        if place := registry.claimed(system, uuid):
            return f"{place} has it: delete it there, or remove that system from the console"
        forced = entry and entry.decision is Decision.FORCED and not entry.over
        if entry and (entry.final or forced):
            return f"the attempt {entry.epoch} brings it to {registry.name_of(entry.target)}"
        return ""

    async def settle(self, system: KnownSystem, uuid: str) -> str:
        """End the open attempt of a partition whose source has lost its stores.

        Return "", or why the attempt can't be ended.
        """
        entry = self.tools.registry.unfinished(system, uuid)
        if entry is None or entry.source != system.system_id or entry.final:
            return ""
        try:
            await barred(self.tools, entry)
        except SwpksError as error:
            if error.rule is hmc.HMC_STORE_WRITTEN:
                raise
            return error.message
        return ""


# The copy of a partition that moves without running


async def hand_over(run: JobRun, tools: MigrationTools, uuid: str) -> Entry:
    """Send the final copy of an entry to its target until the target owns it; return the new entry.

    While the target is away, the job waits.  The loop reads the entry again each time, because an operator
    may have changed the target.
    """
    for seconds in waits():
        entry = tools.entry(uuid)
        if not entry.final:
            run.wait("")
            return entry
        target = tools.system(entry.target)
        try:
            # A bar puts its own number into the entry.  A copy under this number could reach the target
            # before the bar.  So no copy is sent while a bar runs.
            if uuid not in tools.courier.barring:
                await _take(tools, target, entry)
        except SwpksError as error:
            if not may_repeat(error):
                raise
            run.wait(f"{target.name}: {error.message}")
        if tools.entry(uuid).final:
            await tools.courier.changed(seconds)
    raise RuntimeError("the waits have no end")


async def _take(tools: MigrationTools, target: KnownSystem, entry: Entry) -> None:
    try:
        await target.call(take_partition(entry.final, entry.epoch, entry.source))
    except SwpksError as error:
        if may_repeat(error):
            raise
        await tools.view(target)  # an earlier request may have been performed
        now = tools.entry(entry.uuid)
        if not now.final or now.epoch != entry.epoch:
            return
        fact = fact_of(tools, target, entry.uuid)
        if fact is None or record(fact) not in LEFT or fact.epoch < now.epoch:
            raise
        _renumber(tools, now)
        return
    await tools.view(target)


def _renumber(tools: MigrationTools, entry: Entry) -> None:
    """Give an attempt a new number, so that its target accepts the copy.

    A bar without a result has left its number at the target.  The target refuses a copy under this number and
    under lower ones.
    """
    epoch = tools.registry.next_epoch(entry.uuid)
    if entry.decision is Decision.FORCED:
        again = restarted(
            entry._replace(over=True), entry.kind, epoch, entry.source, entry.target, entry.final
        )
        tools.enter(again, "forced")
        return
    tools.enter(renumbered(entry, epoch), "opened")
