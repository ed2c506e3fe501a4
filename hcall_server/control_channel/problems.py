"""From an error to `application/problem+json`: its kind is a row of `hcall_abi.control.ProblemKind`."""

from __future__ import annotations

from hcall_abi.control import ProblemKind
from hcall_abi.control_bodies import Problem
from hcall_abi.errors import SwpksError
from hcall_abi.rules import console as rules
from hcall_abi.rules import service
from hcall_abi.rules.rule import Fault, Rule
from hcall_abi.scarcity import scarcity_of


class ProblemError(SwpksError):
    """A request that HTTP itself refuses, by a rule that belongs to one kind of problem.

    `allow` has the methods of a path when none of them was asked for.
    """

    def __init__(self, rule: Rule, message: str, *, allow: str = "") -> None:
        super().__init__(rule, message)
        self.allow = allow


_SCARCE = (
    service.SCARCE_DESCRIPTORS,
    service.SCARCE_ENTROPY,
    service.SCARCE_MEMORY,
    service.SCARCE_SPACE,
    service.SCARCE_THREADS,
)
_KINDS = {
    **{kind.rule: kind for kind in ProblemKind if kind.rule},
    **dict.fromkeys(_SCARCE, ProblemKind.SCARCITY),
    rules.NAME_EXISTS: ProblemKind.NOT_FOUND,
}
"""The kinds of problems that follow from the rule; all other rules follow from whose fault they are."""


def problem_of(error: Exception) -> Problem:
    """Return the problem that a client gets for `error`; only a SwpksError shows its own text."""
    error = explained_error(error)
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
    )


def explained_error(error: Exception) -> SwpksError:
    """Return an error with a rule: itself, a scarcity of the host, or an internal failure."""
    if isinstance(error, SwpksError):
        return error
    failed = SwpksError(rules.REQUEST_ANSWERED, "the server failed; its log has the reason")
    return scarcity_of(error) or failed


def kind_of(rule: Rule) -> ProblemKind:
    """Return the kind of problem that answers a broken rule."""
    other = ProblemKind.STORAGE if rule.fault is Fault.STORAGE else ProblemKind.REFUSED
    return _KINDS.get(rule, other)
