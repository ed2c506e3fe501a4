"""Log lines of refused h-calls, of which a hostile guest must not be able to make as many as it likes.

The first refusals of a sort are told each; after that only those that double their number, with the
number.  A sort is an h-call and a rule, so there are few of them, and a session has some thousand
lines in all, however long it goes on.
"""

from __future__ import annotations

from collections import Counter

from hcall_abi.calls import Opcode
from hcall_server.hcalls.refusals import Refusal
from hcall_server.machine import logs

EACH = 16
"""So many refusals of a sort have a line each; a power of two."""

OTHER = "other"
"""Stands for every number that is no h-call of the keystore: guests must not grow the table."""

_NAMES = {int(opcode): opcode.name for opcode in Opcode}


class RefusalLog:
    """What one session was refused so far."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()

    def tell(self, log: logs.Log, refusal: Refusal, opcode: int) -> None:
        """Write a refusal to the log, or only count it."""
        name = call_name(opcode)
        sort = _NAMES.get(opcode, OTHER), refusal.rule.id
        self._counts[sort] = count = self._counts[sort] + 1
        if count > EACH and count & (count - 1):
            return
        fields: dict[str, str | int] = {"argument": refusal.argument} if refusal.argument else {}
        if count > EACH:
            fields["repeated"] = count
        log.info("hcall.refused", hcall=name, status=refusal.status.name, **fields, **logs.explained(refusal))


def call_name(opcode: int) -> str:
    """Return the name of an h-call, or its number in hex where it has none here."""
    return _NAMES.get(opcode) or f"0x{opcode:X}"
