"""Profile backups: makes a backup, and performs the job `restore-profiles`, which restores it (R-46).

`profile_plan` begins with the guarantees of a restore.
"""

# Between the plan and a step, the system may have changed or restarted.  It may even have performed the step
# already, if only its answer was lost.  But no step may lose more than was announced.  So each step requests
# the present view first:
#
#   delete    If the partition is gone, the step is done.  With `loss`, the rank of the partition must be the
#             announced one.  Without `loss`, the system refuses to destroy objects.
#   rename    The present name shows whether the step is done.
#   restore   With `loss`, the system can't distinguish a repeated order from a new one.  So the job stores
#             the count of restores before the order.  A changed count shows that the step is done.  Without
#             `loss`, the system refuses a copy that is behind its store (`copy.behind`).
#   create    If a partition of this name exists, an earlier order has made it.
#   change    The step sets attributes, so it may be repeated.
#
# If a partition runs by now, its step waits, and the job does not end: the plan was announced, and half of it
# may be done.  The job names the partition, and goes on when the partition is powered off.

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from hcall_abi.control_views import PartitionView, SystemView
from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.requests import (
    change_partition,
    create_partition,
    delete_partition,
    restore_copy,
    set_system,
    show_system,
)
from hcall_abi.rules import backup as copy_rules
from hcall_abi.rules import console
from hcall_abi.rules import hmc as rules
from hcall_server.console.jobs import JobRun
from hcall_server.console.keys import KeyRing
from hcall_server.console.profile_format import (
    ProfileBackup,
    SavedKey,
    SavedPartition,
    demand_own_copies,
    saved_partition,
    saved_system,
)
from hcall_server.console.profile_plan import RestorePlan, RestoreStep, rank_of
from hcall_server.console.store import ConsoleStore
from hcall_server.console.systems import KnownSystem
from hcall_server.console.taking import Taker

_LATCH = "keystore_signed_updates_without_verification"
_PREPARED = "prepared"
_RUNS = (
    copy_rules.COPY_IDLE,
    copy_rules.TRUSTED_KEY_IDLE,
    console.PARTITION_OFF,
    console.SIZE_RUNNING,
    console.ATTRIBUTE_RUNNING,
)
"""Rules that refuse a step while a partition runs: the step waits, because its plan was announced."""


class ProfileTools(NamedTuple):
    """The parts of the console that profiles use; `date` returns seconds since 1970."""

    store: ConsoleStore
    taker: Taker
    date: Callable[[], float]

    async def save(self, system: KnownSystem) -> ProfileBackup:
        """Return a profile backup of a system as it is now; its copies are stored on the console too."""
        view = await system.call(show_system())
        if view.state != "Operating":
            message = f"{view.name} is in the state {view.state}: its profiles can't be saved"
            raise OperatorError(rules.HMC_PROFILE_STATE, message)
        saved = ProfileBackup(int(self.date()), saved_system(view), [], [])
        for partition in view.partitions:
            saved.partitions.append(await self._saved(system, partition))
        for key_id in dict.fromkeys(each.key_id for each in saved.partitions):
            sealed = self.store.trusted_key(system.key, key_id)
            if sealed is not None:
                saved.keys.append(SavedKey(key_id, sealed))
        # The copies came one after another.  If the system was replaced meanwhile, some belong to the new
        # one, and this check refuses the backup.
        demand_own_copies(saved)
        return saved

    async def _saved(self, system: KnownSystem, partition: PartitionView) -> SavedPartition:
        """Return a partition with its copy.

        The copy is left out if the system has no trusted system key.
        """
        saved = saved_partition(partition)
        try:
            taken = await self.taker.fetch(system, partition.name)
        except SwpksError as error:
            if error.rule is not copy_rules.TRUSTED_KEY_SET:
                raise
            return saved
        facts = taken.facts
        saved.copy, saved.key_id, saved.time = taken.blob, facts.trusted_key_id, facts.time
        saved.restores, saved.generation = facts.rank
        return saved

    async def perform(self, run: JobRun) -> None:
        """Perform a restore, from its last durable step on."""
        await ProfileRestore(run, self.store).perform()


