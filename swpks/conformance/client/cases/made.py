"""The constructor of client cases, and the pages that the cases cite."""

from __future__ import annotations

from collections.abc import Callable

from hcall_abi.rules.rule import Rule
from swpks.conformance.case import ConformanceCase
from swpks.conformance.client.trial import Trial

HEADER = "spec/protocol.md#frame-header"
FRAMING = "spec/protocol.md#framing"
VERSIONS = "spec/protocol.md#versions"
STATES = "spec/protocol.md#states"
TAGS = "spec/protocol.md#tags"
HELLO = "spec/protocol.md#hello"
OPEN = "spec/protocol.md#open"
OPENED = "spec/protocol.md#opened"
PROOF = "spec/protocol.md#proof"
HCALL = "spec/protocol.md#hcall"
HRETURN = "spec/protocol.md#hreturn"
GOODBYE = "spec/protocol.md#goodbye"
MEMORY = "spec/protocol.md#memory"
SESSIONS = "spec/protocol.md#sessions"
STATUSES = "spec/choices.md#statuses"


def made(
    case_id: str, page: str, run: Callable[[Trial], None], rule: Rule | str | None = None
) -> ConformanceCase[Trial]:
    """Return a case that proves a statement; `rule` is a rule, the id of a rule, or None."""
    rule_id = rule.id if isinstance(rule, Rule) else rule or ""
    return ConformanceCase(case_id, page, rule_id, run)
