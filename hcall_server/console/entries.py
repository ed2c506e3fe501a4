"""The console's register: which system owns a partition, and the state of its last attempt.  Pure.

    entry = heard(entry, system_id, fact)                   # after each custody that a system shows
    entry, word = answered(entry, system_id, fact, known)   # when a system asks

Each decision is a row of `hcall_server.platform.custody`.  An entry is durable before the console sends
anything that follows from it (`hcall_server.console.registry`).
"""

# The register of owners
#
# The console has one entry for each partition that it has moved, or restored at a system.  A system that does
# not know whether it owns the partition asks the console, and the entry decides.  So one entry makes one
# owner.  It must guarantee:
#
#   1. At most one system gets the answer that it may serve (RESUME, SERVE).  If the console has a new store,
#      the operator has to help with this (spec/migration.md#new-store).
#   2. A decision is never taken back: FORCED is never followed by RESUME in the same attempt, and ABORTED is
#      never followed by FORCED.
#   3. An entry can be rebuilt: a console with a new or an older store takes it from the views of its systems.
#   4. Each attempt ends once its systems are back.
#
# Two numbers say where a partition is.  `epoch` is the number of the last attempt, and `decision` belongs to
# it.  `moved` is the number of the attempt by which the partition came to its owner.  It does not change when
# later attempts fail.  A system that asks about an attempt up to `moved` gets FENCED.  An example shows why:
# a source is dead during a whole later migration.  By `epoch` alone it would get RESUME, because its attempt
# is older than the last one.  For the same reason an entry is never deleted.  A deletion of the partition
# only clears `owner`.
#
# This module is pure: entry and fact in, entry out.  So the search over all interleavings
# (tests/platform/test_custody_search.py) and the running console use the same rows, and a test needs no
# system.
#
# Conclusions that hold for ever
#
# A system shows only durable custody, and an epoch never comes back.  So these conclusions hold for ever,
# however old the view is:
#
#   - ARRIVED(e) at a system: it came to own the partition by e.  Sources of attempts up to e are fenced.
#   - GONE(e): the partition has left for the peer by e.
#   - OWN(e) or ARRIVED(e) at the source of an attempt up to e: that source has not released it, and never
#     will.  So the copy of its target can't be activated any more.
#   - NONE(e) at the target of an attempt up to e: it holds no copy, and takes none of this attempt.
#
# The last two conclusions end an attempt: it is `over`.  While an attempt is not over, its source may have
# released the partition.  So only its target may get the partition.  A second attempt may begin meanwhile.
# If the source has frozen for the first attempt, it refuses the second.  A late BEGIN of the first attempt
# may still arrive, so `others` has the target of the first attempt.  A remote restart bars all these targets.
#
# A console without an entry, or with an older store, takes the facts of its systems.  An earlier console may
# have forced the target of an attempt.  So a source in doubt gets an answer only after a view of the target.
#
# Dropped, because the search finds two owners or none (spec/migration.md#proof):
#
#   - The console ignored ACTIVE of an older attempt.  Then the register named a system without the partition.
#   - A restart barred only the target of the last attempt.  An earlier source could activate its own target.
#   - The console sent the end of an attempt to the target by its own decision, before a system showed it.

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from hcall_abi.bounds import MAX_EPOCH
from hcall_abi.control_bodies import CustodyWord
from hcall_abi.control_views import CustodyView
from hcall_abi.errors import OperatorError
from hcall_abi.rules import migration as rules
from hcall_server.platform import custody
from hcall_server.platform.custody import OWNING, Custody, Decision, Mode, Register, Standing, Word

Kind = Literal["", "live", "inactive", "restart"]


