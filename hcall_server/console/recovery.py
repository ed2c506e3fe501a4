"""The job `recover`: all stores of a system go back to their last copies (R-45, spec/console.md#recovery)."""

# Recovery on the console's side
#
# A system in the state Recovery has lost its stores.  The console restores them, by itself or by order, and
# reports the time of each copy that it used.  It must guarantee:
#
#   1. A store goes back to the newest copy that opens.  If this is not the last known copy, a line says so.
#   2. Nothing newer is overwritten: each restore is ordered with `older=False`.
#   3. Every restore is checked.  Before the end the stores are compared with the view of the system.
#   4. Only an operator accepts the loss of a store (--give-up).  Otherwise the system stays in Recovery.
#   5. A system that goes away delays the job, and so does a kill of the console.
#   6. Some stores are never restored here: the register names another owner, or an attempt may still move the
#      store to another system.
#
# The order of the steps is: key, [begin], stores, key, answers, end, name.
#
#   key      First, because without a key nothing can be restored.  An empty system may be Operating.  It is
#            put into Recovery only after it has accepted the key of a copy.  Otherwise it would be in
#            Recovery in vain.
#   stores   Each copy is tried from the newest to the oldest.  If a copy is damaged, or its key is missing,
#            only the changes since the next older copy are lost.
#   key      Before the end, because the end starts partitions.  A trusted system key changes only while no
#            partition with a keystore runs (`trusted-key.idle`).
#   answers  Also before the end: at the end, a partition that asks starts only if the console has agreed.
#   end      The job stores the decision before it orders the end.  If the answer is lost, the system is
#            Operating, and its partitions may run.  A repeated job would refuse such a system, but the stored
#            decision shows that this is its own work.
#   name     A system that lost its data has the name from its settings.  A name that is set in Recovery is
#            stored only with the end.  So the job checks the name once more after the end.
#
# Repetition.  After a lost answer or a kill, the job orders the restore again.  If the restore was done, the
# system refuses the order by `copy.behind`, and the store counts as restored.
#
# The service processor may be replaced again half way, and the stores are lost once more.  The view of a
# system in Recovery lists the names of the restored partitions.  So the job compares its results with these
# names, and restores the missing stores again, in a loop.  Without the loop, the job could end at an empty
# system.
#
# The plan has the numbers of the copies, and --give-up.  So a running recovery can't begin to accept losses:
# until it ends, an order with --give-up is refused (`hmc.job-alone`).  No newer copy can arrive meanwhile,
# because no partition exists in Recovery.
#
# Copies are put aside if their store was given up, or belongs to another system now.  They are not erased,
# and a profile restore uses them again (spec/choices.md, C-87).

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgspec

from hcall_abi.control_views import SystemView
from hcall_abi.counts import counted
from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.requests import begin_recovery, end_recovery, restore_copy, set_system, show_system
from hcall_abi.rules import backup as copy_rules
from hcall_abi.rules import console
from hcall_abi.rules import hmc as rules
from hcall_abi.standstills import not_operating
from hcall_server.console.advice import to_accept_loss
from hcall_server.console.copies import CopyFacts, by_store, origin_text
from hcall_server.console.jobs import JobRun
from hcall_server.console.keys import KeyRing
from hcall_server.console.migration_tools import StoreGuard
from hcall_server.console.store import ConsoleStore
from hcall_server.console.systems import KnownSystem

_OTHER_KEY = (copy_rules.TRUSTED_KEY_SET, copy_rules.COPY_KEY)
"""Rules of a refusal by a system that has another trusted system key, or none."""
_ENDING, _NAMED = "ending", "named"
_RESTORED, _THERE, _LOST, _ASIDE = "restored ", "there", "lost", "aside"


class StoreToRestore(msgspec.Struct):
    """A store, and the numbers of its copies, the newest first."""

    uuid: str
    name: str
    copies: list[int]


class RecoveryPlan(msgspec.Struct):
    """The plan of a recovery: the stores, and the name that the system had."""

    stores: list[StoreToRestore]
    name: str
    key_id: str
    give_up: bool = False


def recovery_plan(system: KnownSystem, *, give_up: bool = False) -> RecoveryPlan:
    """Return the plan to recover a system from all copies that were not put aside.

    If several stores have one name, the store with the latest copy comes first, because it had the name last.
    """
    found = sorted(by_store(system.copies).values(), key=lambda copies: (copies[0].name, -copies[0].received))
    stores = [StoreToRestore(each[0].uuid, each[0].name, [copy.number for copy in each]) for each in found]
    return RecoveryPlan(stores, system.name, system.row.trusted_key_id, give_up)


class RecoveryTools(NamedTuple):
    """The parts of the console that a recovery uses; `date` returns seconds since 1970.

    `settle` answers the questions of a system's partitions (R-54).
    """

    store: ConsoleStore
    date: Callable[[], float]
    guard: StoreGuard
    settle: Callable[[KnownSystem], Awaitable[None]]

    async def perform(self, run: JobRun) -> None:
        """Perform a recovery, from its last durable step on."""
        await SystemRecovery(run, self).perform()


