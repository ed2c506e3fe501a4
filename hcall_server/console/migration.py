"""The job `migrate`: a partition moves to another system (spec/migration.md#orders).

A running partition moves live.  The two systems do this themselves, and the console follows their views.  A
partition that is powered off moves by a copy: its source releases it, and the target opens the copy.
"""

# A live migration that the console has begun goes on without the console.  So after a kill of the console:
#
#   1. If the source has the order, the job only follows.  It does not need the token, which is lost: a token
#      is never stored.
#   2. If the source does not have the order, a new attempt begins.  A crash of the source before the freeze
#      also leads to a new attempt.  The new attempt has another number and another token.
#   3. The job ends when the register says that the target serves, or when the source shows that it serves on.
#
# An inactive migration depends on the console.  The answer to the release is the copy of the store at this
# moment.  The copy is durable in the register until the target owns the partition.
#
# A stop, a recovery or a remote restart may change the entry during any await.  So the job reads the register
# and the last views each time, and remembers nothing about an attempt.

from __future__ import annotations

from typing import NamedTuple

import msgspec
import trio

from hcall_abi.addresses import is_place
from hcall_abi.bounds import TOKEN_SIZE
from hcall_abi.control_bodies import MigrationOrder
from hcall_abi.control_views import CopyView, CustodyView
from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.requests import (
    ConsoleRequest,
    begin_migration,
    expect_partition,
    release_partition,
    show_health,
    show_system,
    tell_custody,
)
from hcall_abi.rules import hmc
from hcall_abi.rules import migration as rules
from hcall_abi.rules.rule import Rule
from hcall_server.console.entries import Entry, Kind, aborted, begun, record
from hcall_server.console.jobs import JobRun
from hcall_server.console.migration_status import End, live_rows, row_text
from hcall_server.console.migration_tools import (
    MigrationTools,
    demand_owned,
    fact_of,
    hand_over,
    partition_of,
)
from hcall_server.console.systems import KnownSystem
from hcall_server.platform.custody import OWNING, Custody, Decision

GATHER_SECONDS = 0.05
"""Seconds for which the rows of a live attempt gather before they are stored.

A freeze takes less.  Its commits would wait for those of the console if both are on one disk.
"""
LOOK_SECONDS = 5.0
"""The longest time between two looks at the systems of an attempt."""
HEALTH_SECONDS = 5.0
"""Seconds that the target has to report its health when an attempt has ended."""
_ATTEMPT, _BEGUN, _FORCED, _RELEASED, _END = "attempt", "begun", "forced", "released", "end"
_AT_REST = ("serving", "asking")
_LIVE_STEPS, _INACTIVE_STEPS = 6, 4


class MigrationPlan(msgspec.Struct):
    """What a migration job moves: a partition, and the id of its target system."""

    uuid: str
    name: str
    target: str
    live: bool
    epoch: int = 0
    """The number of the stored attempt that the job continues.  If it is 0, the job begins a new attempt."""


class EndedAttempt(NamedTuple):
    """An attempt that has ended at its source.

    `began` is false if the source has never begun it.
    """

    began: bool
    reason: str
    rule: Rule = rules.MIGRATION_FAILED