class Entry(NamedTuple):
    """The console's row of a partition, by its UUID.

    `epoch`, `decision` and `moved` are those of `custody.Register`.  `kind`, `source` and `target` belong to
    the attempt `epoch`.  `owner` is the present owner, "" if there is none or it is unknown.  Systems are
    named by their ids.

    `over`: the attempt can't move the partition any more.  `final` is the sealed copy that the target has to
    open, for an inactive migration or a restart; b"" for none.  `others` has the targets of earlier attempts
    since the last move, if these attempts are not over.
    """

    uuid: str
    name: str
    kind: Kind = ""
    epoch: int = 0
    decision: Decision = Decision.NEW
    moved: int = 0
    source: str = ""
    target: str = ""
    owner: str = ""
    over: bool = True
    final: bytes = b""
    others: tuple[str, ...] = ()

    @property
    def register(self) -> Register:
        """The part of the entry that the tables of custody change."""
        return Register(self.epoch, self.decision, self.moved)

    @property
    def open_targets(self) -> tuple[str, ...]:
        """The targets of all attempts that are not over, the present target last."""
        if self.over:
            return ()
        return (*(each for each in self.others if each != self.target), self.target)

    def _behind(self, row: custody.ConsoleRow, epoch: int) -> Entry:
        now = custody.decided(self.register, row, epoch)
        return self._replace(epoch=now.epoch, decision=now.decision, moved=now.moved)

    def __repr__(self) -> str:
        return f"Entry({self.name!r}, {self.kind} {self.epoch} {self.decision.value}, moved {self.moved})"


class Carried(NamedTuple):
    """A word for a system: the body of `tellCustody`."""

    uuid: str
    epoch: int
    word: CustodyWord
    generation: int = 0
    peer: str = ""


Facts = Mapping[str, CustodyView]
"""The custody of one partition on several systems, by their ids."""
NO_FACTS: Facts = MappingProxyType({})
"""Nothing is known."""


def record(fact: CustodyView) -> Custody:
    """Return the custody of a view."""
    return Custody[fact.custody.upper()]


def said(fact: CustodyView) -> set[Word]:
    """Return the words that follow from a view by the table `custody.SAYS`."""
    return {each.word for each in custody.says(Standing(record(fact), Mode(fact.mode), fact.epoch))}


def asks(fact: CustodyView) -> bool:
    """Return whether a system waits for an answer of the console about its partition."""
    return Word.ASK in said(fact)


# Facts of a system


def heard(entry: Entry | None, system: str, fact: CustodyView) -> Entry | None:
    """Return the entry after a fact of a system; None if the fact changes nothing."""
    # No console gives out such a number.  An entry with it would leave no number for a new attempt.
    if fact.epoch > MAX_EPOCH:
        return entry
    at = record(fact)
    known = entry or Entry(fact.uuid, fact.name)
    if at is Custody.ARRIVED:
        changed = _arrived(known, system, fact)
    elif at is Custody.GONE and fact.epoch > known.moved and fact.peer_id:
        changed = _moved(known, fact.epoch, source=system, owner=fact.peer_id)
    elif entry and at is Custody.OWN and 0 < known.moved <= fact.epoch and not known.owner and not asks(fact):
        changed = known._replace(owner=system)  # it was deleted at its owner, and restored here
    elif at is Custody.OWN and fact.epoch > known.epoch:  # the console's store is too old
        changed = known._replace(
            epoch=fact.epoch,
            decision=Decision.ABORTED,
            moved=fact.epoch,
            source=system,
            target=fact.peer_id,
            owner=system,
            over=True,
            final=b"",
            others=(),
        )
    elif at is Custody.PREPARED and fact.epoch > known.epoch:
        # The store of the console is too old here as well.  An earlier console may have sent RESUME to the
        # source.  So the target is never forced.
        changed = _opened(known, fact.peer_id, system, fact.epoch)._replace(decision=Decision.ABORTED)
    else:
        changed = _ended(known, system, at, fact.epoch)
    return entry if entry is None and changed == known else changed


def _arrived(known: Entry, system: str, fact: CustodyView) -> Entry:
    row = custody.console_step(known.register, Word.ACTIVE, fact.epoch)
    if row is not None and 0 < fact.epoch == known.epoch:
        done = known._behind(row, fact.epoch)
        return done._replace(owner=system, over=True, final=b"", name=fact.name, others=())
    if fact.epoch > known.moved:
        return _moved(known, fact.epoch, source=fact.peer_id, owner=system)
    if fact.epoch == known.moved and known.owner:  # the last move has one target: this system
        return known._replace(owner=system)
    return known


