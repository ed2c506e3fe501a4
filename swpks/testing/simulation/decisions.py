"""Checks of the console's decisions against the durable records of all systems at that moment.

A wrong decision may break a promise much later, or only after a further fault.  So each decision is checked
when the console stores it.  Each word that the console sends must follow from a stored decision.
"""

# The check knows more than the console: the durable records of all systems, also of those that are dead or
# cut off. But a decision is wrong only if the console could have known better. A restart is wrong if the
# source was connected and owned the partition. It is not wrong if the source ran and could not be reached.
# Such an order is a mistake of the operator, and R-54 fences the source.
#
# Two weaker checks were dropped. The first allowed SERVE and FENCED by any entry that was ever stored. A
# SERVE to a former owner was then found only when two systems served (seed 7). The second allowed a forced
# target that had ever had the copy. Now the last entry and the present record count
# (tests/simulation/test_decisions.py).

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from hcall_server.console.entries import Entry
from hcall_server.platform.custody import OWNING, Custody, Decision, Word
from swpks.testing.simulation.records import DurableRecords, HeardWord

if TYPE_CHECKING:
    from swpks.testing.simulation.sites import Site
    from swpks.testing.simulation.trace import Trace

_FURTHER: Mapping[Decision, frozenset[Decision]] = {
    Decision.NEW: frozenset(Decision),
    Decision.OPEN: frozenset({Decision.OPEN, Decision.ABORTED, Decision.FORCED, Decision.DONE}),
    Decision.ABORTED: frozenset({Decision.ABORTED, Decision.DONE}),
    Decision.FORCED: frozenset({Decision.FORCED, Decision.DONE}),
    Decision.DONE: frozenset({Decision.DONE}),
}
"""The decisions that may follow each decision about the same attempt."""


