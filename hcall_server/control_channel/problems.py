"""From an error to `application/problem+json`: every kind of refusal once, as a row of `Kind`."""

from __future__ import annotations

from enum import Enum

from hcall_abi.errors import Fault, StorageError, SwpksError
from hcall_server.control_channel.bodies import FaultName, Problem, fault_name

REQUESTS = "spec/control.md#requests"


class Kind(Enum):
    """A kind of problem: its HTTP status, its title and, for what HTTP itself refuses, the rule."""

    MALFORMED = (
        400,
        "Malformed request",
        "a body has the fields of its verb, and no verb takes a query",
    )
    NOT_FOUND = (404, "Not found", "the path names a verb and a partition that exist")
    NO_METHOD = (405, "Method not allowed", "a path answers the methods of its verbs")
    TOO_SLOW = (408, "Request too slow", "a body is here within 10 seconds of its header")
    REFUSED = (409, "Refused by a rule", "the rules of the console hold")
    TOO_LARGE = (413, "Body too large", "a body has at most 65536 bytes")
    NOT_JSON = (415, "Not JSON", "a body is application/json")
    INTERNAL = (500, "Internal error", "no request ends in an error of the server")
    STORAGE = (503, "Storage trouble", "what was stored can be read and written")

    def __init__(self, status: int, title: str, rule: str) -> None:
        self.status = status
        self.title = title
        self.rule = rule

    @property
    def type(self) -> str:
        """The problem type's URI."""
        return f"urn:swpks:problem:{self.name.lower().replace('_', '-')}"


class ProblemError(SwpksError):
    """A request that ends in a problem of the given kind, by the rule of that kind.

    `allow` has the methods of a path when none of them was asked for.
    """

    fault = Fault.PEER

    def __init__(self, kind: Kind, message: str, *, section: str = REQUESTS, allow: str = "") -> None:
        super().__init__(message, rule=kind.rule, section=section)
        self.kind = kind
        self.allow = allow


def problem_of(error: Exception) -> Problem:
    """Return what a client is told of `error`; what is not ours is told without its text."""
    if isinstance(error, SwpksError):
        return _problem(_kind_of(error), error.message, fault_name(error.fault), error)
    return _problem(Kind.INTERNAL, "the server failed; its log has the reason", "internal", None)


def _kind_of(error: SwpksError) -> Kind:
    if isinstance(error, ProblemError):
        return error.kind
    return Kind.STORAGE if isinstance(error, StorageError) else Kind.REFUSED


def _problem(kind: Kind, detail: str, fault: FaultName, error: SwpksError | None) -> Problem:
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