def _moved(known: Entry, epoch: int, *, source: str, owner: str) -> Entry:
    """Return the entry after its partition has moved from `source` to `owner` by the attempt `epoch`."""
    if epoch < known.epoch:
        if source == known.source:  # its later attempt moves nothing now
            known = known._replace(over=True)
        others = tuple(each for each in known.others if each != owner)
        return known._replace(moved=epoch, owner=owner, others=others)
    return known._replace(
        epoch=epoch,
        decision=Decision.DONE,
        moved=epoch,
        source=source,
        target=owner,
        owner=owner,
        over=True,
        final=b"",
        others=(),
    )


def _ended(known: Entry, system: str, at: Custody, epoch: int) -> Entry:
    """Return the entry after the console has seen a system's custody record.

    If the record proves that open attempts are over, the entry says so.
    """
    # A record of an earlier attempt says nothing about the present one.  Messages of the present attempt may
    # still arrive.
    if known.over or epoch < known.epoch:
        return known
    forced = known.decision is Decision.FORCED
    # This does not hold for a forced attempt.  A dead source may come back with its old record, although the
    # target gets the partition.
    if system == known.source and at in OWNING and not forced:
        return known._replace(over=True, others=())
    # Two cases end no attempt.  The system may still have a copy.  Or the attempt is forced, and NONE may
    # only mean that the copy has not arrived yet.
    if at is not Custody.NONE or (forced and epoch == known.epoch):
        return known
    others = tuple(each for each in known.others if each != system)
    return known._replace(others=others, over=system == known.target and not others)


# Decisions


def next_epoch(entry: Entry | None, facts: Iterable[CustodyView]) -> int:
    """Return the number of a new attempt: larger than all numbers that the console or a system knows.

    OperatorError if no number is left.
    """
    # An attempt that ended before FROZEN is only in `tried`.  Its number must not be used again.
    known = [max(fact.epoch, fact.tried) for fact in facts]
    last = max([entry.epoch if entry else 0, *known])
    if last >= MAX_EPOCH:
        raise OperatorError(rules.CUSTODY_EPOCH, f"the attempt {last} was the last one: no number is left")
    return last + 1


def begun(entry: Entry, kind: Kind, epoch: int, source: str, target: str) -> Entry:
    """Return the entry of a new attempt (row 1).

    OperatorError if another system than the source is the owner.  OperatorError as well if the last attempt
    was forced, or still brings a copy to its target.
    """
    if entry.final or entry.decision is Decision.FORCED:
        raise _busy(entry)
    # Without this check, a partition can end with no owner, or with two.
    if entry.owner not in ("", source):
        raise OperatorError(rules.CUSTODY_OWNED, f"{entry.name} belongs to the system {entry.owner}")
    others = entry.open_targets
    now = renumbered(entry, epoch)
    return now._replace(kind=kind, source=source, target=target, owner=source, others=others)


def renumbered(entry: Entry, epoch: int) -> Entry:
    """Return the entry with a new number for its attempt (row 1), as a bar needs it."""
    row = custody.console_step(entry.register, Word.BEGIN, epoch)
    if row is None:
        raise _busy(entry)
    return entry._behind(row, epoch)._replace(over=False)


def aborted(entry: Entry, *, over: bool = False) -> Entry:
    """Return the entry, never forced from now on (row 10); unchanged if it was forced or is done."""
    row = custody.console_step(entry.register, Word.ASK, entry.epoch)
    if row is None or row.says is not Word.RESUME:
        return entry
    return entry._behind(row, entry.epoch)._replace(over=entry.over or over)


def forced(entry: Entry, fact: CustodyView | None) -> Entry:
    """Return the entry whose target is forced (row 14).

    `fact` is the custody that the target shows.  OperatorError if the target has no copy of this attempt, or
    if the source was permitted to resume.
    """
    row = custody.console_step(entry.register, Word.FORCE, entry.epoch)
    attempt = f"the attempt {entry.epoch} of {entry.name}"
    if row is None:
        raise OperatorError(rules.MIGRATION_FORCE, f"{attempt} is {entry.decision.value}")
    # Without PREPARED the target has no copy to serve, and the partition would have no owner.
    if fact is None or (record(fact), fact.epoch) != (Custody.PREPARED, entry.epoch):
        raise OperatorError(rules.MIGRATION_FORCE, f"the target has no copy of {attempt}")
    return entry._behind(row, entry.epoch)._replace(owner=entry.target, over=False)


