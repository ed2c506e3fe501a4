"""The refusal of orders about an attempt that has passed its point of no return."""

from __future__ import annotations

from hcall_abi.errors import OperatorError
from hcall_abi.rules import migration as rules
from hcall_server.console.entries import Entry


def decided(entry: Entry) -> OperatorError:
    """Return the refusal of an order that would reverse a decided attempt."""
    return OperatorError(rules.MIGRATION_DECIDED, decided_text(entry))


def decided_text(entry: Entry) -> str:
    """Return a sentence for messages: an attempt has passed its point of no return."""
    return f"the attempt {entry.epoch} of {entry.name} has passed its point of no return"
