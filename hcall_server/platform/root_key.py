"""The decision about the copies of the PKS root key at a start (R-41), as a table.

The page `spec/root-key.md` shows the same rows.
"""

# The root of trust: which key a start may use
#
# Every key at rest is derived from the PKS root key.  A system has it several times: in clear on the anchor
# card, and wrapped by each TPM in the NVRAM of the service processor.  Each part can be replaced, lost or
# damaged on its own.  A start reads all copies, and one row of this table decides.  It must guarantee:
#
#   1. If two readable copies differ, the start stops.  No copy is preferred, because each may be the foreign
#      one: a card of another system, or an NVRAM with its TPM.
#   2. A new key is made only if there is neither a copy nor a record.  A new key beside old
#      records would make them unreadable for ever.
#   3. A readable copy restores each missing one.  No copy is removed here.
#   4. Records that do not open with the key stop the start: the card or the records are of another system.
#
# So one lost part costs nothing.  If all readable copies are lost, the start stops: the lost part may still
# be found.  Only Clear All replaces a key, by order of the operator.
#
# The findings are relative to one key, the candidate.  It is the key on the anchor card.  If the card has
# none, it is that of the first wrapped copy that a TPM unwraps.  The candidate has no priority: a copy with
# another key is `DIFFERS`, and that row stops.  `summary` makes one finding of the wrapped copies.
#
# The finding about the records is that of the commit record alone.  It has a MAC under a key from the root
# key.  A damaged partition record says nothing about the root key, and stops its own partition only.
#
# A damaged card counts as a new one only beside a good wrapped copy.  Otherwise the start stops, although
# NVRAM may be empty: damage must never look like a new system (guarantee 2).  A TPM that does not answer is
# `SILENT` and not `UNREADABLE`: nothing is known about its copy.  Another copy lets the start go on without
# it.  The missing redundancy is reported, and a later start wraps the key for that TPM.  The first start of a
# new system is the exception: it stops at a silent TPM.  A crash before the card is written would leave
# records without a readable key.
#
# The main thread asks the TPMs before the event loop runs.  So a silent TPM delays a start by a bounded time.
# We dropped the worker thread of NVRAM: a library that hangs would hold it for ever, and every later flush
# would wait (C-57).
#
# Why a table: there are 72 combinations, and operators meet most of them only in trouble.  Nested conditions
# would hide a forgotten one.  With rows as data, a test finds exactly one row for each combination.
#
# A repair writes the copy, reads it back, and only then goes on.  It can be repeated.  So a crash between two
# repairs costs nothing: the next start finds fewer missing copies, in the same row or in a simpler one.

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple


class CardFinding(Enum):
    """The finding about the anchor card when the server starts."""

    NEW = "new"
    HOLDS = "holds the key"
    PENDING = "holds the key, and the mark 'reset pending'"
    DAMAGED = "damaged"


class CopyFinding(Enum):
    """The finding about a wrapped copy, compared with the anchor card or the other wrapped copies."""

    NONE = "none"
    AGREES = "holds the key"
    STALE = "holds the key from before Clear All"
    UNREADABLE = "does not unwrap"
    SILENT = "the TPM does not answer"
    DIFFERS = "holds another key"


class RecordsFinding(Enum):
    """All other records in NVRAM, checked with the key.

    NONE: there is no record, or the data were cleared.  If they were cleared, a genuine commit record lists
    no system record.
    """

    NONE = "none"
    OPEN = "open with the key"
    SHUT = "do not open"


class StartOutcome(Enum):
    """The decision about a start."""

    NEW_SYSTEM = "new system"
    OPERATE = "go on"
    RECOVERY = "state Recovery"
    RESET_PENDING = "state Reset pending"
    STOP = "stop"


class RootKeyRow(NamedTuple):
    """One row: the findings it is about, the decision, and its consequence in words."""

    id: str
    card: tuple[CardFinding, ...]
    copies: tuple[CopyFinding, ...]
    records: tuple[RecordsFinding, ...]
    outcome: StartOutcome
    consequence: str


_NEW, _HOLDS, _PENDING, _DAMAGED = ((each,) for each in CardFinding)
_NONE, _AGREES, _STALE, _UNREADABLE, _SILENT, _DIFFERS = ((each,) for each in CopyFinding)
_CLEAR, _OPEN, _SHUT = ((each,) for each in RecordsFinding)
_ANY_CARD = (*_NEW, *_HOLDS, *_PENDING, *_DAMAGED)
_ANY_RECORDS = (*_CLEAR, *_OPEN, *_SHUT)
_ABSENT = (*_NONE, *_UNREADABLE, *_SILENT)
_NO_OTHER = (*_ABSENT, *_AGREES, *_STALE)