def restarted(entry: Entry, kind: Kind, epoch: int, source: str, target: str, final: bytes) -> Entry:
    """Return the entry after a restart is decided (row 20); `target` has to open the copy `final`."""
    row = custody.console_step(entry.register, Word.RESTART, epoch)
    if row is None or not entry.over:
        raise _busy(entry)
    now = entry._behind(row, epoch)
    now = now._replace(kind=kind, source=source, target=target, owner=target)
    return now._replace(over=False, final=final, others=())


def _busy(entry: Entry) -> OperatorError:
    message = f"the attempt {entry.epoch} of {entry.name} is {entry.decision.value}"
    return OperatorError(rules.CUSTODY_IDLE, f"{message}: bring it to its end first", advised=True)


def answered(
    entry: Entry | None,
    system: str,
    fact: CustodyView,
    known: Collection[str],
    facts: Facts = NO_FACTS,
    *,
    claimed: bool = False,
) -> tuple[Entry | None, Carried] | None:
    """Return the entry and the answer to a system that asks; None if there is no answer yet.

    `known` are the systems with a view since the start of the console, and `facts` come from these views.
    `claimed` means: another system shows a store of the partition, and the register has no owner.
    """
    if fact.epoch > MAX_EPOCH:
        return None
    if fact.mode == Mode.ASKING.value:
        return None if claimed else _agreed(entry, system, fact, facts)
    if entry is None or fact.epoch > entry.epoch or entry.decision is Decision.NEW:
        # An earlier console began this attempt, and may have forced the target.  Only a view of the target
        # can show that.
        if fact.peer_id not in known:
            return None
        entry = _opened(entry or Entry(fact.uuid, fact.name), system, fact.peer_id, fact.epoch)
    # An attempt before the last one is decided already.  So the answer depends on `moved` alone.
    if fact.epoch < entry.epoch:
        word = custody.answer(entry.register, fact.epoch)
    else:
        row = custody.console_step(entry.register, Word.ASK, fact.epoch)
        if row is None or row.says is None:
            return None
        entry, word = entry._behind(row, fact.epoch), row.says
    if word is Word.FENCED:
        return entry, Carried(fact.uuid, fact.epoch, "fenced", peer=entry.owner)
    return entry, Carried(fact.uuid, fact.epoch, "resume")


def _opened(entry: Entry, source: str, target: str, epoch: int) -> Entry:
    """Return the entry of an attempt that only the systems know, because the console's store is too old."""
    others = entry.open_targets
    return entry._replace(
        kind="live",
        epoch=epoch,
        decision=Decision.OPEN,
        source=source,
        target=target,
        owner=source,
        over=False,
        final=b"",
        others=others,
    )


def _agreed(
    entry: Entry | None, system: str, fact: CustodyView, facts: Facts
) -> tuple[Entry | None, Carried] | None:
    """Return the answer to a system that has started (R-54): only the owner serves.

    If another system has a later copy of this store, the asking system has lost records, and gets no answer.

    A deleted partition has no owner.  The first system that asks about it becomes the owner.  A system whose
    epoch is before the last move gets FENCED instead.
    """
    if entry and not entry.owner:
        if fact.epoch < entry.moved:
            return entry, Carried(fact.uuid, entry.moved, "fenced", peer=entry.target)
        entry = entry._replace(owner=system)
    if entry is None or entry.owner == system:
        # No system can activate a copy of an attempt that is over.  So such a copy does not delay the answer.
        over = max(entry.moved, entry.epoch if entry.over else 0) if entry else 0
        since = max(fact.epoch, over)
        later = any(record(each) is Custody.PREPARED and each.epoch > since for each in facts.values())
        if later or (entry and entry.final):
            return None
        return entry, Carried(fact.uuid, fact.epoch, "serve")
    if entry.moved > fact.epoch:
        return entry, Carried(fact.uuid, entry.moved, "fenced", peer=entry.owner)
    return None
