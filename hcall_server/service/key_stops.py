"""The error of a start that the root-key table stops: the finding about each part, and the way out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hcall_abi.counts import counted
from hcall_abi.errors import StorageError
from hcall_abi.rules import storage as rules
from hcall_abi.rules.rule import Rule
from hcall_server.nvram.names import COMMIT
from hcall_server.platform.identity import SystemIdentity
from hcall_server.platform.root_key import RecordsFinding, RootKeyRow
from hcall_server.sealing import CommitAuthority
from hcall_server.service.key_copies import KeyCopies, records_finding

Records = Mapping[str, bytes]

_RULES: Mapping[str, Rule] = {
    "disagreement": rules.ROOT_KEY_AGREE,
    "foreign-card": rules.COMMIT_RECORD,
    "foreign-records": rules.COMMIT_RECORD,
    "no-copy": rules.ROOT_KEY_READABLE,
    "card-and-tpm-new": rules.ROOT_KEY_READABLE,
    "card-damaged": rules.ROOT_KEY_READABLE,
}


def stop_of(row: RootKeyRow, copies: KeyCopies, records: Records, *, prefixed: bool) -> StorageError:
    """Return the error for a row that stops the start.

    `prefixed`: the records are below a prefix, and another prefix may be the right one.
    """
    rule = _RULES[row.id]
    parts = "; ".join(_copy_texts(copies))
    about = _about_records(rule, copies, records)
    # Clear All, which a consequence may advise, would destroy the records of that other system.
    other = "If another system has these records, take another --nvram-prefix. " if prefixed else ""
    return StorageError(rule, f"{about} ({parts}); {row.consequence}. {other}No copy was changed")


def _about_records(rule: Rule, copies: KeyCopies, records: Records) -> str:
    if rule is rules.ROOT_KEY_AGREE:
        return f"the copies of the root key differ: {_opening(copies, records)}"
    if rule is rules.ROOT_KEY_READABLE:
        return f"no copy of the root key is readable, and NVRAM holds {counted(len(records), 'record')}"
    return _commit_trouble(copies, records)


def _commit_trouble(copies: KeyCopies, records: Records) -> str:
    """Return why the commit record does not open with the candidate key."""
    if COMMIT not in records:
        return f"the commit record is missing, and NVRAM holds {counted(len(records), 'other record')}"
    candidate = copies.candidate
    try:
        CommitAuthority(candidate.root_key if candidate else bytes(32)).decode(records[COMMIT])
    except StorageError as error:
        return error.message
    return "the records do not belong together"


def _copy_texts(copies: KeyCopies) -> Iterator[str]:
    """Yield a phrase for each part: its name and its finding."""
    damage = f": {copies.damage.message}" if copies.damage else ""
    yield f"the anchor card: {copies.card_finding.value}{damage}"
    for copy, finding in zip(copies.wrapped, copies.findings, strict=True):
        trouble = f": {copy.trouble.message}" if copy.trouble else ""
        yield f"the copy of {copy.tpm.name}: {finding.value}{trouble}"


def _opening(copies: KeyCopies, records: Records) -> str:
    """Return a phrase for the message: which of the different keys open the records."""
    # This is only information for the operator, who decides.  The server never prefers one copy to another
    # (C-51).
    keys: list[tuple[str, SystemIdentity]] = []
    if copies.card is not None:
        keys.append(("the anchor card", copies.card.identity))
    keys += [(f"the copy of {each.tpm.name}", each.identity) for each in copies.wrapped if each.identity]
    opening = [name for name, key in keys if records_finding(records, key) is RecordsFinding.OPEN]
    if opening:
        return f"the records open with the key of {' and '.join(opening)}"
    return "the records open with none of them"
