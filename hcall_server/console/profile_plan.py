"""The plan of a profile restore, decided before its first step.  Pure (spec/console.md#profile-backups)."""

# rstprofdata puts the partitions of a system back to a profile backup.  The manual of the real console names
# four levels:
#
#   1  full restore: afterwards the system is as in the backup.  Partitions that the backup lacks are deleted.
#   2  merge, the backup wins: its partitions go back, the others stay.
#   3  merge, the present wins: only partitions that are missing come back.
#   4  initialize: all partitions are deleted.
#
# This must hold:
#
#   1. Each loss is printed before anything is done.  A restore loses objects in two cases: a store goes
#      behind its present (restores, generation), or a partition with objects is deleted.  Such a restore is
#      refused as a whole, unless --forcekeystore is given.  No step loses more than was announced: a step
#      without a printed loss may lose nothing.  If its partition has changed since the announcement, a step
#      is refused.
#   2. Contents go back, counters never.  The system ensures that.  So each restored store is newer than
#      before.
#   3. Two systems must never serve one store.  So a partition of another known system is skipped, and a line
#      says so.  A backup of another system is a second case: that system may serve the partitions, even if
#      this console does not know it.  So only partitions that are here already are restored from it.
#   4. If the plan touches a running partition, the whole restore is refused.  The refusal names the
#      partition.
#   5. All steps are done, or none, as far as checks can ensure that.  Before the first step, the stores must
#      fit into the system, and the system checks every copy.  If a step still fails, the restore ends, and
#      its last line lists the steps that were done.
#   6. The plan is durable before the first step, and contains the copies.  So after a kill, a restore goes on
#      as it was announced, even if the system has changed.
#
# The order of the steps: deletions, names, stores, new partitions, attributes.  Before them come the keys of
# all copies, and after them the earlier key.  Deletions come first, so that their names are free for the
# other partitions.  If two partitions have exchanged their names, they keep them, and a line says so.  To
# exchange the names again would need a third name for a moment.

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple

import msgspec

from hcall_abi.control_views import PartitionView, SystemView
from hcall_abi.counts import counted
from hcall_abi.errors import OperatorError
from hcall_abi.rules import console
from hcall_abi.rules import hmc as rules
from hcall_server.console.copies import time_text
from hcall_server.console.profile_format import ProfileBackup, SavedKey, SavedPartition

RestoreLevel = Literal[1, 2, 3, 4]
INITIALIZE = 4
"""The level that takes no backup."""
_RESULTS = {
    1: "has the partitions of the backup, and no others",
    2: "has the partitions of the backup; its others stayed",
    3: "has the missing partitions of the backup again; its others stayed",
    INITIALIZE: "has no partitions",
}
StepKind = Literal["delete", "rename", "restore", "create", "change"]


class RestoreStep(msgspec.Struct):
    """One step of a restore.

    `name` is the present name of the partition, or the future name of a new one.  `loss` says that the step
    loses objects, as announced.  `before` is the (restores, generation) of the store before the step.
    """

    kind: StepKind
    uuid: str
    name: str
    saved: SavedPartition | None = None
    loss: bool = False
    before: tuple[int, int] = (0, 0)


class RestorePlan(msgspec.Struct):
    """The plan of a profile restore.

    `lines` describe the whole plan.  `forced` has a line for each loss that needs --forcekeystore.  `running`
    names the partitions that have to be powered off first.  `skipped` names partitions in the backup that are
    left out.  If the stores do not fit into the system, `room` is the reason.
    """

    level: int
    steps: list[RestoreStep] = []
    keys: list[SavedKey] = []
    lines: list[str] = []
    forced: list[str] = []
    running: list[str] = []
    skipped: list[str] = []
    room: str = ""

    @property
    def result(self) -> str:
        """The text for the last line: the state of the system after the restore."""
        skipped = f"; skipped: {', '.join(self.skipped)}" if self.skipped else ""
        return f"{_RESULTS[self.level]}{skipped}"

    def demand(self, *, force: bool) -> None:
        """Raise OperatorError if the plan must not be carried out.

        The caller must call this before the first step.
        """
        if self.room:
            raise OperatorError(console.SIZE_TOTAL, self.room)
        if self.running:
            message = f"running: {', '.join(self.running)}; power off each of them first"
            raise OperatorError(rules.HMC_PROFILE_IDLE, message)
        if self.forced and not force:
            raise OperatorError(
                rules.HMC_PROFILE_FORCED, f"this would be lost: {'; '.join(self.forced)}; nothing was changed"
            )