class ProfileRestore:
    """One restore of the profiles of one system; its plan is durable."""

    def __init__(self, run: JobRun, store: ConsoleStore) -> None:
        self._run = run
        self._plan: RestorePlan = run.plan
        self._store = store
        self._keys = KeyRing(run, store)

    def __repr__(self) -> str:
        return f"ProfileRestore({self._run.system.name!r}, {len(self._plan.steps)} steps)"

    async def perform(self) -> None:
        """Perform the restore, from its last durable step on."""
        run = self._run
        run.expect(len(self._plan.steps) + 1)
        if _PREPARED not in run.steps:
            await self._prepare()
        for step in self._plan.steps:
            if _name(step) not in run.steps:
                try:
                    run.finish(_name(step), await run.persist(partial(self._attempt, step), *_RUNS))
                except SwpksError as error:
                    raise await self._half_way(error) from None
        kept = await self._keys.back("")
        # A deletion may not be durable yet.  If it was repeated, the repetition found nothing to do, and did
        # not wait for NVRAM.  The system answers this last request only when all changes are durable.
        await run.call(set_system((await self._operating()).name))
        run.finish("end", *filter(None, [kept]), f"{run.system.name} {self._plan.result}")

    async def _prepare(self) -> None:
        """Check that the system can restore every copy.

        Nothing is restored yet.  Only the trusted system key of the system may change.
        """
        for key in self._plan.keys:
            if self._store.trusted_key(self._run.system.key, key.id) is None:
                self._store.keep_trusted_key(self._run.system.key, key.id, key.sealed)
        try:
            present = {each.uuid for each in (await self._operating()).partitions}
            for key_id in dict.fromkeys(step.saved.key_id for step in self._plan.steps if step.saved):
                await self._check_copies(key_id, present)
        except SwpksError as error:
            if error.rule is rules.HMC_STORE_WRITTEN:
                raise
            kept = await self._key_back()
            message = f"{error.message}{kept}; nothing was changed"
            raise OperatorError(error.rule, message, advised=error.advised) from None
        self._run.note(_PREPARED)

    async def _check_copies(self, key_id: str, present: set[str]) -> None:
        """Have the system check each copy of one key; no copy is restored."""
        if refused := await self._keys.use(key_id) if key_id else "":
            raise OperatorError(copy_rules.COPY_KEY, refused)
        for step in self._plan.steps:
            if step.kind != "restore" or step.saved is None or step.saved.key_id != key_id:
                continue
            if step.saved.copy is not None:
                with _changed_since(step.name):
                    view = await self._run.call(restore_copy(step.saved.copy, older=step.loss, check=True))
                if step.uuid not in present:
                    _demand_name(step, view)

    async def _half_way(self, error: SwpksError) -> SwpksError:
        """Return the error of a step, with lists of the steps that are done and not done.

        The earlier key is set again first.
        """
        if error.rule is rules.HMC_STORE_WRITTEN:
            return error  # the job repeats this step
        kept = await self._key_back()
        done = [_described(step) for step in self._plan.steps if _name(step) in self._run.steps]
        rest = [_described(step) for step in self._plan.steps if _name(step) not in self._run.steps]
        message = f"{error.message}{kept}; done: {', '.join(done) or 'nothing'}; not done: {', '.join(rest)}"
        return OperatorError(error.rule, message, advised=error.advised)

    async def _key_back(self) -> str:
        """Set the earlier key again after a failure.

        If that fails, return a remark for the message, else "".
        """
        try:
            kept = await self._keys.back("")
        except SwpksError as error:
            if error.rule is rules.HMC_STORE_WRITTEN:
                raise
            kept = error.message
        return kept and f"; {kept}"

    async def _attempt(self, step: RestoreStep) -> str:
        """Perform a step.

        If the partition runs, the error asks the operator to power it off.
        """
        try:
            return await self._do(step)
        except SwpksError as error:
            if error.rule not in _RUNS:
                raise
            message = f"{step.name}: {error.message}; power it off, and the restore goes on"
            raise OperatorError(error.rule, message, advised=True) from None

    async def _do(self, step: RestoreStep) -> str:
        """Perform a step; return the line about it for the operator.

        The system may have done this step before, but the console did not get the answer.  So the console
        reads the present view of the partition first.
        """
        partition, saved = await self._find(step.uuid), step.saved
        if step.kind == "delete":
            return await self._delete(step, partition)
        if saved is None:
            return f"{step.name}: nothing to do"
        if step.kind == "rename":
            return await self._rename(saved.name, partition)
        if step.kind == "restore":
            return await self._restore(step, saved, partition)
        if step.kind == "create":
            return await self._create(saved)
        return await self._change(saved, partition)

    async def _find(self, uuid: str) -> PartitionView | None:
        view = await self._operating()
        return next((each for each in view.partitions if each.uuid == uuid), None)

    async def _operating(self) -> SystemView:
        """Return the view of the system; OperatorError if the system has lost its data.

        Such a system has to be recovered first.
        """
        view = await self._run.call(show_system())
        if view.state != "Operating":
            message = f"{view.name} is in the state {view.state}: recover it, then restore the profiles again"
            raise OperatorError(rules.HMC_PROFILE_STATE, message)
        return view

    async def _delete(self, step: RestoreStep, partition: PartitionView | None) -> str:
        if partition is not None:
            _demand_as_announced(step, partition)
            with _changed_since(partition.name):
                await self._run.system.call(delete_partition(partition.name, destroy=step.loss))
        return f"{step.name}: deleted"

    async def _rename(self, name: str, partition: PartitionView | None) -> str:
        if partition is not None and partition.name != name:
            await self._run.system.call(change_partition(partition.name, new_name=name))
        return f"{name}: has its name again"

    async def _restore(
        self, step: RestoreStep, saved: SavedPartition, partition: PartitionView | None
    ) -> str:
        """Restore a store, unless that was done already.

        After a kill or a lost answer, a changed count of restores shows that it was done.
        """
        if saved.copy is None:
            return f"{step.name}: has no copy"
        begun = f"begun {step.uuid}"
        if begun in self._run.steps and partition and str(partition.restores) != self._run.steps[begun]:
            return f"{partition.name}: restored"
        if partition is not None:
            _demand_as_announced(step, partition)
        if begun not in self._run.steps:
            self._run.note(begun, str(partition.restores) if partition else "")
        if refused := await self._keys.use(saved.key_id, raises=True):
            raise OperatorError(copy_rules.COPY_KEY, refused)
        self._store.remember(self._run.system.key, step.uuid)
        with _changed_since(step.name):
            view = await self._run.system.call(restore_copy(saved.copy, older=step.loss))
        return f"{view.name}: restored"

    async def _create(self, saved: SavedPartition) -> str:
        view = await self._operating()
        taken = {each.number for each in view.partitions}
        # If the partition exists, an earlier order has made it, and its answer was lost.
        if saved.name not in {each.name for each in view.partitions}:
            made = create_partition(
                saved.name,
                auto_start=saved.auto_start,
                number=None if saved.number in taken else saved.number,
                attributes=_without_latch(saved),
            )
            await self._run.system.call(made)
        return f"{saved.name}: made anew"

    async def _change(self, saved: SavedPartition, partition: PartitionView | None) -> str:
        if partition is None:
            return f"{saved.name}: is gone meanwhile"
        await self._run.system.call(
            change_partition(partition.name, auto_start=saved.auto_start, attributes=_without_latch(saved))
        )
        return f"{partition.name}: has its attributes again"


