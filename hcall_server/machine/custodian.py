"""The custodian of a machine: the only way in which custody of a partition changes (spec/migration.md).

The tables are those of `hcall_server.platform.custody`.  A start does not load this module, unless a record
needs it.
"""

# A step of custody
#
# The other system of a migration and the console rely on the reports of a system.  So this must hold:
#
#   1. A step is durable before another process learns of it.  This includes views: until a step is durable,
#      `facts` shows the state before the step.
#   2. A step that has begun is completed: a caller that is cancelled, or that stops waiting, changes nothing.
#   3. NVRAM that fails or hangs delays a step, and never cancels it: a commit that hangs may still take
#      effect.
#   4. A partition takes one step at a time.  The next word waits, and is checked against the state after it.
#   5. A crash between the commit and the effects is repaired by the restart alone.
#
# A step has four parts:
#
#   - The mark: `marked` changes memory and marks records dirty, in one turn of the loop.  So one commit has
#     all these records, and every earlier change of the store.
#   - The commit is awaited, without bound.
#   - The mode of the partition changes.  It may permit the partition to serve.
#   - The effects: sessions, sockets, power (`hcall_server.machine.steps`).
#
# Between mark and commit, memory has the new record and the old mode.  The power table refuses a partition
# if its record does not own it.  It also refuses a partition if its mode does not serve.  So a partition
# serves only if both the old and the new state permit that.
#
# A step runs as a task of the machine, not of the caller.  If the machine stops meanwhile, the step ends
# without its effects: the last flush makes it durable, and the next start does the rest.

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

import trio

from hcall_abi.errors import StorageError
from hcall_abi.rules import migration as rules
from hcall_server import failpoints
from hcall_server.machine import logs
from hcall_server.machine.steps import StepOrder, Steps
from hcall_server.platform import custody
from hcall_server.platform.custody import LEFT, Custody, Mode, Row, Standing, Word

if TYPE_CHECKING:
    from collections.abc import Callable

    from hcall_server.machine.steps import Host
    from hcall_server.platform.partition import Partition
    from hcall_server.sealing.traveller import Traveller

POINTS: dict[int, failpoints.SystemPoint] = {
    2: "begun", 4: "frozen", 5: "prepared", 6: "released", 7: "activated", 8: "gone", 11: "resumed",
    12: "fenced", 13: "dropped", 15: "released-off", 16: "taken", 18: "fenced", 19: "dropped",
}  # fmt: skip
"""The fail-point of each row of `custody.SYSTEM` that has one.  It is reached after the commit of the row."""
LATER_SECONDS = 0.02
"""Seconds after a step until the work that no client waits for.  A freeze of a live migration takes less."""
REPORTED_LATER = (4, 7)
"""The rows that are reported to the readers of events later.

The console answers each event by a request for a view.  That would delay the commit of FROZEN.  After
ARRIVED it would delay the first calls of the clients.  The where socket waits for PREPARED and RELEASED only.
"""
ASKS = frozenset({Mode.ASKING, Mode.IN_DOUBT})
"""The modes in which a system waits for an answer of its console."""


class CustodyFacts(NamedTuple):
    """The durable custody of a partition, as views show it.

    `generation` is that of the durable store.  `peer` is the id of the system at the other end, b"" for
    none.

    Three fields begin anew with each start.  `tried` is the last attempt that began here, 0 for none.
    `trouble` is the reason why that attempt ended at this system.  `row` is the table row of the last step, 0
    for none.
    """

    uuid: UUID
    name: str
    custody: Custody
    mode: Mode
    epoch: int
    generation: int
    peer: bytes
    tried: int = 0
    trouble: str = ""
    row: int = 0


class _Step:
    """A step under way.  Until it is durable, views show the facts in `shown`, or (None) no custody."""

    def __init__(self, shown: CustodyFacts | None) -> None:
        self.shown = shown
        self.durable = False
        self.ended = trio.Event()
        self.standing = Standing()