class MigrationJob:
    """One migration of one partition."""

    def __init__(self, run: JobRun, tools: MigrationTools) -> None:
        self._run = run
        self._plan: MigrationPlan = run.plan
        self._tools = tools
        self._registry = tools.registry
        self._source = run.system

    def __repr__(self) -> str:
        return f"MigrationJob({self._plan.name!r})"

    @property
    def _target(self) -> KnownSystem:
        return self._tools.system(self._plan.target)

    @property
    def _attempt(self) -> int:
        return int(self._run.steps.get(_ATTEMPT, self._plan.epoch))

    async def perform(self) -> None:
        """Perform the migration, from its last durable step on."""
        self._run.expect(_LIVE_STEPS if self._plan.live else _INACTIVE_STEPS)
        await (self._live() if self._plan.live else self._inactive())

    # Live

    async def _live(self) -> None:
        begins = not self._attempt
        if begins:
            await self._begin()
        ended = await self._follow()
        # After a restart of the console the token is lost, so an attempt that did not begin is replaced by a
        # new one.  If this run opened the attempt, its order did not arrive, and the job fails instead.
        if ended and not ended.began and not begins and self._is_open():
            await self._begin()
            ended = await self._follow()
        if ended:
            self._note_aborted()
            raise OperatorError(ended.rule, await self._explained(ended))
        self._finish()

    async def _explained(self, ended: EndedAttempt) -> str:
        """Return why an attempt has ended, with the name of its target and the target's health problems."""
        if not ended.began or ended.rule is not rules.MIGRATION_FAILED:
            return ended.reason
        try:
            target = self._target
            with trio.fail_after(HEALTH_SECONDS):
                reasons = (await target.call(show_health())).reasons
        except SwpksError as error:
            reasons = [error.message]
        except trio.TooSlowError:
            reasons = [f"it has not answered within {HEALTH_SECONDS:g} seconds"]
        trouble = f", whose health says: {'; '.join(reasons)}" if reasons else ""
        return f"{ended.reason} (target {self._registry.name_of(self._plan.target)}{trouble})"

    async def _begin(self) -> None:
        """Begin a new attempt at both systems; return when the source has the order.

        The source answers the order before the partition has moved.
        """
        try:
            self._open("live")
            await self._order()
        except SwpksError as error:
            if error.rule is not hmc.HMC_STORE_WRITTEN:
                self._note_aborted()
            raise

    def _open(self, kind: Kind) -> None:
        """Store a new attempt (row 1); OperatorError unless its source owns the partition.

        The checks of the operator's order may be old, so they are repeated here.  There is no await between
        them and the entry.  No order is sent before the entry is stored.
        """
        plan, registry = self._plan, self._registry
        demand_owned(self._tools, self._source, plan.uuid, plan.name)
        epoch = registry.next_epoch(plan.uuid)
        entry = registry.of(plan.uuid) or Entry(plan.uuid, plan.name)
        opened = begun(entry, kind, epoch, self._source.system_id, self._target.system_id)
        self._tools.enter(opened._replace(name=plan.name), "opened")
        line = f"row 1: OPEN({epoch}) at the console"
        self._run.finish(_ATTEMPT, line, result=str(epoch))

    async def _order(self) -> None:
        """Send both systems the order for the attempt, with a new token for their channel.

        The token is not stored.
        """
        epoch, plan, source, target = self._attempt, self._plan, self._source, self._target
        token = self._tools.entropy(TOKEN_SIZE)
        expected = expect_partition(plan.uuid, epoch, source.system_id, token)
        address = (await self._run.call(expected, target)).address
        if not is_place(address):
            raise OperatorError(rules.MOBILITY_LISTENS, f"{target.name} listens at {address!r}, no address")
        order = MigrationOrder(
            uuid=plan.uuid, epoch=epoch, target_id=target.system_id, address=address, token=token
        )
        await self._run.persist(lambda: self._ordered(order))
        self._run.note(_BEGUN, str(epoch))

    async def _ordered(self, order: MigrationOrder) -> None:
        """Order the migration at its source, unless the attempt was stopped.

        If the source refuses the order but shows the attempt, an earlier order has begun the attempt, and
        only its answer was lost.  The order counts as done.
        """
        if self._tools.entry(order.uuid).decision is Decision.DONE:
            return  # an earlier order has moved the partition already
        self._demand_open()
        try:
            await self._source.call(begin_migration(self._plan.name, order))
        except SwpksError:
            await self._source.call(show_system())
            fact = fact_of(self._tools, self._source, order.uuid)
            if fact is None or order.epoch not in (fact.epoch, fact.tried):
                raise
            return
        await self._source.call(show_system())

    async def _follow(self) -> EndedAttempt | None:
        """Wait for the end of the attempt; return None if the target serves."""
        while True:
            await trio.sleep(GATHER_SECONDS)
            self._say_rows()
            entry = self._tools.entry(self._plan.uuid)
            # The owner alone decides, and not the number of the attempt.  A bar changes that number, and an
            # earlier attempt may have moved the partition.
            if entry.owner == self._target.system_id:
                return None
            if entry.moved >= self._attempt:
                return self._overtaken(entry)
            if entry.epoch > self._attempt:
                return self._overtaken(entry)
            # The last view may be older than the order.  It would then show an attempt that has not begun.
            # So `_confirmed` requests a new view before the attempt counts as ended.
            if self._ended() and (ended := await self._confirmed()):
                return ended
            away = [each for each in (self._source, self._target) if not each.connected]
            self._run.wait("; ".join(f"{each.name}: {each.trouble}" for each in away))
            if not await self._tools.courier.changed(LOOK_SECONDS):
                self._tools.courier.look_again(self._plan.uuid)

    def _overtaken(self, entry: Entry) -> EndedAttempt:
        place = f"{entry.name} belongs to {self._registry.name_of(entry.owner)}"
        end = "stopped" if entry.epoch == self._attempt else f"followed by the attempt {entry.epoch}"
        return EndedAttempt(True, f"the attempt {self._attempt} was {end}; {place}")

    async def _confirmed(self) -> EndedAttempt | None:
        """Return how the attempt has ended, by a new view of the source.

        None if the source does not answer, or if the attempt has not ended.
        """
        try:
            await self._source.call(show_system())
        except SwpksError:
            return None
        return self._ended()

    def _ended(self) -> EndedAttempt | None:
        """Return how the attempt has ended at its source; None while it may go on."""
        if (fact := fact_of(self._tools, self._source, self._plan.uuid)) is not None:
            return self._resumed(fact) if record(fact) in OWNING else self._left(fact)
        partition = partition_of(self._source, self._plan.uuid)
        if partition is None or partition.custody != "own" or partition.mode not in _AT_REST:
            return None
        return self._unbegun()

    def _resumed(self, fact: CustodyView) -> EndedAttempt | None:
        """Return how the attempt has ended at a source that owns the partition; None while it may go on."""
        attempt = self._attempt
        served = f"{self._source.name} serves {self._plan.name}, and the attempt {attempt} has ended"
        if fact.epoch >= attempt:
            return EndedAttempt(True, f"{served}{fact.trouble and f': {fact.trouble}'}")
        if fact.mode not in _AT_REST:
            return None
        if fact.tried == attempt:
            return EndedAttempt(True, f"{served}: {fact.trouble or 'it did not freeze it'}")
        return self._unbegun()

    def _unbegun(self) -> EndedAttempt:
        place = f"{self._source.name} serves {self._plan.name}"
        return EndedAttempt(False, f"{place}, and has not begun the attempt {self._attempt}")

    def _left(self, fact: CustodyView) -> EndedAttempt | None:
        """Return how the attempt has ended at a source that does not own the partition any more.

        The source has released it by an earlier attempt.  None while the present attempt may go on.
        """
        owner = self._registry.elsewhere(self._source, self._plan.uuid)
        if not owner or record(fact) in (Custody.FROZEN, Custody.PREPARED) or fact.epoch >= self._attempt:
            return None
        state = f"{self._plan.name} is {record(fact).name}({fact.epoch}) at {self._source.name}"
        return EndedAttempt(True, f"{state}: it belongs to {owner}", rules.CUSTODY_OWNED)

    def _is_open(self) -> bool:
        entry = self._tools.entry(self._plan.uuid)
        return (entry.epoch, entry.decision) == (self._attempt, Decision.OPEN)

    def _demand_open(self) -> None:
        if not self._is_open():
            raise OperatorError(rules.MIGRATION_FAILED, f"the attempt {self._attempt} was stopped")

    def _note_aborted(self) -> None:
        """Store that this attempt is never forced, if it was opened."""
        entry = self._registry.of(self._plan.uuid)
        if entry and entry.epoch == self._attempt:
            self._tools.enter(aborted(entry))

    # Inactive

    async def _inactive(self) -> None:
        if not self._attempt:
            self._open("inactive")
        entry = self._tools.entry(self._plan.uuid)
        unfinished = entry.epoch == self._attempt and entry.decision is not Decision.DONE and not entry.final
        if unfinished and not self._is_open():
            await self._settle()
        if unfinished and (self._is_open() or self._shows_release()):
            await self._release()
        entry = await hand_over(self._run, self._tools, self._plan.uuid)
        if entry.owner != self._target.system_id:
            raise OperatorError(rules.MIGRATION_FAILED, self._overtaken(entry).reason)
        self._finish()

    async def _settle(self) -> None:
        """Wait until the source of a stopped attempt shows whether it has released the partition.

        An order to release, sent before a restart of the console, may still reach the source.  This sends
        ABORT.  The source answers ABORT only after it has handled the order.
        """
        order = tell_custody(self._plan.uuid, self._attempt, "abort")
        await self._run.persist(lambda: self._source.call(order))

    async def _release(self) -> None:
        """Have the source release the partition (row 15), and store the copy in its answer.

        The register has the copy until the target owns the partition.
        """
        plan, attempt = self._plan, self._attempt
        request = release_partition(plan.name, plan.uuid, attempt, self._target.system_id)
        try:
            copy = await self._run.persist(lambda: self._source.call(self._unless_stopped(request)))
        except SwpksError:
            if not await self._is_released():
                self._note_aborted()
            raise
        entry = self._tools.entry(plan.uuid)
        if entry.epoch == attempt:
            self._tools.enter(entry._replace(final=copy.copy))
        self._tools.taker.keep(self._source, plan.name, copy)
        self._run.finish(_RELEASED, f"row 15: RELEASED({attempt}) at {self._source.name}")

    def _unless_stopped(self, request: ConsoleRequest[CopyView]) -> ConsoleRequest[CopyView]:
        if not self._shows_release():  # after a release, a stop comes too late
            self._demand_open()
        return request

    def _shows_release(self) -> bool:
        fact = fact_of(self._tools, self._source, self._plan.uuid)
        return fact is not None and (record(fact), fact.epoch) == (Custody.RELEASED, self._attempt)

    async def _is_released(self) -> bool:
        try:
            await self._source.call(show_system())
        except SwpksError:
            # The source does not answer, so it may have released the partition.  Such an attempt must not be
            # aborted.
            return True
        fact = fact_of(self._tools, self._source, self._plan.uuid)
        return fact is not None and record(fact) is Custody.RELEASED

    # Progress for the operator

    def _say_rows(self) -> None:
        """Store a line for each row of the state table that a system has reached."""
        entry = self._tools.entry(self._plan.uuid)
        if entry.decision is Decision.FORCED and self._plan.live and _FORCED not in self._run.steps:
            self._run.note(_FORCED)
        ends = self._end(self._source), self._end(self._target)
        if self._plan.live:
            lines = live_rows(entry._replace(epoch=self._attempt), *ends, forced=_FORCED in self._run.steps)
        else:
            lines = [row_text(entry, end.fact, end.name) for end in ends if end.fact]
        for line in lines:
            said = {each if "FROZEN" in each else _reached(each) for each in self._run.job.lines}
            if said.isdisjoint((line, _reached(line))):
                self._run.finish(line, line)

    def _end(self, system: KnownSystem) -> End:
        """Return a system of the attempt, with the custody that it shows for this attempt."""
        fact = fact_of(self._tools, system, self._plan.uuid)
        return End(system.name, fact if fact and fact.epoch == self._attempt else None)

    def _finish(self) -> None:
        self._say_rows()
        self._run.expect(self._run.job.done + 1)
        target, name = self._target.name, self._plan.name
        self._run.finish(_END, f"{name} is at {target} now, by the attempt {self._attempt}")


def _reached(line: str) -> str:
    """Return the part of a row's line that names the record, such as ``RELEASED(7) at a``."""
    return line.partition(": ")[2]
