"""From an error to `application/problem+json`: its kind is a row of `hcall_abi.control.ProblemKind`."""

from __future__ import annotations

from hcall_abi.control import ProblemKind
from hcall_abi.control_bodies import FaultName, Problem
from hcall_abi.errors import Fault, StorageError, SwpksError

REQUESTS = "spec/control.md#requests"


class ProblemError(SwpksError):
    """A request that ends in a problem of the given kind, by the rule of that kind.

    `allow` has the methods of a path when none of them was asked for.
    """

    fault = Fault.PEER

    def __init__(self, kind: ProblemKind, message: str, *, section: str = REQUESTS, allow: str = "") -> None:
        super().__init__(message, rule=kind.rule, section=section)
        self.kind = kind
        self.allow = allow


def problem_of(error: Exception) -> Problem:
    """Return the problem that a client gets for `error`; only a SwpksError shows its own text."""
    if isinstance(error, SwpksError):
        return _problem(_kind_of(error), error.message, error.fault.value, error)
    return _problem(ProblemKind.INTERNAL, "the server failed; its log has the reason", "internal", None)


def _kind_of(error: SwpksError) -> ProblemKind:
    if isinstance(error, ProblemError):
        return error.kind
    return ProblemKind.STORAGE if isinstance(error, StorageError) else ProblemKind.REFUSED


def _problem(kind: ProblemKind, detail: str, fault: FaultName, error: SwpksError | None) -> Problem:
    return Problem(
        type=kind.type,
        title=kind.title,
        status=kind.status,
        detail=detail,
        fault=fault,
        rule=error.rule if error else kind.rule,
        section=error.section if error else REQUESTS,
        code=getattr(error, "code", None),
    )