class StorePlaces(NamedTuple):
    """Which system has the store of each partition.

    `own` has the ids of this system, present and former.  `elsewhere` has the partitions of other known
    systems: the UUID of a partition, and the name of its system.
    """

    own: Collection[str]
    elsewhere: Mapping[str, str]


def plan_restore(
    level: RestoreLevel,
    backup: ProfileBackup | None,
    view: SystemView,
    places: StorePlaces,
) -> RestorePlan:
    """Return the plan of a restore; `backup` is None for level 4 alone.

    OperatorError if the system is not Operating.
    """
    if view.state != "Operating":
        message = f"{view.name} is in the state {view.state}: use recover"
        raise OperatorError(rules.HMC_PROFILE_STATE, message, advised=True)
    plan = RestorePlan(level, keys=backup.keys if backup else [])
    present = {each.uuid: each for each in view.partitions}
    saved = {} if level == INITIALIZE or backup is None else _own(plan, backup, present, places)
    listed = {each.uuid for each in backup.partitions} if backup and level != INITIALIZE else set[str]()
    if level in (1, INITIALIZE):
        for each in view.partitions:
            # A partition that the restore skips stays on the system.
            if each.uuid not in listed:
                _delete(plan, each)
    if level in (1, 2):
        for uuid, old in saved.items():
            if uuid in present:
                _put_back(plan, old, present[uuid])
        _rename(plan, saved, present)
    _add_missing(plan, saved, present)
    _find_room(plan, present, view.total_kbytes)
    if not plan.steps:
        plan.lines.append("nothing is to do")
    return plan


def _own(
    plan: RestorePlan, backup: ProfileBackup, present: Collection[str], places: StorePlaces
) -> dict[str, SavedPartition]:
    """Return the partitions of a backup that this system may serve, by UUID.

    Each other partition gets a line that says why it is skipped.
    """
    origin = backup.system
    foreign = origin.system_id not in places.own
    own = dict[str, SavedPartition]()
    for each in backup.partitions:
        if each.uuid in places.elsewhere:
            reason = f"the system {places.elsewhere[each.uuid]} has this partition"
        elif foreign and each.uuid not in present:
            reason = f"it is one of the system {origin.name} ({origin.type_model_serial})"
        else:
            own[each.uuid] = each
            continue
        plan.lines.append(f"{each.name}: skipped: {reason}")
        plan.skipped.append(each.name)
    return own


_ORDER: Mapping[StepKind, int] = {"delete": 0, "rename": 1, "restore": 2, "create": 3, "change": 4}


def _find_room(plan: RestorePlan, present: Mapping[str, PartitionView], total: int) -> None:
    """Sort the steps, so that steps that free space come first.

    If the stores don't fit after the last step, set `room` to the reason.
    """
    growth = {step.uuid: _kbytes(step) - _present_kbytes(present, step.uuid) for step in plan.steps}
    plan.steps.sort(key=lambda step: (_ORDER[step.kind], growth[step.uuid]))
    needed = sum(each.keystore_kbytes for each in present.values())
    # A rename changes no size, so it is left out.  Its partition may have a second step, and its growth
    # counts once.
    needed += sum(growth[step.uuid] for step in plan.steps if step.kind != "rename")
    # A system may be too full already.  A restore is still permitted if no store grows.
    if needed > total and any(each > 0 for each in growth.values()):
        plan.room = f"all keystores would need {needed} KiB, and the system has {total} KiB"


def _kbytes(step: RestoreStep) -> int:
    """Return the size of the keystore after a step, in KiB."""
    if step.saved is None:
        return 0
    return step.saved.keystore_kbytes


def _present_kbytes(present: Mapping[str, PartitionView], uuid: str) -> int:
    return present[uuid].keystore_kbytes if uuid in present else 0


