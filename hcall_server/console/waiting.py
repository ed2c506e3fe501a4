"""Reasons why a partition is not served, in words for the operator.

The event `custody.unanswered` in the log has the same reasons.
"""

# Three answers about the owner, and why they are not one function
#
# Three functions read the same facts: another system is the owner, another system shows the store, or an
# attempt brings the store to a system.  They decide about different acts:
#
#   `Courier._answer`     the answer to a system that asks whether it may serve (`entries.answered`)
#   `StoreGuard.refusal`  the restore of a copy by an operator
#   `_asking` below       the text for the operator about a system that got no answer
#
# One common function would permit other acts than these three.  They differ in four cases:
#
#   1. The owner was removed from the console.  The guard permits a restore: it is the only way to get the
#      partition back (`owner_of`).  The courier gives no permission, because the removed system may still
#      serve.
#   2. Another system has a copy by an attempt.  The courier compares epochs.  If the copy is later than the
#      asking store, it gives no answer.  A restore has no epoch to compare.  So the recovery first ends the
#      open attempt (`StoreGuard.settle`).
#   3. An attempt is forced, and has no final copy.  The guard refuses a restore, because the target becomes
#      the owner.  The courier ignores this case: the attempt itself decides which system may serve.
#   4. The guard has one kind of refusal.  The courier has two: no answer yet, and FENCED, which says that the
#      store of the system is old.
#
# `_asking` checks `claimed` first, as the courier does.  If the owner is known, `claimed` is "", so only one
# of the first two facts holds.  If the owner was removed, both may be true.  In this case `_asking` names the
# system that shows the store, because the operator can act there.  A mistake in `_asking` gives a wrong text
# only, and never two owners.

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from hcall_abi.control_views import CustodyView
from hcall_server.console.entries import record
from hcall_server.platform.custody import Custody, Mode

if TYPE_CHECKING:
    from hcall_server.console.registry import Registry
    from hcall_server.console.systems import KnownSystem

_BETWEEN = (Mode.WAITING.value, Mode.IN_DOUBT.value)
"""Modes of a source that waits for the other system of its attempt."""


def reason(registry: Registry, system: KnownSystem, uuid: str) -> str:
    """Return why a partition is not served yet, with the remedy; "" if it does not wait."""
    fact = next((each for each in registry.facts_of(system) if each.uuid == uuid), None)
    if fact is None:
        return ""
    if fact.mode == Mode.ASKING.value:
        return _asking(registry, system, fact)
    if fact.mode in _BETWEEN or record(fact) is Custody.PREPARED:
        return _other_end(registry, fact)
    return ""


def _asking(registry: Registry, system: KnownSystem, fact: CustodyView) -> str:
    """Return why the console does not permit the start of a partition (R-54)."""
    if not system.connected:
        return f"{system.name} is away, and asks this console when it is back"
    if place := registry.claimed(system, fact.uuid):
        return shown_by(place, fact.name)
    entry = registry.of(fact.uuid)
    if entry and entry.owner not in ("", system.system_id):
        return f"it belongs to {registry.name_of(entry.owner)}"
    if entry and entry.final:
        return f"the attempt {entry.epoch} brings it to {registry.name_of(entry.target)}"
    if later := _prepared_at(registry, fact.uuid):
        return f"{later} holds a later copy of it: `lslparmigr -r lpar -m {shlex.quote(later)}` shows it"
    return "the answer of this console is on its way"


def shown_by(place: str, name: str) -> str:
    """Return the message that another system shows the store of a partition, with remedies."""
    other, lpar = shlex.quote(place), shlex.quote(name)
    deleted = f"delete one of the two, such as by `swpks hmc delete {lpar} -m {other}`"
    return f"{place} shows its store; {deleted}; if {place} is lost: `swpks hmc remove-system {other}`"


def _prepared_at(registry: Registry, uuid: str) -> str:
    """Return the name of a system that has a copy of the partition by an attempt, "" for none."""
    facts = registry.facts(uuid)
    prepared = [each for each, fact in facts.items() if record(fact) is Custody.PREPARED]
    return registry.name_of(prepared[0]) if prepared else ""


def _other_end(registry: Registry, fact: CustodyView) -> str:
    """Return why the other system of an attempt does not answer, "" if it is connected."""
    peer = registry.system(fact.peer_id)
    if peer is None:
        return f"{registry.name_of(fact.peer_id)} is not at this console: `swpks hmc add-system WHERE`"
    return "" if peer.connected else f"{peer.name} is away: {peer.reason}"
