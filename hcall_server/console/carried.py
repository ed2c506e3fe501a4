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

    `facts` has the custody of the partition at each system, by the last views.  `away` has the systems that
    are not connected.  If the source is in doubt, their facts are ignored.  Otherwise the source could
    release the partition to a dead system.
    """
    here = facts.get(system)
    if here is None:
        return []
    others = {each: fact for each, fact in facts.items() if each != system}
    at = record(here)
    if at is Custody.FROZEN:
        # A source in doubt asks the console, which can let it serve on instead (row 10).  A source in mode
        # waiting asks nothing, so it also gets the words of systems that are away.
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
    """Return ACTIVE once a view shows that another system owns the partition.

    The source of a remote restart gets ACTIVE only by order of an operator.
    """
    # The copy of a remote restart may be old.  The later changes are only in the store of the lost source.
    # So that source drops its store only by order of an operator.
    if entry is None or (entry.kind == "restart" and entry.source == system):
        return []
    return [left(entry, here)] if serves_elsewhere(entry, system, here, others) else []


def left(entry: Entry, here: CustodyView) -> Carried:
    """Return the word ACTIVE for a system that has released a partition.

    The system then drops its store.
    """
    # Row 8 of spec/migration.md accepts the last epoch or a larger one.  The store may be a remainder of an
    # attempt before the last move.  The epoch of the last move makes the system drop such a store too.
    return Carried(here.uuid, max(here.epoch, entry.moved), "active", peer=entry.owner)


def serves_elsewhere(entry: Entry, system: str, here: CustodyView, facts: Facts) -> bool:
    """Return whether a view shows that another system owns the partition.

    If the entry has no owner, the partition was deleted after its last move.  A store of an earlier attempt
    than that move never serves again.
    """
    if not entry.owner:
        return entry.moved >= here.epoch
    owner = facts.get(entry.owner)
    if owner is None or entry.owner == system:
        return False
    # ABORTED proves ownership too.  If a later attempt to move the partition was aborted, the owner shows
    # OWN.
    return not said(owner).isdisjoint((Word.ACTIVE, Word.ABORTED)) and owner.epoch >= here.epoch


def _for_prepared(entry: Entry | None, system: str, here: CustodyView, others: Facts) -> list[Carried]:
    forces = entry and entry.decision is Decision.FORCED and entry.kind == "live"
    if entry and forces and (entry.epoch, entry.target) == (here.epoch, system):
        return [Carried(here.uuid, here.epoch, "force")]
    # If the partition has moved again, the word about the attempt of this copy may be lost.  The later move
    # proves that the copy is useless (row 13).
    for owner, fact in others.items():
        if Word.ACTIVE in said(fact) and fact.epoch > here.epoch:
            return [Carried(here.uuid, fact.epoch, "active", peer=owner)]
    source = others.get(here.peer_id)
    if source is None:
        return []
    if Word.ABORTED in said(source) and source.epoch >= here.epoch:
        return [Carried(here.uuid, here.epoch, "aborted")]
    # A remote restart may have moved the partition meanwhile, and the source does not know that yet.
    overtaken = entry is not None and entry.moved > here.epoch
    if Word.ACTIVATE in said(source) and source.epoch == here.epoch and not overtaken:
        return [Carried(here.uuid, here.epoch, "activate")]
    return []
