"""The changes that a step of custody makes: records before its commit; sessions, sockets and power after.

`hcall_server.machine.custodian` decides when they are called.  None of them waits, except in a task.
"""

# Marks and effects
#
# A mark changes memory before the commit.  If it refuses its step, it has changed nothing.  An effect follows
# the commit.  It can fail: a socket can't be made, or a file can't be removed.  Such a failure is logged, and
# the next start repairs it.  A failed activation is tried again: without it no system serves the partition.
#
# The file of an access key follows the owner.  A start writes it for each partition that is served here, and
# removes it for each that has been released or has left.  So a kill between commit and effect leaves no file
# behind that a later state Recovery would take for a lost store.
#
# A partition that comes back keeps its `Departed` until this system owns it.  The arriving copy may be
# dropped again.  Then a start whose settings name the partition must not make a new one.

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from uuid import UUID

import trio

from hcall_abi.bounds import MAX_BARRED
from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.rules import migration as rules
from hcall_server.machine import logs
from hcall_server.platform.custody import LEFT, Custody, Guard, Mode, Row, Word
from hcall_server.platform.departed import Departed
from hcall_server.platform.system_state import SystemState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hcall_server.machine.attachment import Attachment
    from hcall_server.machine.holds import Holds
    from hcall_server.machine.reach import Reach
    from hcall_server.machine.starts import Starts
    from hcall_server.platform.partition import Partition
    from hcall_server.platform.system import ManagedSystem
    from hcall_server.sealing.traveller import Traveller
    from hcall_server.writeback.encryptor import Encryptor

FIRST_PAUSE = 0.1
"""The pause before a failed activation is tried again; each further one is twice as long."""
LONGEST_PAUSE = 5.0
"""The longest of these pauses."""


class StepOrder(NamedTuple):
    """The contents of a word about a partition, as the other end or the console sent it."""

    uuid: UUID
    epoch: int
    generation: int
    peer: bytes
    traveller: Traveller | None

    def __repr__(self) -> str:
        return f"StepOrder({self.uuid}, epoch {self.epoch})"


class Host(Protocol):
    """The parts of a machine that custody needs; an import of `Machine` would close a circle."""

    system: ManagedSystem
    encryptor: Encryptor
    holds: Holds
    starts: Starts

    @property
    def transport(self) -> Reach:
        """How partitions are reached."""

    @property
    def attachment(self) -> Attachment:
        """The attached console."""

    def forget(self, partition: Partition) -> None:
        """Drop all data that are kept under a partition's number."""

    def arrive(self, partition: Partition, traveller: Traveller) -> None:
        """Activate a partition in the state that it had on another system."""

    def power_on(self, name: str) -> Partition:
        """Activate a partition."""

    def run_beside(self, work: Callable[[], Awaitable[object]]) -> None:
        """Run a task beside the connections."""

    def notify_watchers(self, partition: Partition | None = None) -> None:
        """Report a change to the readers of events."""


