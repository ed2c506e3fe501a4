"""Makes the answer to a refused request, a problem, from the broken rule; for systems and consoles.

The kinds are the rows of `hcall_abi.control.ProblemKind` (spec/control.md#problems).
"""

from __future__ import annotations

from hcall_abi.control import ProblemKind
from hcall_abi.control_views import Problem
from hcall_abi.errors import SwpksError
from hcall_abi.rules import console as rules
from hcall_abi.rules import service
from hcall_abi.rules.rule import Fault, Rule

_SCARCE = (
    service.SCARCE_DESCRIPTORS,
    service.SCARCE_ENTROPY,
    service.SCARCE_MEMORY,
    service.SCARCE_SPACE,
    service.SCARCE_THREADS,
)
_BY_RULE = {
    **{kind.rule: kind for kind in ProblemKind if kind.rule},
    **dict.fromkeys(_SCARCE, ProblemKind.SCARCITY),
    # The fault of this rule is the operator's, which would give another kind. But HTTP clients expect the
    # status 404 for a path without a resource.
    rules.NAME_EXISTS: ProblemKind.NOT_FOUND,
}
_BY_FAULT = {Fault.PEER: ProblemKind.MALFORMED, Fault.STORAGE: ProblemKind.STORAGE}
"""Kinds that follow from whose fault it is, for every rule that has no kind of its own."""


def problem_of(error: SwpksError) -> Problem:
    """Return the problem that a client gets for an error."""
    rule, kind = error.rule, kind_of(error.rule)
    return Problem(
        type=kind.type,
        title=kind.title,
        status=kind.status,
        detail=error.message,
        fault=rule.fault.value,
        rule_id=rule.id,
        rule=rule.sentence,
        section=rule.page,
        code=rule.code,
        advised=error.advised,
    )


def kind_of(rule: Rule) -> ProblemKind:
    """Return the kind of problem that answers a broken rule."""
    return _BY_RULE.get(rule) or _BY_FAULT.get(rule.fault, ProblemKind.REFUSED)
