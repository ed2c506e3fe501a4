"""The custodian of a machine: the only way in which custody of a partition changes (spec/migration.md).

The tables are those of `hcall_server.platform.custody`.  A start does not load this module, unless a record
needs it.
"""

# A step of custody
#
# The other end of a migration, and the console, rely on the words of a system.  So this must hold:
#
#   1. The step of a word is durable before another process hears of it.  A view is a word as well: until a
#      step is durable, `facts` shows the state before it.
#   2. A step that has begun is completed: a caller that is cancelled, or that stops waiting, changes nothing.
#   3. NVRAM that fails or hangs delays a step, and never cancels it: a commit that hangs may still take
#      effect.
#   4. A partition takes one step at a time.  The next word waits, and is checked against the state after it.
#   5. A crash between the commit and the effects is repaired by the restart alone.
#
# A step has four parts.  `marked` changes memory and marks records dirty, in one turn of the loop: so one
# commit has all of them, and it has every change of the store that was made before.  Then the commit is
# awaited, without bound.  Then the mode changes, which lets the partition serve.  Then come the effects:
# sessions, sockets, power (`hcall_server.machine.steps`).
#
# Between the mark and the commit the record in memory is the new one, and the mode the old one.  The power
# table refuses both a record that does not own and a mode that does not serve.  So in this gap a partition
# neither begins to serve too early nor goes on too long.
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
"""Seconds by which work without a waiting client is put off: a freeze of a live migration takes less."""
REPORTED_LATER = (4, 7)
"""The rows that are reported to the readers of events later.

The console answers each event by a request for a view.  That would hold up the commit of FROZEN, and behind
ARRIVED the first calls of the clients.  The where socket needs neither: it waits for PREPARED and RELEASED.
"""
ASKS = frozenset({Mode.ASKING, Mode.IN_DOUBT})
"""The modes in which a system waits for an answer of its console."""


class CustodyFacts(NamedTuple):
    """The durable custody of a partition, as views show it; `generation` is that of its durable store.

    `peer` is the id of the system at the other end, b"" for none.  `tried` is the last attempt that began
    here since the start, 0 for none.  `trouble` is the reason why that attempt ended here.  `row` is the
    table row of the last step since the start, 0 for none.
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
    """A step under way; `shown` are the facts that views show until it is durable, None for none."""

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
        """Return the state of a partition in memory, where a step under way has already changed it."""
        partition = self._system.by_uuid(uuid)
        if partition is not None:
            profile = partition.profile
            return Standing(profile.custody, partition.mode, profile.epoch, profile.image_generation)
        departed = self._system.departed.get(uuid)
        return Standing(departed.custody, epoch=departed.epoch) if departed else Standing()

    def partition(self, uuid: UUID) -> Partition | None:
        """Return the partition of a UUID, None if there is no store of it here."""
        return self._system.by_uuid(uuid)

    def facts(self) -> list[CustodyFacts]:
        """Return the durable custody of each partition that tried to move, has left, or asks its console."""
        stored = {each.profile.uuid: each for each in self._system.places.values() if not each.refused}
        known = dict.fromkeys([*stored, *self._system.departed, *self._under_way])
        facts = [self._shown(uuid, stored.get(uuid)) for uuid in known]
        return [each for each in facts if each and _is_shown(each)]

    def facts_of(self, uuid: UUID) -> CustodyFacts | None:
        """Return the durable custody of a partition, None if it has none here."""
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
        """Take the step of a word; return the new standing, None if the word has no effect here.

        `generation` belongs to PREPARED and FINAL, `peer` to each word that names another system, and
        `traveller` to FINAL and COPY.  `on_mark` is called when memory has the new record, and its commit
        begins; it must not raise.

        `take` returns when the step is durable and its effects are made.  It waits for NVRAM without a bound.
        A cancelled caller stops waiting; the step goes on.

        OperatorError if the step is refused for another reason than the table, such as a taken name.
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
        """Return when no step of a partition is under way; at once, without a checkpoint, if none is."""
        # A loop: another caller that waited for the same step may have begun the next one.
        while step := self._under_way.get(uuid):
            await step.ended.wait()

    def deleted(self, partition: Partition) -> None:
        """Record the last attempt of a partition that an operator deletes, in the commit of the deletion."""
        self._steps.deleted(partition)

    def failed(self, uuid: UUID, trouble: str) -> None:
        """Note the reason why the last attempt of a partition ended here; views show it."""
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
            # This runs even if the machine stops during the wait.  Then `take` raises, because `durable` is
            # still false.
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
        """Do the rest of a step.  No client and no other system waits for this."""
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
