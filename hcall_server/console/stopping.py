"""Stop a migration before its point of no return: `migrlpar -o s`.

Page: spec/migration.md#orders.
"""

# A stop and the job of the migration run at the same time.  The job may have sent an order (BEGIN or RELEASE)
# that has not reached the source yet.  The ABORT of the stop can overtake this order.  Then the partition
# would move, although the operator has read that it was stopped.  The job ends after the answer to its order.
# So the stop waits for the end of the job, and then requests the view of the source again.
#
# During the stop, the source must not get PREPARED.  It would release the partition, because PREPARED says
# that the target is ready.  So the attempt is in `Courier.stopping` until the stop ends.

from __future__ import annotations

from collections.abc import Awaitable, Callable

from hcall_abi.errors import OperatorError
from hcall_abi.requests import tell_custody
from hcall_abi.rules import migration as rules
from hcall_server.console.entries import Entry, aborted, record
from hcall_server.console.jobs import Job
from hcall_server.console.migration_tools import MigrationTools, fact_of, partition_of
from hcall_server.console.refusals import decided
from hcall_server.console.systems import KnownSystem
from hcall_server.platform.custody import Custody, Decision


async def stop(
    tools: MigrationTools, source: KnownSystem, entry: Entry, unended: Callable[[], Awaitable[Job | None]]
) -> str:
    """Stop an attempt; return the line for the operator.

    Each call sends ABORT to the source again, because an earlier ABORT may have been lost.  `unended` waits
    for the end of the job, and returns a job that takes too long.  SwpksError if the attempt can't be
    stopped, or if its state is unknown.
    """
    _demand_stoppable(tools, source, entry)
    tools.courier.stopping.add((entry.uuid, entry.epoch))
    try:
        await source.call(tell_custody(entry.uuid, entry.epoch, "abort"))
        _demand_here(tools, source, entry)
        await _settle(tools, source, entry)
        job = await unended()
        await tools.view(source)
        _demand_here(tools, source, entry)
    finally:
        tools.courier.stopping.discard((entry.uuid, entry.epoch))
    late = f"; job {job.number} has not ended, and an order of it may still arrive there" if job else ""
    return f"the attempt {entry.epoch} of {entry.name} is stopped: {_place(tools, source, entry)}{late}"


def _demand_stoppable(tools: MigrationTools, source: KnownSystem, entry: Entry) -> None:
    """Raise OperatorError unless this system is the source of the attempt, and the attempt can be stopped."""
    if entry.source != source.system_id:
        place = tools.registry.name_of(entry.source)
        message = (
            f"{entry.name} moves from {place}, and not from {source.name}: stop it at its source, {place}"
        )
        raise OperatorError(rules.MIGRATION_SYSTEMS, message, advised=True)
    if entry.decision not in (Decision.OPEN, Decision.ABORTED):
        raise decided(entry)
    _demand_here(tools, source, entry)  # checked before a request, which fails at a dead source


def _demand_here(tools: MigrationTools, source: KnownSystem, entry: Entry) -> None:
    """Raise OperatorError if the source has released the partition.

    The last view or the final copy shows that.
    """
    fact = fact_of(tools, source, entry.uuid)
    left = fact and fact.epoch >= entry.epoch and record(fact) in (Custody.RELEASED, Custody.GONE)
    if left or tools.entry(entry.uuid).final:
        raise decided(entry)


async def _settle(tools: MigrationTools, source: KnownSystem, entry: Entry) -> None:
    """Store that a stopped attempt is never forced.

    If the source is in doubt, send it the answer with which it serves again.
    """
    now = tools.entry(entry.uuid)
    if now.epoch != entry.epoch or now.decision not in (Decision.OPEN, Decision.ABORTED):
        raise decided(now)
    if now.decision is Decision.OPEN:
        tools.enter(aborted(now), "aborted")
    fact = fact_of(tools, source, entry.uuid)
    if fact and fact.mode == "in-doubt":
        await tools.courier.answer(source, fact)
        _demand_here(tools, source, entry)
    await tools.courier.look(source)


def _place(tools: MigrationTools, source: KnownSystem, entry: Entry) -> str:
    """Return a phrase for the operator: where the partition of a stopped attempt is, and its mode."""
    partition, fact = partition_of(source, entry.uuid), fact_of(tools, source, entry.uuid)
    mode = fact.mode if fact else partition.mode if partition else "unknown"
    return f"{source.name} serves it" if mode == "serving" else f"it is {mode} at {source.name}"
