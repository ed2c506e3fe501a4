"""The durable decisions of the console, held against the state of the world in the moment of each.

A decision that is wrong may break a promise much later, or only by a further fault.  So each one is judged
when it is stored.  Each word of the console has to follow from a stored one.
"""

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
"""The decisions that may follow about the same attempt."""


class DecisionWatch:
    """Looks at each entry of the register that the console stores, and at each word that follows."""

    def __init__(self, sites: Mapping[str, Site], records: DurableRecords, trace: Trace) -> None:
        self._sites = sites
        self._records = records
        self._trace = trace
        self._stored: dict[UUID, list[Entry]] = {}

    def __repr__(self) -> str:
        return f"DecisionWatch({self._stored!r})"

    def entered(self, entry: Entry) -> None:
        """Judge an entry that is durable now."""
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
        elif entry.epoch <= self._records.largest(uuid):
            self._trace.fail(f"the console gives the number {entry.epoch} twice: {entry!r}")
        if entry.decision is Decision.FORCED and (before.decision, before.epoch) != (
            Decision.FORCED,
            entry.epoch,
        ):
            self._forced(uuid, before, entry)

    def _forced(self, uuid: UUID, before: Entry, entry: Entry) -> None:
        """Judge a decision that gives a partition to a target without the agreement of its source."""
        target = self._at(entry.target)
        if entry.kind == "live":
            if target and not self._has_copy(target, uuid, entry.epoch):
                self._trace.fail(f"the console forces {target.name}, which has no copy: {entry!r}")
            return
        self._demand_barred(uuid, entry)
        again = (before.kind, before.decision, before.target) == ("restart", Decision.FORCED, entry.target)
        if entry.kind == "restart" and not again:
            self._demand_away(uuid, entry)

    def _has_copy(self, target: Site, uuid: UUID, epoch: int) -> bool:
        """Whether a system has the copy of an attempt now, or owns the partition by it already."""
        now = self._records.at(target.name, uuid)
        return now.custody in (Custody.PREPARED, Custody.ARRIVED) and now.epoch == epoch

    def _demand_barred(self, uuid: UUID, entry: Entry) -> None:
        """No system has a copy that a source of an earlier attempt may still activate."""
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
        """The source can't be reached, or it has released the partition for ever."""
        source = self._at(entry.source)
        if source is None or source.machine is None or source.line.away or source.line.unanswered:
            return
        if self._records.at(source.name, uuid).custody in (*OWNING, Custody.FROZEN):
            self._trace.fail(f"the console restarts a partition whose source {source.name} is connected")

    def heard(self, site: Site, word: HeardWord) -> None:
        """Judge a word of the console: a stored decision says it, and of SERVE and FENCED the last one."""
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
        """Whether a system owns a partition: by the last entry, or without one because no other has it."""
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
    """Whether an entry says a word about an attempt to a system; a bar has no entry of its own in FORCED."""
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
