"""A partition goes back to the source of an attempt whose target has not taken the copy (rows 19 and 20).

Pages: spec/migration.md#orders, spec/migration.md#remote-restart.
"""

from __future__ import annotations

from hcall_abi.errors import OperatorError, SwpksError
from hcall_abi.rules import hmc
from hcall_abi.rules import migration as rules
from hcall_server.console.entries import Entry, record, restarted
from hcall_server.console.migration_tools import MigrationTools, barred, demand_barrable, fact_of
from hcall_server.platform.custody import Custody


async def demand_returnable(tools: MigrationTools, entry: Entry) -> None:
    """OperatorError unless a decided restart can go back to its source; nothing is changed.

    The source must show RELEASED: then it takes a copy (row 16).  The target must answer: it is barred.
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
            await demand_barrable(tools, entry)
            return
        state = fact.custody.upper() if fact else "unknown"
    message = (
        f"{decided_text(entry)}; it goes back when {source.name} is RELEASED, and {source.name} is {state}"
    )
    raise OperatorError(rules.MIGRATION_DECIDED, message)


async def give_back(tools: MigrationTools, entry: Entry) -> None:
    """Bar the target of an attempt, then decide that its source takes the copy, by a new attempt.

    OperatorError if the target can't be barred, or owns the partition.
    """
    now = await barred(tools, entry)
    async with tools.courier.turn(entry.uuid):
        changed = tools.entry(entry.uuid) != now  # another order came meanwhile
        if changed or now.owner != entry.owner or not now.over or not now.final:
            raise OperatorError(rules.MIGRATION_DECIDED, decided_text(tools.entry(entry.uuid)))
        epoch = tools.registry.next_epoch(entry.uuid)
        back = restarted(now, entry.kind, epoch, entry.target, entry.source, entry.final)
        tools.enter(back, "forced")


def decided_text(entry: Entry) -> str:
    """Return the sentence about an attempt that is not taken back."""
    return f"the attempt {entry.epoch} of {entry.name} has passed its point of no return"