class SystemRecovery:
    """One recovery of one system."""

    def __init__(self, run: JobRun, tools: RecoveryTools) -> None:
        self._run = run
        self._plan: RecoveryPlan = run.plan
        self._store = tools.store
        self._date = tools.date
        self._guard = tools.guard
        self._settle = tools.settle
        self._keys = KeyRing(run, tools.store)
        self._copies = {each.number: each for each in tools.store.copies(run.system.key)}

    def __repr__(self) -> str:
        return f"SystemRecovery({self._run.system.name!r}, {len(self._plan.stores)} stores)"

    async def perform(self) -> None:
        """Perform the recovery, from its last durable step on."""
        run = self._run
        # The end of the recovery counts as a step too.
        run.expect(len(self._plan.stores) + 1)
        view = await run.call(show_system())
        # The stored decision alone is not enough.  The stores may have been lost again after it, and then the
        # system is in Recovery.
        if not (_ENDING in run.steps and view.state == "Operating"):
            await self._enter(view)
            while missing := self._missing(await run.call(show_system())):
                for store in missing:
                    await self._restore(store)
            if kept := await self._keys.back(self._plan.key_id):
                run.job.lines.append(kept)  # stored with the next step
            await self._leave()
        await self._finish()

    # Into the state Recovery

    async def _enter(self, view: SystemView) -> None:
        if view.state == "Recovery":
            return
        # `begin_recovery` would refuse this system too, but only after its key was changed in vain.
        if view.state != "Operating" or view.partitions:
            if view.state != "Operating":
                raise OperatorError(rules.HMC_RECOVERY_EMPTY, not_operating(view.state), advised=True)
            partitions = counted(len(view.partitions), "partition")
            message = f"nothing to recover: {view.name} is in the state Operating, with {partitions}"
            raise OperatorError(rules.HMC_RECOVERY_EMPTY, message)
        await self._demand_key()
        try:
            await self._run.call(begin_recovery())
        except SwpksError as error:
            if error.rule is not console.RECOVERY_STATE:
                raise
            again = await self._run.call(show_system())
            if again.state != "Recovery":  # if it is in Recovery, an earlier order was performed
                raise

    async def _demand_key(self) -> None:
        """Raise OperatorError unless the system accepts the trusted system key of at least one copy."""
        keys = dict.fromkeys(each.trusted_key_id for each in self._candidates())
        if not keys:
            message = f"the console has no copies of {self._run.system.name}"
            raise OperatorError(rules.HMC_RECOVERY_COPIES, message)
        reasons = [await self._keys.use(key) for key in keys]
        if all(reasons):
            others = ", ".join(list(keys)[1:])
            further = f"; other copies need {others}" if others else ""
            raise OperatorError(rules.HMC_RECOVERY_COPIES, f"{reasons[0]}, then recover again{further}")

    def _candidates(self) -> list[CopyFacts]:
        numbers = (number for store in self._plan.stores for number in store.copies)
        return [self._copies[number] for number in numbers if number in self._copies]

    # The stores

    def _missing(self, view: SystemView) -> list[StoreToRestore]:
        """Return the stores that still have to be restored.

        They were not tried yet, or the system has lost them again.
        """
        there = {f"{_RESTORED}{name}" for name in view.restored}
        # A store with one of these results is done.  Only a restored store is compared with the present view.
        there |= {_THERE, _LOST, _ASIDE}
        done = {uuid for uuid, result in self._run.steps.items() if result in there}
        return [each for each in self._plan.stores if each.uuid not in done]

    async def _restore(self, store: StoreToRestore) -> None:
        """Restore a store from its newest copy that opens, and report the time of this copy.

        A store that has moved to another system is not restored.
        """
        system = self._run.system
        # The unfinished attempt is ended before the search for another owner.  The attempt may have moved the
        # store, and the bar shows that.
        unsettled = await self._guard.settle(system, store.uuid)
        if place := self._guard.elsewhere(system, store.uuid):
            self._run.finish(store.uuid, f"{store.name}: not restored: {place}", result=_ASIDE)
            return
        if unsettled:
            self._run.finish(store.uuid, f"{store.name}: not restored", f"  {unsettled}", result=_LOST)
            return
        reasons = list[str]()
        for number in store.copies:
            copy = self._copies.get(number)
            # The console has dropped this copy since it made the plan, because another system has sent a
            # newer copy.
            if copy is None:
                continue
            result, reason = await self._restore_from(copy)
            if result == _ASIDE:
                self._run.finish(
                    store.uuid, f"{store.name}: an older store, put aside: {reason}", result=_ASIDE
                )
                return
            if result != _LOST:
                name = result.removeprefix(_RESTORED) if result != _THERE else store.name
                self._run.finish(store.uuid, *self._restored(name, copy, reason, reasons), result=result)
                return
            reasons.append(f"the copy {origin_text(copy, self._date())}: {reason}")
        lines = [f"{store.name}: not restored", *(f"  {each}" for each in reasons)]
        self._run.finish(store.uuid, *lines, result=_LOST)

    def _restored(self, name: str, copy: CopyFacts, note: str, reasons: list[str]) -> list[str]:
        """Return the lines about a restored store."""
        lines = [f"{name}: {note or origin_text(copy, self._date())}"]
        if reasons:
            lines.append(f"{name}: this is older than the last known copy; skipped:")
            lines += [f"  {each}" for each in reasons]
        return lines

    async def _restore_from(self, copy: CopyFacts, *, again: bool = False) -> tuple[str, str]:
        """Order the restore of a copy; return the result of the step, and a note.

        The note says why the restore has failed, "" for none.
        """
        if refused := await self._keys.use(copy.trusted_key_id):
            return _LOST, refused
        try:
            view = await self._run.call(restore_copy(self._store.blob(copy.number), older=False))
        except SwpksError as error:
            if error.rule is rules.HMC_STORE_WRITTEN:
                raise
            # The system was replaced after its key was set, so the key is set again, but once only.  A system
            # that refuses each new key would otherwise get requests for ever.
            if error.rule in _OTHER_KEY and not again:
                self._keys.forget()
                return await self._restore_from(copy, again=True)
            # Another store has the name already.  The latest store of a name is restored first, so this one
            # is older, and is put aside.
            if error.rule is console.NAME_NEW:
                return _ASIDE, error.message
            if error.rule is copy_rules.COPY_BEHIND:
                note = f"is there already; the copy {origin_text(copy, self._date())} is older"
                return await self._there(copy.name), note
            return _LOST, error.message
        return f"{_RESTORED}{view.name}", ""

    async def _there(self, name: str) -> str:
        """Return the result of a step whose store is on the system already.

        If the view lists the name, the store counts as restored, and `_missing` notices if it is lost again.
        If the view does not list the name, the result is final.  Otherwise `_missing` would return this store
        for ever.
        """
        view = await self._run.call(show_system())
        return f"{_RESTORED}{name}" if name in view.restored else _THERE

    # Out of the state Recovery

    async def _leave(self) -> None:
        run = self._run
        if (await run.call(show_system())).name != self._plan.name:
            # The system stores the name with the end of the recovery.
            await self._rename()
        lost = self._with_result(_LOST)
        if lost and not self._plan.give_up:
            names = ", ".join(store.name for store in self._plan.stores if store.uuid in lost)
            message = f"{run.system.name} stays in Recovery: not restored: {names}; {self._accept_loss()}"
            raise OperatorError(rules.HMC_RECOVERY_COPIES, message)
        run.note(_ENDING)
        # The answers come before the end, because the end starts only partitions that the console agreed to.
        await self._settle(run.system)
        try:
            done = await run.call(end_recovery(give_up=self._plan.give_up))
        except SwpksError as error:
            if error.rule is console.RECOVERY_COMPLETE:
                message = f"{run.system.name} stays in Recovery: {error.message}; {self._accept_loss()}"
                raise OperatorError(rules.HMC_RECOVERY_COPIES, message) from None
            view = await run.call(show_system())
            if error.rule is not console.RECOVERY_STATE or view.state != "Operating":
                raise
            return
        if done.given_up:
            run.job.lines.append(f"given up: {', '.join(done.given_up)}")

    async def _finish(self) -> None:
        """Put the copies of stores aside that were not restored, and give the system its name back."""
        run, name = self._run, self._plan.name
        view = await run.call(show_system())
        # The copies are put aside only after the end.  If the system stays in Recovery, the next recovery
        # needs them.
        self._store.forget(run.system.key, self._with_result(_LOST, _ASIDE))
        lines = list[str]()
        if view.name != name:
            lines.append(await self._rename())
        restored = sum(result == _THERE or result.startswith(_RESTORED) for result in run.steps.values())
        run.finish(_NAMED, *lines, f"{name} is Operating, with {counted(restored, 'restored store')}")

    def _accept_loss(self) -> str:
        return to_accept_loss(self._run.system, self._store.folder)

    def _with_result(self, *results: str) -> list[str]:
        """Return the UUIDs of the stores whose step had one of these results."""
        return [store.uuid for store in self._plan.stores if self._run.steps.get(store.uuid) in results]

    async def _rename(self) -> str:
        """Give the system its name back; return the line about it."""
        system, name = self._run.system, self._plan.name
        try:
            await self._run.call(set_system(name))
        except SwpksError as error:
            if error.rule is rules.HMC_STORE_WRITTEN:
                raise
            return f"the name {name} could not be set back: {error.message}"
        system.store_facts(system.row._replace(name=name))
        return f"the name {name} is set back"
