"""Errors of HTTP itself, and the rule for errors that have none.

`hcall_abi.problems` makes a problem of an error.
"""

from __future__ import annotations

from hcall_abi.errors import SwpksError
from hcall_abi.rules import console as rules
from hcall_abi.rules.rule import Rule
from hcall_abi.scarcity import scarcity_of


class ProblemError(SwpksError):
    """A request that is refused because of its HTTP; the rule belongs to one kind of problem.

    If the method is wrong, `allow` lists the methods of the path.
    """

    def __init__(self, rule: Rule, message: str, *, allow: str = "") -> None:
        super().__init__(rule, message)
        self.allow = allow


def explained_error(error: Exception) -> SwpksError:
    """Return the error itself if it has a rule; otherwise make an error with a rule from it.

    That is a scarcity of the host, or an internal failure.
    """
    if isinstance(error, SwpksError):
        return error
    failed = SwpksError(rules.REQUEST_ANSWERED, "the server failed; its log has the reason")
    return scarcity_of(error) or failed