ROOT_KEY_TABLE: tuple[RootKeyRow, ...] = (
    RootKeyRow("reset-pending", _PENDING, _NO_OTHER, _ANY_RECORDS, StartOutcome.RESET_PENDING,
         "Clear All was done: wrap the card's key, serve nothing, wait for reset-settings"),
    RootKeyRow("disagreement", _ANY_CARD, _DIFFERS, _ANY_RECORDS, StartOutcome.STOP,
         "put the part of this system back"),
    RootKeyRow("new-system", _NEW, _NONE, _CLEAR, StartOutcome.NEW_SYSTEM,
         "make a key; one commit with wrapped copy, system record and commit record, then the card"),
    RootKeyRow("foreign-card", _HOLDS, _NO_OTHER, _SHUT, StartOutcome.STOP,
         "the card or the records belong to another system: put the right part back"),
    RootKeyRow("whole", _HOLDS, _AGREES, _OPEN, StartOutcome.OPERATE,
         "all copies agree"),
    RootKeyRow("cleared", _HOLDS, _AGREES, _CLEAR, StartOutcome.RECOVERY,
         "the records were cleared"),
    RootKeyRow("wrapped-copy-lost", _HOLDS, _NONE, _OPEN, StartOutcome.OPERATE,
         "wrap the card's key again"),
    RootKeyRow("service-processor-replaced", _HOLDS, _NONE, _CLEAR, StartOutcome.RECOVERY,
         "wrap the card's key again"),
    RootKeyRow("tpm-replaced", _HOLDS, _UNREADABLE, _OPEN, StartOutcome.OPERATE,
         "wrap the card's key with the present TPM"),
    RootKeyRow("tpm-replaced-cleared", _HOLDS, _UNREADABLE, _CLEAR, StartOutcome.RECOVERY,
         "wrap the card's key with the present TPM"),
    RootKeyRow("tpm-silent", _HOLDS, _SILENT, _OPEN, StartOutcome.OPERATE,
         "go on with the card alone; health is not ok; a later start wraps"),
    RootKeyRow("tpm-silent-cleared", _HOLDS, _SILENT, _CLEAR, StartOutcome.RECOVERY,
         "go on with the card alone; health is not ok; a later start wraps"),
    RootKeyRow("card-replaced", (*_NEW, *_DAMAGED), _AGREES, _OPEN, StartOutcome.OPERATE,
         "write the card from the wrapped copy"),
    RootKeyRow("card-replaced-cleared", (*_NEW, *_DAMAGED), _AGREES, _CLEAR, StartOutcome.RECOVERY,
         "write the card from the wrapped copy"),
    RootKeyRow("foreign-records", (*_NEW, *_DAMAGED), _AGREES, _SHUT, StartOutcome.STOP,
         "the records are damaged, or of another system: put NVRAM back, or use Clear All"),
    RootKeyRow("no-copy", _NEW, _ABSENT, _SHUT, StartOutcome.STOP,
         "start a TPM that does not answer, or put the old part back; else Clear All"),
    RootKeyRow("card-and-tpm-new", _NEW, (*_UNREADABLE, *_SILENT), _CLEAR, StartOutcome.STOP,
         "start a TPM that does not answer, or put the old part back; else Clear All"),
    RootKeyRow("card-damaged", _DAMAGED, _ABSENT, _ANY_RECORDS, StartOutcome.STOP,
         "start a TPM that does not answer, or put the old part back; else Clear All"),
)  # fmt: skip
"""Every decision.  A copy is `STALE` only if the card has the mark "reset pending"; that row comes first."""

# The most dangerous finding comes first.  A copy with another key must stop the start, even beside a good
# copy.  After that, one good copy is enough: the others are restored from it.
_PRECEDENCE = (
    CopyFinding.DIFFERS,
    CopyFinding.AGREES,
    CopyFinding.STALE,
    CopyFinding.UNREADABLE,
    CopyFinding.SILENT,
    CopyFinding.NONE,
)


def summary(copies: Iterable[CopyFinding]) -> CopyFinding:
    """Return one finding for the wrapped copies of all TPMs.

    It is the first finding of `_PRECEDENCE` that a copy has.
    """
    found = tuple(copies)
    return next((each for each in _PRECEDENCE if each in found), CopyFinding.NONE)


def decide(card: CardFinding, copies: Iterable[CopyFinding], records: RecordsFinding) -> RootKeyRow:
    """Return the row for these three findings."""
    copy = summary(copies)
    return next(
        row for row in ROOT_KEY_TABLE if card in row.card and copy in row.copies and records in row.records
    )


class AccessStep(NamedTuple):
    """One step of the procedure that gives access to the stores: its number (1 to 9), and the finding.

    ARCHITECTURE.md has the nine steps, and the code that does each.
    """

    number: int
    text: str


class PartReport(NamedTuple):
    """One replaceable part at this start: its name and kind, the finding about its copy, and details.

    `copy` is "agrees", "restored" or "silent".  The service processor stores the wrapped copies.  Its
    `copy` is "present" or "none".  `ok` is False if redundancy is missing.
    """

    name: str
    kind: str
    copy: str
    detail: str
    ok: bool = True


class AccessAccount(NamedTuple):
    """The account of one start: the row that decided and its outcome, the steps, and the parts."""

    row: str
    outcome: StartOutcome
    steps: tuple[AccessStep, ...]
    parts: tuple[PartReport, ...]


NO_ACCESS = AccessAccount("", StartOutcome.OPERATE, (), ())
"""The account of a machine that was not started on components."""