def _name(step: RestoreStep) -> str:
    """Return the name of a step in the job."""
    return f"{step.kind} {step.uuid}"


def _described(step: RestoreStep) -> str:
    return f"{step.kind} {step.name}"


def _demand_name(step: RestoreStep, view: PartitionView) -> None:
    """Raise OperatorError if a partition would come back under a name that was not announced."""
    if view.name != step.name:
        message = f"the copy of {step.name} is one of {view.name}, which the profile backup does not say"
        raise OperatorError(rules.HMC_PROFILE_FILE, message)


def _demand_as_announced(step: RestoreStep, partition: PartitionView) -> None:
    """Raise OperatorError if the step would lose more than was announced."""
    if step.loss and rank_of(partition) != step.before:
        raise _changed(
            partition.name, f"now restores {partition.restores}, generation {partition.generation}"
        )


@contextmanager
def _changed_since(name: str) -> Iterator[None]:
    """Return a block for a request that must not lose more objects than was announced.

    The system may refuse the request because objects would be lost.  The block then raises another error: the
    partition has changed since the announcement.
    """
    try:
        yield
    except SwpksError as error:
        if error.rule not in (copy_rules.COPY_BEHIND, console.PARTITION_EMPTY):
            raise
        raise _changed(name, error.message) from None


def _changed(name: str, how: str) -> OperatorError:
    message = f"{name} has changed since this restore was announced ({how}); begin it again"
    return OperatorError(rules.HMC_PROFILE_FORCED, message)


def _without_latch(saved: SavedPartition) -> dict[str, int]:
    """Return the attributes to set.

    The one-shot latch is left out, because a restore never sets it back.
    """
    return {name: number for name, number in saved.attributes.items() if name != _LATCH}