def _touch(plan: RestorePlan, partition: PartitionView) -> None:
    if partition.power == "running" and partition.name not in plan.running:
        plan.running.append(partition.name)


def _delete(plan: RestorePlan, partition: PartitionView) -> None:
    name = partition.name
    _touch(plan, partition)
    lost = len(plan.forced)
    if partition.keystore and partition.keystore.objects:
        loss = f"{name} would be deleted, with {counted(partition.keystore.objects, 'object')}"
        plan.forced.append(loss)
    elif partition.refused or (partition.keystore is None and partition.keystore_kbytes):
        loss = f"{name} would be deleted, with a store that could not be opened"
        plan.forced.append(loss)
    else:
        loss = f"{name} would be deleted; it has no objects"
    plan.lines.append(loss)
    forced = len(plan.forced) > lost
    plan.steps.append(RestoreStep("delete", partition.uuid, name, None, forced, rank_of(partition)))


def rank_of(partition: PartitionView) -> tuple[int, int]:
    """Return the rank of a present store: `restores` first, then `generation`."""
    return partition.restores, partition.generation


def _put_back(plan: RestorePlan, saved: SavedPartition, partition: PartitionView) -> None:
    """Plan to put an existing partition back to its backup."""
    if saved.copy is None:
        if not saved.keystore_kbytes and partition.keystore and partition.keystore.objects:
            plan.lines.append(f"{partition.name}: skipped: its keystore was off, and has objects now")
            plan.skipped.append(partition.name)
            return
        _touch(plan, partition)
        plan.steps.append(RestoreStep("change", saved.uuid, partition.name, saved))
        plan.lines.append(f"{partition.name}: attributes as in the backup; it had no copy of a store")
        return
    _touch(plan, partition)
    before = rank_of(partition)
    # A copy of a later rank loses nothing, so `<` is right here, and `!=` would be wrong.
    loss = saved.rank < before
    plan.steps.append(RestoreStep("restore", saved.uuid, partition.name, saved, loss, before))
    line = f"{partition.name}: back to {time_text(saved.time)}, generation {saved.generation}"
    if loss:
        line += f"; now restores {before[0]}, generation {before[1]}: later updates are lost"
        plan.forced.append(line)
    plan.lines.append(line)


def _rename(
    plan: RestorePlan, saved: Mapping[str, SavedPartition], present: Mapping[str, PartitionView]
) -> None:
    """Plan to rename partitions as in the backup.

    A partition gets its old name only if the name is free after the deletions.
    """
    deleted = {step.uuid for step in plan.steps if step.kind == "delete"}
    for uuid, old in saved.items():
        if uuid not in present or present[uuid].name == old.name:
            continue
        holder = next((each for each in present.values() if each.name == old.name), None)
        if holder is None or holder.uuid in deleted:
            plan.steps.append(RestoreStep("rename", uuid, present[uuid].name, old))
            plan.lines.append(f"{present[uuid].name}: is called {old.name} again")
        else:
            plan.lines.append(f"{present[uuid].name}: keeps its name: another partition is called {old.name}")


def _add_missing(
    plan: RestorePlan, saved: Mapping[str, SavedPartition], present: Mapping[str, PartitionView]
) -> None:
    """Plan to bring back partitions that do not exist now."""
    gone = {step.uuid for step in plan.steps if step.kind == "delete"}
    freed = {step.name for step in plan.steps if step.kind == "rename"}
    taken = {each.name for uuid, each in present.items() if uuid not in gone} - freed
    taken |= {step.saved.name for step in plan.steps if step.kind == "rename" and step.saved}
    for uuid, old in saved.items():
        if uuid in present:
            continue
        if old.name in taken:
            plan.lines.append(f"{old.name}: skipped: another partition has this name now")
            plan.skipped.append(old.name)
            continue
        taken.add(old.name)
        if old.copy is None:
            plan.steps.append(RestoreStep("create", uuid, old.name, old))
            plan.lines.append(f"{old.name}: is made anew, with another UUID: it had no copy of a store")
        else:
            plan.steps.append(RestoreStep("restore", uuid, old.name, old))
            moment = f"{time_text(old.time)}, generation {old.generation}"
            plan.lines.append(f"{old.name}: comes back from {moment}")
