"""Profile backups: makes a backup, and performs the job `restore-profiles`, which restores it (R-46).

`profile_plan` begins with the guarantees of a restore.
"""

# A step is performed with the view of now, and with the loss that was announced.  Between the plan and a step
# the system may have changed, restarted, or performed the step already without an answer.  So each step looks
# first:
#
#   delete    A partition that is gone was deleted.  With `loss` its rank must be the announced one; without
#             `loss` the system refuses to destroy objects.
#   rename    The present name shows whether it was done.
#   restore   With `loss`, the system can't know an old order from a repeated one.  So the count of restores
#             is noted before the order, and another count shows that it was done.  Without `loss` the system
#             refuses a copy that is behind (`copy.behind`).
#   create    A partition of this name was made by the lost order.
#   change    May be repeated: it sets attributes.
#
# A partition that runs by now delays its step and does not end the job: the plan was announced, and half of
# it may be done.  The job names the partition, and goes on when it is powered off.

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
        demand_own_copies(saved)  # refused if the system was replaced meanwhile
        return saved

    async def _saved(self, system: KnownSystem, partition: PartitionView) -> SavedPartition:
        """Return a partition with its copy; without one if the system has no trusted system key."""
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
        # A repeated deletion finds nothing to do, even if the first one is not durable yet.  So this verb
        # follows, which the system answers only when all changes are durable.
        await run.call(set_system((await self._operating()).name))
        run.finish("end", *filter(None, [kept]), f"{run.system.name} {self._plan.result}")

    async def _prepare(self) -> None:
        """Check that the system opens every copy and can restore it, before anything is changed."""
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
        """Have the system check each copy under a key, without restoring it."""
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
        """Set the earlier key again; return a step's error with lists of the finished and open steps."""
        if error.rule is rules.HMC_STORE_WRITTEN:
            return error  # the job will repeat this step
        kept = await self._key_back()
        done = [_described(step) for step in self._plan.steps if _name(step) in self._run.steps]
        rest = [_described(step) for step in self._plan.steps if _name(step) not in self._run.steps]
        message = f"{error.message}{kept}; done: {', '.join(done) or 'nothing'}; not done: {', '.join(rest)}"
        return OperatorError(error.rule, message, advised=error.advised)

    async def _key_back(self) -> str:
        """Set the earlier key again after a failure; if that fails, return a remark for the message."""
        try:
            kept = await self._keys.back("")
        except SwpksError as error:
            if error.rule is rules.HMC_STORE_WRITTEN:
                raise
            kept = error.message
        return kept and f"; {kept}"

    async def _attempt(self, step: RestoreStep) -> str:
        """Perform a step; the error about a running partition says to power it off."""
        try:
            return await self._do(step)
        except SwpksError as error:
            if error.rule not in _RUNS:
                raise
            message = f"{step.name}: {error.message}; power it off, and the restore goes on"
            raise OperatorError(error.rule, message, advised=True) from None

    async def _do(self, step: RestoreStep) -> str:
        """Perform a step that may have been done before; return the line about it.

        It reads the system first, because the answer to an earlier attempt may have been lost.
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
        """Return the system; OperatorError if it has lost its data: a recovery has to come first."""
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
        """Restore a store, unless its count of restores shows that this was done before a kill."""
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
        if saved.name not in {each.name for each in view.partitions}:  # otherwise a first answer was lost
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
    """Raise OperatorError if more would be lost than was announced."""
    if step.loss and rank_of(partition) != step.before:
        raise _changed(
            partition.name, f"now restores {partition.restores}, generation {partition.generation}"
        )


@contextmanager
def _changed_since(name: str) -> Iterator[None]:
    """Return a block for a request that must not lose more objects than was announced.

    If the system refuses the request because objects would be lost, the block raises another error: the
    partition has changed since the restore was announced.
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
    """Return the attributes to set, without the one-shot latch, which is never set back."""
    return {name: number for name, number in saved.attributes.items() if name != _LATCH}