class Steps:
    """Carries out the rows of `custody.SYSTEM`: the changes in memory, and the effects after the commit."""

    def __init__(self, machine: Host) -> None:
        self._machine = machine
        self._system = machine.system
        self._travellers: dict[UUID, Traveller] = {}
        """The partitions that are PREPARED here, as they came, until they serve."""
        self._noted = False
        self._log = logs.Log()

    def __repr__(self) -> str:
        return f"Steps({len(self._travellers)} travellers)"

    # Before the commit

    def marked(self, row: Row, partition: Partition | None, order: StepOrder) -> Partition | None:
        """Make the changes of a row in memory, and mark the changed records dirty for the next commit.

        Return the partition after the change, None if this system has none.

        OperatorError if the step is refused; a refused step changes nothing.
        """
        self._demand_power(row, partition)
        if row.to is None:
            return partition
        if row.to in LEFT:
            self._demand_known(partition, order)
            self._leave(row.to, partition, order)
        elif order.traveller is not None and row.on in (Word.FINAL, Word.COPY):
            partition = self._adopted(row.to, partition, order, order.traveller)
        else:
            partition = self._changed(row, partition, order)
        if row.to is Custody.ARRIVED and order.uuid in self._system.departed:
            del self._system.departed[order.uuid]
            self._machine.encryptor.departed_changed(self._system)
        self._note_moves()
        return partition

    def _note_moves(self) -> None:
        """Mark the system record dirty at the first step: the record says that partitions have moved."""
        if not self._noted:
            self._roster_changed()
            self._noted = self._system.state is SystemState.OPERATING

    def _demand_power(self, row: Row, partition: Partition | None) -> None:
        """OperatorError if the power state of the partition does not fit the step."""
        if partition is None:
            return
        if row.on in (Word.BEGIN, Word.AGREED) and not partition.running:
            raise OperatorError(rules.MIGRATION_POWER, f"{partition.name} is powered off")
        if row.on not in (Word.RELEASE, Word.COPY):
            return
        if partition.running:
            raise OperatorError(rules.MIGRATION_POWER, f"{partition.name} is running")
        if self._machine.starts.ipls.waits(partition):
            raise OperatorError(rules.MIGRATION_POWER, f"{partition.name} is about to start")

    def _demand_known(self, partition: Partition | None, order: StepOrder) -> None:
        """OperatorError if the step bars an unknown partition, and the largest number is barred already."""
        # The console may bar any UUID.  All departed partitions share one NVRAM record, so their number
        # needs a bound.
        departed = self._system.departed
        if partition is not None or order.uuid in departed:
            return
        if sum(not each.name for each in departed.values()) >= MAX_BARRED:
            message = f"{MAX_BARRED} unknown partitions were barred: {order.uuid} is one too many"
            raise OperatorError(rules.CUSTODY_BARRED, message)

    def _changed(self, row: Row, partition: Partition | None, order: StepOrder) -> Partition:
        """Give a partition its new record."""
        if partition is None or row.to is None:
            raise ValueError(f"row {row.number} needs a stored partition")
        # The hold begins in the same turn of the loop as the mark.  A call between them would change the
        # store after its last snapshot.
        if row.to is Custody.FROZEN:
            self._machine.holds.begin(partition)
        if row.to is Custody.ARRIVED and order.uuid not in self._travellers:
            partition.count_ipl()
        known = partition.profile.peer if row.guard is not Guard.LATER else b""
        partition.set_custody(row.to, order.epoch, order.peer or known)
        self._machine.encryptor.changed(partition)
        return partition

    def _adopted(
        self, to: Custody, before: Partition | None, order: StepOrder, traveller: Traveller
    ) -> Partition:
        """Add the partition that has arrived to the system, in place of `before`; return it.

        An entry in `departed` stays until this system owns the partition.
        """
        system, (profile, image) = self._system, traveller.record
        system.demand_room(profile, before)
        number = before.number if before else profile.number
        if before is None and system.number_taken(number):
            number = system.free_number()
        moved = profile._replace(number=number, custody=to, epoch=order.epoch, peer=order.peer)
        partition = system.made(moved, image)
        partition.mode = Mode.SETTLED
        if before is not None:
            before.gone = True
            del system.places[before.name]
        system.places[partition.name] = partition
        self._travellers.pop(order.uuid, None)  # the data of an older attempt are no longer valid
        if to is Custody.PREPARED:
            self._travellers[order.uuid] = traveller
        self._machine.encryptor.changed(partition)
        self._roster_changed()
        return partition

    def _leave(self, to: Custody, partition: Partition | None, order: StepOrder) -> None:
        """Remove a partition from the system.

        Store a `Departed`, by which later words about it are checked.
        """
        system, before = self._system, self._system.departed.get(order.uuid)
        name, peer = (before.name, before.peer) if before else ("", b"")
        reserves = before is not None and before.reserves_name
        if partition is not None:
            self._removed(partition)
            if not reserves:
                name, peer = partition.name, partition.profile.peer
        reserves = reserves or to is Custody.GONE
        departed = Departed(order.uuid, name, to, order.epoch, order.peer or peer, reserves)
        system.departed[order.uuid] = departed
        self._machine.encryptor.departed_changed(system)

    def deleted(self, partition: Partition) -> None:
        """Record that an operator has deleted a partition.  Keep its last attempt, and free its name."""
        uuid, name, epoch = partition.profile.uuid, partition.name, partition.profile.epoch
        self._system.departed[uuid] = Departed(uuid, name, Custody.NONE, epoch)
        self._machine.encryptor.departed_changed(self._system)

    def _removed(self, partition: Partition) -> None:
        self._travellers.pop(partition.profile.uuid, None)
        self._forget_key(partition.name)
        del self._system.places[partition.name]
        partition.gone = True
        self._machine.encryptor.removed(partition)
        self._roster_changed()
        self._machine.forget(partition)
        self._machine.attachment.note_departed(partition.profile.uuid)

    def _roster_changed(self) -> None:
        if self._system.state is SystemState.OPERATING:
            self._machine.encryptor.system_changed(self._system)

    # Behind the commit

    def perform(self, row: Row, partition: Partition | None, order: StepOrder) -> None:
        """Make the effects of a row whose record is durable."""
        if partition is None:
            return
        if row.to in LEFT:
            self._machine.transport.close_passed(partition.name)
        elif partition.gone:
            return  # an operator has deleted or restored the partition meanwhile
        elif row.to is Custody.ARRIVED:
            self._arrived(partition, order, runs=row.on is not Word.COPY)
        elif row.to is Custody.RELEASED:
            self._released(partition)
        elif row.on in (Word.RESUME, Word.SERVE):
            self._served(partition)

    def _released(self, partition: Partition) -> None:
        machine = self._machine
        machine.holds.leave(partition)
        partition.leave()
        machine.transport.close(partition)
        machine.forget(partition)

    def tidy(self, row: Row, partition: Partition) -> None:
        """Remove the key file of a released partition.

        Called some seconds after the step, because the sync of the removal would delay ACTIVATE.
        """
        if row.to is partition.profile.custody is Custody.RELEASED and not partition.gone:
            self._forget_key(partition.name)

    def _served(self, partition: Partition) -> None:
        """Serve a partition.  If it runs, end its hold.  If it is off and starts by itself, activate it."""
        if partition.running:
            self._machine.holds.end(partition)
        # in Recovery, the end of the recovery starts the partition
        elif self._machine.system.state is SystemState.OPERATING:
            self._machine.starts.served(partition)

    def _arrived(self, partition: Partition, order: StepOrder, *, runs: bool) -> None:
        """Serve a partition that has arrived.

        If its state came with it, the partition goes on in this state.  Otherwise it begins with an IPL if
        `runs` is true.  If `runs` is false, it stays off.
        """
        traveller = self._travellers.pop(order.uuid, None)
        if not self._activated(partition, traveller, runs=runs):
            self._machine.run_beside(partial(self._activate_later, partition, traveller, runs=runs))

    def _activated(self, partition: Partition, traveller: Traveller | None, *, runs: bool) -> bool:
        """Activate a partition that has arrived; return whether that was possible."""
        try:
            if traveller is not None:
                self._machine.arrive(partition, traveller)
                return True
            self._machine.transport.publish_key(partition)
            if runs:
                self._machine.power_on(partition.name)
            return True
        except SwpksError as error:
            self._failed("partition.not_activated", partition.name, error)
            return False

    async def _activate_later(self, partition: Partition, traveller: Traveller | None, *, runs: bool) -> None:
        """Retry the activation of a partition until it succeeds: no other system serves the partition.

        A full disk or a lack of descriptors makes an activation fail.  If an operator powers the partition
        on meanwhile, the retries end.  That IPL ends the state that came with the partition.
        """
        pause, done, count = FIRST_PAUSE, False, partition.ipl_count
        while not done:
            await trio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            stays = partition.profile.custody is Custody.ARRIVED and not partition.gone
            used = partition.running or partition.ipl_count != count
            done = used or not stays or self._activated(partition, traveller, runs=runs)

    def _forget_key(self, name: str) -> None:
        try:
            self._machine.transport.forget_key(name)
        except SwpksError as error:  # the next start of the server removes the file
            self._failed("partition.key_left", name, error)

    def _failed(self, event: str, name: str, error: SwpksError) -> None:
        with suppress(Exception):
            explained: dict[str, Any] = logs.explained(error)
            self._log.error(event, partition=name, **explained)