class Custodian:
    """Takes the steps of custody on a machine that runs."""

    def __init__(self, machine: Host) -> None:
        self._machine = machine
        self._system = machine.system
        self._steps = Steps(machine)
        self._under_way: dict[UUID, _Step] = {}
        self._changes: dict[UUID, trio.Event] = {}
        self._tried: dict[UUID, tuple[int, str]] = {}
        self._rows: dict[UUID, int] = {}
        self._log = logs.Log()

    def __repr__(self) -> str:
        return f"Custodian({self._system!r}, {len(self._under_way)} steps under way)"

    # States

    def standing(self, uuid: UUID) -> Standing:
        """Return the state of a partition in memory.  A step under way has already changed it."""
        partition = self._system.by_uuid(uuid)
        if partition is not None:
            profile = partition.profile
            return Standing(profile.custody, partition.mode, profile.epoch, profile.image_generation)
        departed = self._system.departed.get(uuid)
        return Standing(departed.custody, epoch=departed.epoch) if departed else Standing()

    def partition(self, uuid: UUID) -> Partition | None:
        """Return the partition with a UUID, None if this system has no store of it."""
        return self._system.by_uuid(uuid)

    def facts(self) -> list[CustodyFacts]:
        """Return the durable custody of each partition that tried to move, has left, or asks its console."""
        stored = {each.profile.uuid: each for each in self._system.places.values() if not each.refused}
        known = dict.fromkeys([*stored, *self._system.departed, *self._under_way])
        facts = [self._shown(uuid, stored.get(uuid)) for uuid in known]
        return [each for each in facts if each and _is_shown(each)]

    def facts_of(self, uuid: UUID) -> CustodyFacts | None:
        """Return the durable custody of a partition, None if this system has no custody of it."""
        return self._shown(uuid, self._system.by_uuid(uuid))

    def shown(self, partition: Partition) -> tuple[Custody, Mode]:
        """Return the durable custody of a partition of this system, and its mode."""
        facts = self._shown(partition.profile.uuid, partition)
        return (facts.custody, facts.mode) if facts else (Custody.NONE, Mode.SETTLED)

    def _shown(self, uuid: UUID, partition: Partition | None) -> CustodyFacts | None:
        step = self._under_way.get(uuid)
        return step.shown if step and not step.durable else self._present(uuid, partition)

    def _present(self, uuid: UUID, partition: Partition | None) -> CustodyFacts | None:
        tried = *self._tried.get(uuid, (0, "")), self._rows.get(uuid, 0)
        if partition is not None:
            profile, keystore = partition.profile, partition.keystore
            generation = keystore.contents.flushed if keystore else profile.image_generation
            now = profile.custody, partition.mode, profile.epoch, generation, profile.peer
            return CustodyFacts(uuid, profile.name, *now, *tried)
        departed = self._system.departed.get(uuid)
        if departed is None:
            return None
        now = departed.custody, Mode.SETTLED, departed.epoch, 0, departed.peer
        return CustodyFacts(uuid, departed.name, *now, *tried)

    async def changed(self, uuid: UUID) -> None:
        """Wait until a step changes the standing of a partition."""
        await self._changes.setdefault(uuid, trio.Event()).wait()

    # Travellers

    def traveller_of(self, partition: Partition) -> Traveller:
        """Return the data of a partition that move to the target.

        They are its record and, if it runs with a keystore, the state that an IPL would end.
        """
        from hcall_server.sealing import PartitionRecord
        from hcall_server.sealing.traveller import Traveller

        keystore = partition.keystore
        profile = partition.profile.at_home._replace(ipl_count=partition.ipl_count)
        image = keystore.contents.snapshot() if keystore else None
        used = keystore.used_state() if keystore and partition.running else None
        return Traveller(PartitionRecord(profile, image), used, partition.secure_boot)

    # Steps

    async def take(
        self,
        uuid: UUID,
        on: Word,
        epoch: int,
        *,
        generation: int = 0,
        peer: bytes = b"",
        traveller: Traveller | None = None,
        on_mark: Callable[[], None] = lambda: None,
    ) -> Standing | None:
        """Take the step that follows from a word; return the new standing.  None if the word has no effect.

        PREPARED and FINAL need `generation`.  FINAL and COPY need `traveller`.  Each word that names
        another system needs `peer`.  `on_mark` is called once memory has the new record, before the commit.
        It must not raise.

        The function returns when the step is durable and its effects are made.  It waits for NVRAM without
        a bound.  If the caller is cancelled, the step goes on.

        OperatorError if the table permits the step, but another rule refuses it, such as a taken name.
        """
        await self.settled(uuid)
        row = custody.step(self.standing(uuid), on, epoch, generation)
        partition = self._system.by_uuid(uuid)
        if row is None or (partition is not None and partition.refused):
            return None
        shown = self._present(uuid, partition)
        order = StepOrder(uuid, epoch, generation, peer, traveller)
        marked = self._steps.marked(row, partition, order)
        step = self._under_way[uuid] = _Step(shown)
        self._machine.run_beside(partial(self._completed, step, row, marked, order))
        on_mark()
        await step.ended.wait()
        if not step.durable:
            raise StorageError(
                rules.CUSTODY_STORED, f"the system stops, and the custody of {uuid} is not stored"
            )
        return step.standing

    async def settled(self, uuid: UUID) -> None:
        """Return when no step of a partition is under way.  If none is, return without a checkpoint."""
        # When a step ends, another waiting caller may run first and begin the next step.  So check again.
        while step := self._under_way.get(uuid):
            await step.ended.wait()

    def deleted(self, partition: Partition) -> None:
        """Record the last attempt of a deleted partition, in the commit of the deletion."""
        self._steps.deleted(partition)

    def failed(self, uuid: UUID, trouble: str) -> None:
        """Store why the last migration attempt of a partition ended at this system; "" clears the reason.

        The views of the partition show the reason.
        """
        self._tried[uuid] = self._tried.get(uuid, (0, ""))[0], trouble
        self._report_change(self._system.by_uuid(uuid))

    async def _completed(self, step: _Step, row: Row, partition: Partition | None, order: StepOrder) -> None:
        """Complete a step whose records are marked."""
        try:
            if row.to is not None:
                await self._machine.encryptor.stored()
            if row.number in POINTS:
                failpoints.reached(POINTS[row.number])
            self._durable(step, row, partition, order)
        finally:
            # The machine may stop during the wait.  Then `durable` is still false, and `take` raises.
            self._under_way.pop(order.uuid, None)
            step.ended.set()

    def _durable(self, step: _Step, row: Row, partition: Partition | None, order: StepOrder) -> None:
        """Make the effects of a durable step, and report it."""
        step.durable = True
        self._rows[order.uuid] = row.number
        if row.on is Word.BEGIN:
            self._tried[order.uuid] = order.epoch, ""
        if partition is not None and not partition.gone:
            partition.mode = row.then
        self._steps.perform(row, partition, order)
        step.standing = self.standing(order.uuid)
        self._log.info(
            "custody.step",
            partition=facts.name if (facts := self.facts_of(order.uuid)) else "",
            uuid=str(order.uuid),
            row=row.number,
            word=row.on.value,
            epoch=order.epoch,
            custody=step.standing.custody.name.lower(),
            mode=step.standing.mode.value,
        )
        if row.number not in REPORTED_LATER:
            self._report_change(partition)
        if row.number in REPORTED_LATER or row.to is Custody.RELEASED:
            self._machine.run_beside(partial(self._do_later, row, partition))
        self._changes.pop(order.uuid, trio.Event()).set()

    async def _do_later(self, row: Row, partition: Partition | None) -> None:
        """Do the work that can wait after a step: remove a key file, or report the step.

        No client and no other system waits for this.
        """
        await trio.sleep(LATER_SECONDS)
        if partition is not None:
            self._steps.tidy(row, partition)
        if row.number in REPORTED_LATER:
            self._report_change(partition)

    def _report_change(self, partition: Partition | None) -> None:
        self._machine.notify_watchers(partition if partition and not partition.gone else None)
        self._machine.attachment.look()


def _is_shown(facts: CustodyFacts) -> bool:
    """Whether views show a custody.  They omit a partition that never took part in an attempt."""
    return facts.epoch > 0 or facts.custody in LEFT or facts.mode in ASKS or facts.tried > 0
