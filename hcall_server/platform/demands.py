"""Rules of the console as rows: the condition under which a request breaks a rule, and the message."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, NamedTuple, TypeVar

from hcall_abi.errors import OperatorError
from hcall_abi.rules.rule import Rule

T = TypeVar("T")


class Demand(NamedTuple, Generic[T]):
    """One row: the condition under which a request breaks the rule, the rule, and the message.

    The message is a format string.  It can use the fields of the request, which it knows as `it`.
    """

    broken: Callable[[T], bool]
    rule: Rule
    message: str


def check(demands: Iterable[Demand[T]], it: T) -> None:
    """Check a request against rules in their order; OperatorError for the first broken one."""
    for broken, rule, message in demands:
        if broken(it):
            raise OperatorError(rule, message.format(it=it))
