"""Repairs of the copies of the root key: a missing one is written, read back, and reported (R-41).

Nothing is removed.  Each repair can be repeated, so after a kill between two repairs the next start does the
rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from hcall_abi.errors import StorageError
from hcall_abi.rules import storage as rules
from hcall_server.components.seam import AnchorCardPart, Card, Tpm, TpmRefusedError, TpmSilentError
from hcall_server.nvram.names import wrapped_name
from hcall_server.nvram.seam import Nvram
from hcall_server.platform.identity import SEALED_LEVEL, SystemIdentity
from hcall_server.platform.root_key import CardFinding, CopyFinding, PartReport
from hcall_server.sealing.wrapped_key import (
    WrapperKind,
    decode_wrapped,
    encode_wrapped,
    pack_identity,
    unpack_identity,
)
from hcall_server.service.key_copies import KeyCopies, WrappedCopy, same_key
from hcall_server.service.layout import ANCHOR_CARD

KIND_CODES = {
    "embedded": WrapperKind.EMBEDDED,
    "swtpm": WrapperKind.TPM_2,
    "tcti": WrapperKind.TPM_2,
}
"""The kinds of TPMs in a wrapped record: two adapters of one TPM have the same blobs."""

_WRAPPED_AGAIN = {
    CopyFinding.NONE: "it held no copy; the root key was wrapped again",
    CopyFinding.UNREADABLE: "it did not unwrap its copy; the root key was wrapped again",
    CopyFinding.STALE: "its copy was of the key before Clear All; the new key was wrapped",
}


class Wrapping(NamedTuple):
    """New wrapped copies: records by name for one commit, and a report for each TPM."""

    changes: Mapping[str, bytes]
    reports: tuple[PartReport, ...]


def wrap_missing(copies: KeyCopies, identity: SystemIdentity) -> Wrapping:
    """Have each TPM without a good copy wrap the key.  A silent TPM is reported and stops no other one."""
    changes: dict[str, bytes] = {}
    reports = []
    for copy, finding in zip(copies.wrapped, copies.findings, strict=True):
        reports.append(_wrap_where_missing(copy, finding, identity, changes))
    return Wrapping(changes, tuple(reports))


def wrap_all(tpms: tuple[Tpm, ...], identity: SystemIdentity) -> dict[str, bytes]:
    """Return the wrapped copies of a new system; TpmSilentError if one of its TPMs does not work."""
    return {wrapped_name(slot): wrap(tpm, identity) for slot, tpm in enumerate(tpms, 1)}


def wrap(tpm: Tpm, identity: SystemIdentity) -> bytes:
    """Return a wrapped record that the TPM has unwrapped once; TpmSilentError if the TPM does not work."""
    # Let the TPM unwrap the new blob now.  If it cannot, a later start would find that out, perhaps when
    # the card is lost.
    record = encode_wrapped(KIND_CODES[tpm.kind], tpm.seal(pack_identity(identity)))
    try:
        unwrapped = unpack_identity(tpm.unseal(decode_wrapped(record).blob))
    except TpmRefusedError as error:
        raise TpmSilentError(
            f"{tpm.name}: it does not unwrap the key that it has just wrapped: {error.message}"
        ) from None
    if not same_key(unwrapped, identity):
        raise TpmSilentError(f"{tpm.name}: it unwraps another content than it has just wrapped")
    return record


def demand_stored(nvram: Nvram, changes: Mapping[str, bytes]) -> None:
    """Read wrapped copies back from NVRAM; StorageError if one differs from the record that was written."""
    stored = nvram.load()
    for name, record in changes.items():
        if stored.get(name) != record:
            raise StorageError(rules.ROOT_KEY_STORED, f"NVRAM: {name} can't be read back as it was written")


def restore_card(part: AnchorCardPart, copies: KeyCopies, identity: SystemIdentity) -> PartReport:
    """Write the anchor card if it is new, damaged or of an older level; return its report."""
    finding = copies.card_finding
    card = Card(identity._replace(sealed_level=SEALED_LEVEL))
    if copies.card == card:
        return PartReport(ANCHOR_CARD, "card", "agrees", finding.value)
    write_card(part, card)
    if finding is CardFinding.HOLDS:
        return PartReport(ANCHOR_CARD, "card", "agrees", "holds the key; its level was raised")
    return PartReport(ANCHOR_CARD, "card", "restored", f"it was {finding.value}; written from a wrapped copy")


def write_card(part: AnchorCardPart, card: Card) -> None:
    """Write a card and read it back; StorageError if the content differs."""
    part.write(card)
    if part.read() != card:
        raise StorageError(rules.CARD_WHOLE, f"{part.name}: the written card can't be read back")


def _wrap_where_missing(
    copy: WrappedCopy, finding: CopyFinding, identity: SystemIdentity, changes: dict[str, bytes]
) -> PartReport:
    tpm = copy.tpm
    if finding is CopyFinding.AGREES:
        return PartReport(tpm.name, tpm.kind, "agrees", finding.value)
    if finding is CopyFinding.SILENT:
        return _silent(tpm, copy.trouble)
    try:
        changes[copy.record_name] = wrap(tpm, identity)
    except TpmSilentError as error:
        return _silent(tpm, error)
    return PartReport(tpm.name, tpm.kind, "restored", _WRAPPED_AGAIN[finding])


def _silent(tpm: Tpm, trouble: StorageError | None) -> PartReport:
    return PartReport(tpm.name, tpm.kind, "silent", trouble.message if trouble else "", ok=False)
