"""The migrations that a system takes part in: orders of its console, and connections of other systems."""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID

import trio

from hcall_abi.control_bodies import ExpectedPartition, MigrationOrder
from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.rules import migration as rules
from hcall_server import failpoints
from hcall_server.machine.logs import Log
from hcall_server.mobility.messages import Attempt
from hcall_server.mobility.ports import OwnSystem
from hcall_server.mobility.source import MigrationSource
from hcall_server.mobility.target import Targets
from hcall_server.platform.custody import OWNING, Mode, Standing

_log = Log()


class LiveMigrations:
    """Both ends of live migrations on one system.

    Tokens are in memory only.  Each token is for one attempt, and is forgotten when the attempt ends at this
    system.
    """

    def __init__(self, own: OwnSystem) -> None:
        self._own = own
        self._sources: dict[UUID, MigrationSource] = {}
        self._targets = Targets(own)

    def __repr__(self) -> str:
        return f"LiveMigrations({len(self._sources)} under way, {self._targets!r})"

    async def begin(self, name: str, order: MigrationOrder) -> None:
        """Begin to move a partition to another system.  A repeated order changes nothing.

        OperatorError if the migration cannot begin.  The function returns before the partition has moved.
        """
        own, uuid = self._own, UUID(order.uuid)
        partition = own.find(name)
        if partition.uuid != uuid:
            raise OperatorError(rules.CUSTODY_UUID, f"{name} is {partition.uuid}, not {uuid}")
        under_way = self._sources.get(uuid)
        # The console repeats an order whose answer was lost. The second one must not begin the attempt
        # again.
        if under_way and under_way.attempt.epoch == order.epoch and not under_way.ended:
            return
        # Check custody before power.  A partition that waits for its console is powered off too, but the
        # operator needs the true reason.
        self._demand_new(name, uuid, order.epoch)
        if not partition.running:
            raise OperatorError(rules.MIGRATION_POWER, f"{name} is powered off")
        if own.peers() is None:
            raise OperatorError(rules.MOBILITY_REACHED, "this system has no way to others")
        target = bytes.fromhex(order.target_id)
        if before := self._sources.get(uuid):
            before.stop()  # its attempt has ended; it may still try to send ABORTED
        attempt = Attempt(uuid, order.epoch, own.system_id, target, order.token)
        source = self._sources[uuid] = MigrationSource(own, attempt, order.address)
        begun = trio.Event()
        own.run_beside(lambda: self._run(source, begun))
        await begun.wait()
        if source.refused:
            raise source.refused

    async def expect(self, expected: ExpectedPartition) -> str:
        """Permit another system, the source, to send a partition.

        Return this system's address, to which the source connects.  OperatorError if this system does not
        listen, or if it can't take the partition in this attempt.
        """
        peers = self._own.peers()
        await trio.lowlevel.checkpoint()
        if peers is None or not peers.address:
            raise OperatorError(rules.MOBILITY_LISTENS, "this system does not listen for others")
        source = bytes.fromhex(expected.source_id)
        uuid = UUID(expected.uuid)
        self._targets.expect(Attempt(uuid, expected.epoch, source, self._own.system_id, expected.token))
        failpoints.reached("expected")
        return peers.address

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve a connection of another system, and close it."""
        await self._targets.serve(stream)

    async def abort(self, uuid: UUID, epoch: int) -> None:
        """End an attempt at its source.  After the freeze, the source asks its console instead.

        Return when no step is under way.  So the view in the answer shows whether the partition has left.
        """
        source = self._sources.get(uuid)
        if source and source.attempt.epoch == epoch:
            await source.give_up("stopped by order")
        await self._own.keeper.settled(uuid)

    def _demand_new(self, name: str, uuid: UUID, epoch: int) -> None:
        """OperatorError unless the partition is served here and is idle, and the attempt is new."""
        keeper = self._own.keeper
        at, shown = keeper.standing(uuid), keeper.facts_of(uuid)
        if at.custody not in OWNING:
            raise OperatorError(rules.CUSTODY_OWNED, f"{name} is in custody {at.custody.name.lower()}")
        before = self._sources.get(uuid)
        if at.mode is not Mode.SERVING or (before and not before.begun):
            raise _busy(name, at)
        # An attempt that failed in the copy phase leaves no record.  Its number is in `tried`.  So a
        # delayed order does not begin it again.
        last = max(at.epoch, shown.tried if shown else 0)
        if epoch <= last:
            raise OperatorError(rules.CUSTODY_EPOCH, f"attempt {epoch} of {name} comes after attempt {last}")

    async def _run(self, source: MigrationSource, begun: trio.Event) -> None:
        """Drive an attempt, in a separate task: the request of the order may be cancelled after BEGIN."""
        try:
            if await source.begin():
                begun.set()
                await source.run()
        except Exception as error:  # a bug here must not end the system; the custody stays as it is
            uuid = source.attempt.uuid
            name = self._own.name_of(uuid)
            _log.error("migration.driver_failed", partition=name, uuid=str(uuid), exc_info=error)
            with suppress(SwpksError):
                await source.give_up("its driver has failed")
        finally:
            begun.set()
            # A later attempt may be in the dict already.
            if self._sources.get(source.attempt.uuid) is source:
                del self._sources[source.attempt.uuid]


def _busy(name: str, at: Standing) -> OperatorError:
    if at.mode is Mode.ASKING:
        return OperatorError(rules.CUSTODY_CONFIRMED, f"{name} waits for the answer of its console")
    if at.mode is Mode.IN_DOUBT:
        finding = f"{name} is in doubt: its system asks its console how a migration has ended"
        return OperatorError(rules.CUSTODY_IDLE, finding)
    return OperatorError(rules.CUSTODY_IDLE, f"{name} takes part in another migration")