class DecisionWatch:
    """Checks each entry that the console stores about a partition, and each word that follows from it."""

    def __init__(self, sites: Mapping[str, Site], records: DurableRecords, trace: Trace) -> None:
        self._sites = sites
        self._records = records
        self._trace = trace
        self._stored: dict[UUID, list[Entry]] = {}

    def __repr__(self) -> str:
        return f"DecisionWatch({self._stored!r})"

    def entered(self, entry: Entry) -> None:
        """Check an entry that is durable now; a wrong entry is a failure of the simulation."""
        uuid = UUID(entry.uuid)
        known = self._stored.setdefault(uuid, [Entry(entry.uuid, entry.name)])
        before = known[-1]
        if entry == before:
            return
        known.append(entry)
        self._trace.note("console", f"stores {entry!r}")
        if entry.epoch < before.epoch or entry.moved < before.moved:
            self._trace.fail(f"the console forgets {before!r}: {entry!r}")
        elif entry.epoch == before.epoch:
            if entry.decision not in _FURTHER[before.decision]:
                self._trace.fail(f"the console takes back {before!r}: {entry!r}")
        # This is a new attempt. No system may have stored its number before, not even one that the console
        # can't reach. Otherwise a late word of an older attempt would count for the new one.
        elif entry.epoch <= self._records.largest(uuid):
            self._trace.fail(f"the console gives the number {entry.epoch} twice: {entry!r}")
        if entry.decision is Decision.FORCED and (before.decision, before.epoch) != (
            Decision.FORCED,
            entry.epoch,
        ):
            self._forced(uuid, before, entry)

    def _forced(self, uuid: UUID, before: Entry, entry: Entry) -> None:
        """Check a decision by which a partition goes to a target although its source has not agreed."""
        target = self._at(entry.target)
        if entry.kind == "live":
            if target and not self._has_copy(target, uuid, entry.epoch):
                self._trace.fail(f"the console forces {target.name}, which has no copy: {entry!r}")
            return
        self._demand_barred(uuid, entry)
        # The console may repeat a decision for the same target. The source may be back by then, so it is not
        # checked again.
        again = (before.kind, before.decision, before.target) == ("restart", Decision.FORCED, entry.target)
        if entry.kind == "restart" and not again:
            self._demand_away(uuid, entry)

    def _has_copy(self, target: Site, uuid: UUID, epoch: int) -> bool:
        """Whether a system has the copy of an attempt, or owns the partition because of that attempt."""
        now = self._records.at(target.name, uuid)
        return now.custody in (Custody.PREPARED, Custody.ARRIVED) and now.epoch == epoch

    def _demand_barred(self, uuid: UUID, entry: Entry) -> None:
        """Fail if a system has a copy, and the source of that earlier attempt may still activate it."""
        for site in self._sites.values():
            copy = self._records.at(site.name, uuid)
            if copy.custody is not Custody.PREPARED:
                continue
            for other in self._sites.values():
                left = self._records.at(other.name, uuid)
                if left.custody in (Custody.FROZEN, Custody.RELEASED) and left.epoch == copy.epoch:
                    at = f"{site.name} is {copy}, and {other.name} {left}"
                    self._trace.fail(f"the console restarts a partition without a bar: {at}")

    def _demand_away(self, uuid: UUID, entry: Entry) -> None:
        """Fail if the source can be reached and has not released the partition."""
        source = self._at(entry.source)
        if source is None or source.machine is None or source.line.away or source.line.unanswered:
            return
        if self._records.at(source.name, uuid).custody in (*OWNING, Custody.FROZEN):
            self._trace.fail(f"the console restarts a partition whose source {source.name} is connected")

    def heard(self, site: Site, word: HeardWord) -> None:
        """Check that the console has stored an entry that allows this word.

        For SERVE and FENCED, the last entry must allow the word.
        """
        # SERVE and FENCED are about the present owner. The other words have the epoch of their attempt. If
        # such a word comes late, the system refuses it. So any stored entry may allow it.
        if word.on not in _OF_CONSOLE:
            return
        stored = self._stored.get(word.uuid, [])[1:]
        if word.on is Word.SERVE:
            right = self._may_serve(site, word.uuid, stored)
        elif word.on is Word.FENCED:
            right = bool(stored) and stored[-1].owner != site.system_id and stored[-1].moved >= word.epoch
        else:
            right = any(_says(each, word, site.system_id) for each in stored)
        if not right:
            said = f"{word.on.value}({word.epoch})"
            self._trace.fail(f"{site.name} hears {said}, and the console has stored nothing like it")

    def _may_serve(self, site: Site, uuid: UUID, stored: Sequence[Entry]) -> bool:
        """Whether the console may let a system serve a partition.

        `stored` are the console's entries about the partition.  The last entry must name the system as the
        owner.  If there is no entry, the system must be the only owner by the records of all systems.
        """
        if stored:
            return stored[-1].owner == site.system_id
        owners = [name for name in self._sites if self._records.at(name, uuid).custody in OWNING]
        return owners == [site.name]

    def _at(self, system_id: str) -> Site | None:
        return next((each for each in self._sites.values() if each.system_id == system_id), None)


_OF_CONSOLE = frozenset(
    {Word.BEGIN, Word.RELEASE, Word.COPY, Word.FORCE, Word.RESUME, Word.FENCED, Word.SERVE}
)


def _says(entry: Entry, word: HeardWord, system_id: str) -> bool:
    """Whether an entry allows the console to send this word to this system.

    A restart ends all older attempts, and the console stores no entry for each of them.  So its entry also
    allows RESUME for these attempts.
    """
    same = entry.epoch == word.epoch
    match word.on:
        case Word.BEGIN | Word.RELEASE:
            return same and entry.source == system_id
        case Word.COPY:
            return same and entry.target == system_id and bool(entry.final)
        case Word.FORCE:
            return same and entry.target == system_id and entry.decision is Decision.FORCED
        case _:
            return entry.moved < word.epoch < entry.epoch or (same and entry.decision is Decision.ABORTED)
