"""The decision about the copies of the root key as tables (spec/root-key.md), from `platform.root_key`."""

from collections.abc import Collection, Iterator
from enum import Enum

from hcall_server.platform.root_key import ROOT_KEY_TABLE, CardFinding, CopyFinding, RecordsFinding

Lines = Iterator[tuple[object, ...]]

FINDINGS: dict[type[Enum], dict[Enum, str]] = {
    CardFinding: {
        CardFinding.NEW: "its folder has no file `anchor-card`",
        CardFinding.HOLDS: "the file is whole",
        CardFinding.PENDING: "the file is whole; Clear All made its key, and reset-settings has to follow",
        CardFinding.DAMAGED: "the file has another layout or a wrong check value, or it can't be read",
    },
    CopyFinding: {
        CopyFinding.NONE: "NVRAM has no wrapped copy for this TPM",
        CopyFinding.AGREES: "the TPM unwraps the copy, and it is the key of the other copies",
        CopyFinding.STALE: "beside a card with the mark only: another key of the same system",
        CopyFinding.UNREADABLE: "another TPM made the copy, or it is damaged",
        CopyFinding.SILENT: "nothing is known about the copy",
        CopyFinding.DIFFERS: "the TPM unwraps the copy, and it is another key",
    },
    RecordsFinding: {
        RecordsFinding.NONE: "no record, or a commit record of this key that lists no system record",
        RecordsFinding.OPEN: "the commit record is of this key, and there is a system record or it lists one",
        RecordsFinding.SHUT: "the commit record is of another key, damaged or missing",
    },
}


def root_key() -> Lines:
    """Yield every row of the decision table."""
    for row in ROOT_KEY_TABLE:
        card, copies = words_of(CardFinding, row.card), words_of(CopyFinding, row.copies)
        records = words_of(RecordsFinding, row.records)
        yield f"`{row.id}`", card, copies, records, row.outcome.value, row.consequence


def words_of(kind: type[Enum], members: Collection[Enum]) -> str:
    """Return the findings of a row as text.

    If only one finding does not belong to the row, the text names that one.
    """
    others = [each.value for each in kind if each not in members]
    if len(others) > 1:
        return " or ".join(each.value for each in kind if each in members)
    return f"any, but not: {others[0]}" if others else "any"


def findings(kind: str) -> Lines:
    """Yield the findings about one kind of copy, each with its meaning."""
    (found_kind,) = (each for each in FINDINGS if each.__name__ == kind)
    for each in found_kind:
        yield each.value, FINDINGS[found_kind][each]
