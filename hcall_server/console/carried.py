"""The words of the migration protocol that the console carries from one system to another.

    words = words_for(entry, system_id, facts)

A word is a short message about one partition (spec/migration.md#steps-of-the-console).  It follows from the
present entry and the last views alone.  This module stores and sends nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from hcall_abi.control_views import CustodyView
from hcall_server.console.entries import Carried, Entry, Facts, record, said
from hcall_server.platform.custody import Custody, Decision, Mode, Word


def words_for(entry: Entry | None, system: str, facts: Facts, away: Iterable[str] = ()) -> list[Carried]:
    """Return the words about a partition that are due for a system.

    `facts` has the custody of the partition at each system, by the last views.  `away` are the systems that
    are not connected: a source in doubt does not release the partition to any of them.
    """
    here = facts.get(system)
    if here is None:
        return []
    others = {each: fact for each, fact in facts.items() if each != system}
    at = record(here)
    if at is Custody.FROZEN:
        # Only for a source in doubt: the console can let such a source serve on instead (row 10).  A source
        # in mode waiting asks nothing.
        if here.mode == Mode.IN_DOUBT.value:
            others = {each: fact for each, fact in others.items() if each not in away}
        return _for_frozen(here, others)
    if at is Custody.RELEASED:
        return _for_released(entry, system, here, others)
    if at is Custody.PREPARED:
        return _for_prepared(entry, system, here, others)
    return []


def _for_frozen(here: CustodyView, others: Facts) -> list[Carried]:
    words = list[Carried]()
    for fact in others.values():
        if fact.epoch == here.epoch and Word.PREPARED in said(fact):
            words.append(Carried(here.uuid, here.epoch, "prepared", fact.generation))
        if fact.epoch == here.epoch and Word.ACTIVE in said(fact):
            words.append(Carried(here.uuid, here.epoch, "active"))
    return words


def _for_released(entry: Entry | None, system: str, here: CustodyView, others: Facts) -> list[Carried]:
    """Return ACTIVE once a view shows the owner; after a remote restart only an operator sends it."""
    # The lost source of a restart has the only store with the changes since the copy.  So it drops this store
    # only when an operator orders that.
    if entry is None or (entry.kind == "restart" and entry.source == system):
        return []
    return [left(entry, here)] if serves_elsewhere(entry, system, here, others) else []


def left(entry: Entry, here: CustodyView) -> Carried:
    """Return ACTIVE for a system that has released a partition: the system then drops the store."""
    # Row 8 takes any later epoch.  The epoch of the move also ends a store that was released by an earlier
    # attempt.
    return Carried(here.uuid, max(here.epoch, entry.moved), "active", peer=entry.owner)


def serves_elsewhere(entry: Entry, system: str, here: CustodyView, facts: Facts) -> bool:
    """Return whether a view shows that another system owns the partition.

    If the entry has no owner, the partition was deleted at its last owner.  Then the number of the last move
    proves that no earlier store serves again.
    """
    if not entry.owner:
        return entry.moved >= here.epoch
    owner = facts.get(entry.owner)
    if owner is None or entry.owner == system:
        return False
    # ABORTED counts too: the owner shows OWN after an attempt to move the partition further was aborted.
    return not said(owner).isdisjoint((Word.ACTIVE, Word.ABORTED)) and owner.epoch >= here.epoch


def _for_prepared(entry: Entry | None, system: str, here: CustodyView, others: Facts) -> list[Carried]:
    forces = entry and entry.decision is Decision.FORCED and entry.kind == "live"
    if entry and forces and (entry.epoch, entry.target) == (here.epoch, system):
        return [Carried(here.uuid, here.epoch, "force")]
    # A later move proves that this copy can't be used any more.  The word about its own attempt may be lost
    # (row 13).
    for owner, fact in others.items():
        if Word.ACTIVE in said(fact) and fact.epoch > here.epoch:
            return [Carried(here.uuid, fact.epoch, "active", peer=owner)]
    source = others.get(here.peer_id)
    if source is None:
        return []
    if Word.ABORTED in said(source) and source.epoch >= here.epoch:
        return [Carried(here.uuid, here.epoch, "aborted")]
    overtaken = entry is not None and entry.moved > here.epoch  # moved by a remote restart
    if Word.ACTIVATE in said(source) and source.epoch == here.epoch and not overtaken:
        return [Carried(here.uuid, here.epoch, "activate")]
    return []
