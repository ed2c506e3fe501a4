"""A stored system: the anchor card, the TPMs and NVRAM, read and checked against each other at a start.

`platform/root_key.py` has the decision about the copies of the root key.  This module carries it out:

- New system: one commit has the wrapped copies, the system record and the commit record.  The mark is written
  after this commit, and the card last.
- Usual start: the records must not be older than the mark.  Missing copies of the root key are restored.
- Recovery: as in a usual start, but NVRAM has no system record.
- Reset pending: copies of the card's key are wrapped.  No record is read.

A start that is killed before the first commit leaves nothing.  A start that is killed after the first commit
leaves everything but the card.  If the system record is missing, the system was cleared.

Records of sealed level 1 are converted in one commit.  They must not be older than the mark.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from hcall_abi.counts import counted
from hcall_server.components.seam import Card, Components
from hcall_server.keystore.store import Entropy
from hcall_server.machine.machine import Transport
from hcall_server.nvram.names import COMMIT, SYSTEM
from hcall_server.nvram.seam import Nvram
from hcall_server.platform.identity import SEALED_LEVEL, SystemIdentity
from hcall_server.platform.root_key import (
    AccessAccount,
    AccessStep,
    CardFinding,
    PartReport,
    RootKeyRow,
    StartOutcome,
    decide,
)
from hcall_server.platform.system_state import SystemState
from hcall_server.sealing import CommitAuthority, CommitRecord, Sealer, SystemRecord, seal_system
from hcall_server.service.age import AgeCheck
from hcall_server.service.key_copies import (
    WRAPPED,
    KeyCopies,
    holds_old_records,
    read_copies,
    records_finding,
)
from hcall_server.service.key_steps import steps_of
from hcall_server.service.layout import ANCHOR_CARD, SERVICE_PROCESSOR
from hcall_server.writeback.commits import Commits, record_id

Records = Mapping[str, bytes]
_FIRST_COMMIT = 1

_STATES = {
    StartOutcome.NEW_SYSTEM: SystemState.OPERATING,
    StartOutcome.OPERATE: SystemState.OPERATING,
    StartOutcome.RECOVERY: SystemState.RECOVERY,
    StartOutcome.RESET_PENDING: SystemState.RESET_PENDING,
}


class Stored(NamedTuple):
    """A stored system: state, identity, records, and the writer of commits.

    `missing` is the number of commits that accepted older records lack.  Each partition skips as many IPL
    counts before it is served.  `access` is the account of the start.
    """

    state: SystemState
    identity: SystemIdentity
    sealer: Sealer
    records: Records
    commits: Commits
    access: AccessAccount
    missing: int = 0

    @property
    def commit(self) -> CommitRecord:
        """The commit record that the records were checked against."""
        return self.commits.last


class _Ready(NamedTuple):
    """The writer of further commits.  `missing` is the number of commits that accepted older records lack."""

    commits: Commits
    missing: int = 0


class Opening:
    """One start on components and NVRAM; `entropy` makes new ids and keys.

    `accept_older`: go on with NVRAM that is older than its high-water mark, or has none
    (spec/sealed.md#high-water-mark).  `standby`: refuse NVRAM without any record, if the card holds a key.
    """

    def __init__(
        self,
        components: Components,
        nvram: Nvram,
        entropy: Entropy,
        transport: Transport,
        *,
        accept_older: bool = False,
        standby: bool = False,
    ) -> None:
        self._components = components
        self._nvram = nvram
        self._entropy = entropy
        self._transport = transport
        self._age = AgeCheck(nvram, accept_older=accept_older)
        self._standby = standby

    def open(self, record: SystemRecord) -> Stored:
        """Return the stored system; a new one begins with the system record `record`.

        StorageError if copies of the key differ or are lost.  StorageError also if records are lost,
        damaged or older than the mark.  Each reason has its own rule.
        """
        records = self._nvram.load()
        copies = read_copies(self._components, records)
        identity = copies.candidate
        first = _first_start_of_level_1(copies, records) and not self._transport.known_names()
        card = CardFinding.NEW if first else copies.card_finding
        row = decide(card, copies.findings, records_finding(records, identity))
        if row.outcome is StartOutcome.STOP:
            from hcall_server.service.key_stops import stop_of

            raise stop_of(row, copies, records, prefixed=self._nvram.always_newest)
        if identity is None:
            return self._begun(SystemIdentity.make(self._entropy), record, copies, row, records)
        if row.outcome is StartOutcome.RESET_PENDING:
            return self._pending(identity, copies, row, records)
        if first:
            return self._begun(identity, record, copies, row, records)
        return self._continued(identity, copies, row, records)

    def _begun(
        self,
        identity: SystemIdentity,
        record: SystemRecord,
        copies: KeyCopies,
        row: RootKeyRow,
        records: Records,
    ) -> Stored:
        """Make a new system: one commit, then its mark, then the card.  The card promises the other two."""
        from hcall_server.service.key_repair import demand_stored, wrap_all, write_card

        if not records:
            self._age.demand_new()
        identity = identity._replace(sealed_level=SEALED_LEVEL)
        tpms = self._components.tpms
        sealer = Sealer(identity, self._entropy)
        wrapped = wrap_all(tpms, identity)
        commits = Commits(self._nvram, CommitAuthority(identity.root_key))
        commits.make({**wrapped, SYSTEM: seal_system(sealer, record)})
        demand_stored(self._nvram, wrapped)
        card = self._components.anchor_card
        write_card(card, Card(identity))
        made = [PartReport(ANCHOR_CARD, "card", "agrees", "it was new; a root key was made")]
        made += [PartReport(tpm.name, tpm.kind, "agrees", "it has wrapped the new root key") for tpm in tpms]
        return self._stored(SystemState.OPERATING, identity, copies, row, made, _Ready(commits), None)

    def _continued(
        self, identity: SystemIdentity, copies: KeyCopies, row: RootKeyRow, records: Records
    ) -> Stored:
        """Go on with a stored system: check the mark, then restore the copies that are missing."""
        ready = self._checked(identity, copies, records)
        identity = identity._replace(sealed_level=SEALED_LEVEL)
        if copies.complete:
            reports, changed = copies.agreeing(), False
        else:
            reports, changed = self._restored(identity, copies, ready.commits)
        kept = None if changed or holds_old_records(records) else records
        return self._stored(_STATES[row.outcome], identity, copies, row, reports, ready, kept)

    def _restored(
        self, identity: SystemIdentity, copies: KeyCopies, commits: Commits
    ) -> tuple[list[PartReport], bool]:
        """Restore the copies that are missing; return the reports, and whether records have changed."""
        from hcall_server.service.key_repair import demand_stored, restore_card, wrap_missing

        # First all wrapped copies in one commit, then the card.  A kill between them leaves fewer missing
        # copies than before.
        wrapping = wrap_missing(copies, identity)
        if wrapping.changes:
            commits.make(wrapping.changes)
            demand_stored(self._nvram, wrapping.changes)
        card = restore_card(self._components.anchor_card, copies, identity)
        return [card, *wrapping.reports], bool(wrapping.changes)

    def _pending(
        self, identity: SystemIdentity, copies: KeyCopies, row: RootKeyRow, records: Records
    ) -> Stored:
        """Wrap the key that Clear All has made.  All records are of the old key, and none is read."""
        from hcall_server.service.key_repair import demand_stored, wrap_missing

        wrapping = wrap_missing(copies, identity)
        if wrapping.changes:
            self._nvram.commit(wrapping.changes)
            demand_stored(self._nvram, wrapping.changes)
        reports = [PartReport(ANCHOR_CARD, "card", "agrees", copies.card_finding.value), *wrapping.reports]
        commits = Commits(self._nvram, CommitAuthority(identity.root_key))
        return self._stored(SystemState.RESET_PENDING, identity, copies, row, reports, _Ready(commits), None)

    def _checked(self, identity: SystemIdentity, copies: KeyCopies, records: Records) -> _Ready:
        """Compare the records with the mark, and make the mark durable again.

        If older records are accepted, the numbers of new commits continue from the mark.  Until the next
        commit, the mark stays above the records.  If this start is killed before that commit, the next
        start is refused again.
        """
        authority = CommitAuthority(identity.root_key)
        if holds_old_records(records):
            return self._converted(identity, authority, records)
        if COMMIT not in records:
            self._age.demand_new()
            if self._standby and not records:
                self._age.refuse_empty()
            return _Ready(Commits(self._nvram, authority))
        last = authority.decode(records[COMMIT])
        promised = _promises_mark(copies, last)
        missing, genuine = self._age.of_level_2(authority, last, promised=promised)
        last = last._replace(number=last.number + missing)
        # The mark is made durable before the settings are applied.  It cannot wait: the next commit may
        # follow at once, and writes the other slot.
        #
        # A start that is refused after this point leaves the mark.  That harms nothing.  The mark has the
        # number of the last commit, and the next start finds the same.  If older records were accepted, the
        # mark is above them, and the next start refuses them again.
        self._nvram.mark.make_durable(authority.mark(last.number), genuine)
        return _Ready(Commits(self._nvram, authority, last), missing)

    def _converted(self, identity: SystemIdentity, authority: CommitAuthority, records: Records) -> _Ready:
        """Convert records of level 1.  The same commit skips the IPL counts that older records lack."""
        from hcall_server.sealing.level_1 import OldSealer
        from hcall_server.writeback.convert import converted

        sealer = Sealer(identity, self._entropy)
        old, known_key = OldSealer(identity), self._transport.known_key
        changes = converted(records, old, sealer, self._entropy, known_key, self._age.of_level_1())
        commits = Commits(self._nvram, authority)
        commits.make(changes)
        # Write a mark for the new records.  These records may have been accepted beside a mark of level 2,
        # which the other slot may still hold.
        self._nvram.mark.note(authority.mark(commits.last.number))
        return _Ready(commits)

    def _stored(
        self,
        state: SystemState,
        identity: SystemIdentity,
        copies: KeyCopies,
        row: RootKeyRow,
        reports: Iterable[PartReport],
        ready: _Ready,
        kept: Records | None,
    ) -> Stored:
        """Return what this start has found: the state, the identity, the records and the report about access.

        `kept` are the records that were read before.  If this start has changed records, `kept` is None, and
        NVRAM is read again.
        """
        card, *tpms = reports
        stored = self._nvram.load() if kept is None else kept
        # After Clear All the card has a new key, which opens no record.
        records = {} if state is SystemState.RESET_PENDING else stored
        held = sorted(WRAPPED & stored.keys())
        wrapped = f"{', '.join(held)}; " if held else ""
        presence = "present" if held else "none"
        parts = (
            card,
            PartReport(SERVICE_PROCESSOR, "nvram", presence, f"{wrapped}{counted(len(stored), 'record')}"),
            *tpms,
        )
        steps: tuple[AccessStep, ...] = steps_of(copies, row, parts, len(records))
        sealer = Sealer(identity, self._entropy)
        access = AccessAccount(row.id, row.outcome, steps, parts)
        return Stored(state, identity, sealer, records, ready.commits, access, ready.missing)


def _first_start_of_level_1(copies: KeyCopies, records: Records) -> bool:
    """Whether a first start of sealed level 1 was killed.  Level 1 wrote its card before any record."""
    card = copies.card
    return card is not None and card.identity.sealed_level < SEALED_LEVEL and not records


def _promises_mark(copies: KeyCopies, last: CommitRecord) -> bool:
    """Whether the mark must be there: the card or a later commit promises it.

    A first start writes the mark before its card.  So if there is no card, the mark of the first commit may
    be missing.

    If the service processor was replaced, its first commit lists wrapped copies only.  The mark of this
    commit may be missing too.  That harms nothing: the state is Recovery, and no older record is served.
    """
    if last.number == _FIRST_COMMIT and set(last.records) <= {record_id(name) for name in WRAPPED}:
        return False
    if copies.card is None:
        return last.number > _FIRST_COMMIT
    return copies.card.identity.sealed_level >= SEALED_LEVEL
