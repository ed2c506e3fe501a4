"""Give a partition back to the source of an attempt (rows 19 and 20).

The target of the attempt has not opened the copy.  Pages: spec/migration.md#orders,
spec/migration.md#remote-restart.
"""

from __future__ import annotations

from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.requests import take_partition
from hcall_abi.rules import hmc
from hcall_abi.rules import migration as rules
from hcall_server.console.entries import Entry, record, restarted
from hcall_server.console.migration_tools import (
    MigrationTools,
    barred,
    demand_barrable,
    demand_key,
    fact_of,
)
from hcall_server.console.refusals import decided, decided_text
from hcall_server.platform.custody import Custody
from hcall_server.sealing.copies import read_copy


async def demand_returnable(tools: MigrationTools, entry: Entry) -> None:
    """Raise OperatorError unless the source of a decided restart can get the partition back.

    Nothing is changed.  The source must show RELEASED, and be able to open the copy (row 16).  The target
    must answer, because it has to be barred.
    """
    source = tools.system(entry.source)
    state = "away"
    try:
        await tools.view(source)
    except SwpksError as error:
        if error.rule is hmc.HMC_STORE_WRITTEN:
            raise
    else:
        fact = fact_of(tools, source, entry.uuid)
        if fact and record(fact) is Custody.RELEASED:
            await demand_takes(tools, entry)
            await demand_barrable(tools, entry)
            return
        state = fact.custody.upper() if fact else "unknown"
    message = (
        f"{decided_text(entry)}; it goes back when {source.name} is RELEASED, and {source.name} is {state}"
    )
    raise OperatorError(rules.MIGRATION_DECIDED, message)


async def demand_takes(tools: MigrationTools, entry: Entry) -> None:
    """Raise SwpksError unless the source of an attempt can open the copy; nothing is changed.

    The caller must call this before the decision.  After the decision the source is the owner, and could not
    refuse.
    """
    source = tools.system(entry.source)
    await demand_key(source, read_copy(entry.final).tsk_id.hex(), entry.name)
    epoch = tools.registry.next_epoch(entry.uuid)
    await source.call(take_partition(entry.final, epoch, entry.target, check=True))


async def give_back(tools: MigrationTools, entry: Entry) -> None:
    """Bar the target of an attempt, and decide that the source of the attempt gets the partition's copy back.

    The decision is a new attempt.  OperatorError if the target can't be barred, or owns the partition.
    """
    # `barred` runs outside of the lock.  It calls `Courier.look`, which takes the same lock to answer a
    # system.
    now = await barred(tools, entry)
    async with tools.courier.turn(entry.uuid):
        changed = tools.entry(entry.uuid) != now  # by another order
        if changed or now.owner != entry.owner or not now.over or not now.final:
            raise decided(tools.entry(entry.uuid))
        epoch = tools.registry.next_epoch(entry.uuid)
        back = restarted(now, entry.kind, epoch, entry.target, entry.source, entry.final)
        tools.enter(back, "forced")
