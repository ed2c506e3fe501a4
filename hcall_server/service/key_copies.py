"""The copies of the PKS root key as a start finds them: read, unwrapped and compared (spec/root-key.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from hcall_abi.errors import LaterLevelError, StorageError
from hcall_server.components.seam import Card, Components, Tpm, TpmSilentError
from hcall_server.nvram.names import COMMIT, SYSTEM, parse_old_name, wrapped_name
from hcall_server.platform.identity import SEALED_LEVEL, SystemIdentity
from hcall_server.platform.root_key import CardFinding, CopyFinding, PartReport, RecordsFinding
from hcall_server.sealing import CommitAuthority
from hcall_server.sealing.commits import FIRST_SIZE
from hcall_server.sealing.wrapped_key import decode_wrapped, unpack_identity
from hcall_server.service.layout import ANCHOR_CARD
from hcall_server.writeback.commits import record_id

Records = Mapping[str, bytes]
_FIRST = {SYSTEM, COMMIT}
WRAPPED = frozenset({wrapped_name(1), wrapped_name(2)})
"""The names of all wrapped copies, also of a TPM that was removed."""


class WrappedCopy(NamedTuple):
    """A TPM and its wrapped copy: the identity in it, or the reason why it does not unwrap."""

    record_name: str
    tpm: Tpm
    present: bool
    identity: SystemIdentity | None
    trouble: StorageError | None

    def finding(self, candidate: SystemIdentity | None, *, pending: bool) -> CopyFinding:
        """Return the finding about this copy.

        `candidate` has the key of the anchor card or of another copy, for the comparison.
        """
        if not self.present:
            return CopyFinding.NONE
        if self.identity is None:
            silent = isinstance(self.trouble, TpmSilentError)
            return CopyFinding.SILENT if silent else CopyFinding.UNREADABLE
        if candidate is None or same_key(self.identity, candidate):
            return CopyFinding.AGREES
        if pending and self.identity.system_id == candidate.system_id:
            return CopyFinding.STALE
        return CopyFinding.DIFFERS


class KeyCopies(NamedTuple):
    """All copies of the root key at one start.  `damage` is the reason why the card can't be read."""

    card: Card | None
    damage: StorageError | None
    wrapped: tuple[WrappedCopy, ...]

    @property
    def candidate(self) -> SystemIdentity | None:
        """The key that all findings are relative to: that of the card, else of the first readable copy."""
        if self.card is not None:
            return self.card.identity
        return next((each.identity for each in self.wrapped if each.identity is not None), None)

    @property
    def card_finding(self) -> CardFinding:
        """The finding about the anchor card."""
        if self.damage is not None:
            return CardFinding.DAMAGED
        if self.card is None:
            return CardFinding.NEW
        return CardFinding.PENDING if self.card.reset_pending else CardFinding.HOLDS

    @property
    def findings(self) -> tuple[CopyFinding, ...]:
        """The findings about the wrapped copies, in the order of the TPMs."""
        pending = self.card is not None and self.card.reset_pending
        return tuple(each.finding(self.candidate, pending=pending) for each in self.wrapped)

    @property
    def complete(self) -> bool:
        """Whether no copy is missing, so that a start has nothing to restore."""
        level = self.card.identity.sealed_level if self.card else 0
        agree = all(finding is CopyFinding.AGREES for finding in self.findings)
        return agree and self.card_finding is CardFinding.HOLDS and level == SEALED_LEVEL

    def agreeing(self) -> list[PartReport]:
        """Return a report for each part that has a copy.  Only called if no copy is missing."""
        held = [(ANCHOR_CARD, "card"), *((each.tpm.name, each.tpm.kind) for each in self.wrapped)]
        return [PartReport(name, kind, "agrees", CopyFinding.AGREES.value) for name, kind in held]


def same_key(one: SystemIdentity, other: SystemIdentity) -> bool:
    """Whether two copies have the same system id and the same key; their sealed levels may differ."""
    return one[:2] == other[:2]


def read_copies(components: Components, records: Records) -> KeyCopies:
    """Read the anchor card, and have each TPM unwrap its copy; change nothing.

    LaterLevelError for a card of a later release.
    """
    damage = None
    try:
        card = components.anchor_card.read()
    except LaterLevelError:
        raise  # a card of a later release is not damaged: a repair would overwrite its key
    except StorageError as error:
        card, damage = None, error
    wrapped = tuple(_read_wrapped(tpm, slot, records) for slot, tpm in enumerate(components.tpms, 1))
    return KeyCopies(card, damage, wrapped)


def _read_wrapped(tpm: Tpm, slot: int, records: Records) -> WrappedCopy:
    name = wrapped_name(slot)
    if name not in records:
        return WrappedCopy(name, tpm, False, None, None)
    try:
        identity = unpack_identity(tpm.unseal(decode_wrapped(records[name]).blob))
    except StorageError as error:
        return WrappedCopy(name, tpm, True, None, error)
    return WrappedCopy(name, tpm, True, identity, None)


def records_finding(records: Records, identity: SystemIdentity | None) -> RecordsFinding:
    """Return whether the records, other than wrapped copies, open with the key in `identity`.

    `identity` is None if no key is readable.  LaterLevelError for a commit record of a later release.
    """
    # Only the commit record is checked (C-55).  A damaged partition record must stop its own partition, not
    # the whole system.
    others = records.keys() - WRAPPED
    if not others:
        return RecordsFinding.NONE
    if identity is None:
        return RecordsFinding.NONE if _of_a_first_start(records) else RecordsFinding.SHUT
    if COMMIT not in records:
        old = identity.sealed_level < SEALED_LEVEL
        return RecordsFinding.OPEN if old else RecordsFinding.SHUT
    try:
        commit = CommitAuthority(identity.root_key).decode(records[COMMIT])
    except LaterLevelError:
        raise
    except StorageError:
        return RecordsFinding.SHUT
    promised = SYSTEM in records or record_id(SYSTEM) in commit.records
    return RecordsFinding.OPEN if promised else RecordsFinding.NONE


def holds_old_records(records: Records) -> bool:
    """Whether records of sealed level 1 are in NVRAM, and no commit record."""
    return COMMIT not in records and (SYSTEM in records or any(map(parse_old_name, records)))


def _of_a_first_start(records: Records) -> bool:
    """Whether the records are those of a first start that was killed.  They list no partition."""
    return not records.keys() - _FIRST and len(records.get(COMMIT, b"")) <= FIRST_SIZE
