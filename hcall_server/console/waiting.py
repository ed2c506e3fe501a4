"""Reasons why a partition is not served, in words for the operator.

The log has them in the event `custody.unanswered`.
"""

# Three answers about the owner, and why they are not one function
#
# Three places look at the same facts: an owner elsewhere, another system that shows the store, and an attempt
# that brings it.  They decide about different acts:
#
#   `Courier._answer`     a system asks whether it may serve (`entries.answered`)
#   `StoreGuard.refusal`  an operator restores a copy of the store at a system
#   `_asking` below       a line for the operator, about a system that got no answer
#
# A common function of the register would permit other acts than today.  This was found by reading the code of
# all three, not by a trial:
#
#   1. A removed owner.  It counts as lost, so the guard ignores it (`owner_of`): a restore is the way to get
#      the partition back.  The courier compares ids, and keeps the asking system off: a removed system may
#      still serve.
#   2. A copy of an attempt that another system holds.  The courier gives no answer if the copy is later than
#      the question, by its epoch.  The guard has no question, so no epoch: an open attempt of a system that
#      has lost its stores is ended first (`StoreGuard.settle`).
#   3. A forced attempt without a final copy.  The guard refuses, because its target becomes the owner.  The
#      courier does not look at it here: the attempt itself says which end may serve.
#   4. No answer and FENCED differ.  A refusal is one text; an answer can also be that the store is old.
#
# The order.  `claimed` is "" for a partition whose owner is known, so of the first two facts only one holds.
# Both can hold for a removed owner alone.  Then `_asking` names the system that shows the store, as the
# courier checks `claimed` first: the operator can act there.  `_asking` only explains.  If it is wrong, a
# text is wrong, and no store has two owners.

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
    """Return why a partition of a system is not served, with the remedy; "" if it does not wait."""
    fact = next((each for each in registry.facts_of(system) if each.uuid == uuid), None)
    if fact is None:
        return ""
    if fact.mode == Mode.ASKING.value:
        return _asking(registry, system, fact)
    if fact.mode in _BETWEEN or record(fact) is Custody.PREPARED:
        return _other_end(registry, fact)
    return ""


def _asking(registry: Registry, system: KnownSystem, fact: CustodyView) -> str:
    """Return the reason why the console does not agree to the start of a partition (R-54)."""
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
    """Return a message with remedies: another system shows the store of this partition."""
    other, lpar = shlex.quote(place), shlex.quote(name)
    deleted = f"delete one of the two, such as by `swpks hmc delete {lpar} -m {other}`"
    return f"{place} shows its store; {deleted}; if {place} is lost: `swpks hmc remove-system {other}`"


def _prepared_at(registry: Registry, uuid: str) -> str:
    """Return the name of a system that holds a copy of an attempt, "" for none."""
    facts = registry.facts(uuid)
    prepared = [each for each, fact in facts.items() if record(fact) is Custody.PREPARED]
    return registry.name_of(prepared[0]) if prepared else ""


def _other_end(registry: Registry, fact: CustodyView) -> str:
    """Return why the other system of an attempt does not answer, "" if it is connected."""
    peer = registry.system(fact.peer_id)
    if peer is None:
        return f"{registry.name_of(fact.peer_id)} is not at this console: `swpks hmc add-system WHERE`"
    return "" if peer.connected else f"{peer.name} is away: {peer.reason}"
