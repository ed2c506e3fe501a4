"""Attributes as an operator writes them, for the settings of a server and for `swpks hmc`.

`AttributeRow.parse` reads a value.  This module turns its errors into refusals that name the broken rule.
"""

from __future__ import annotations

from collections.abc import Iterable

from hcall_abi.console import ATTRIBUTES
from hcall_abi.errors import OperatorError
from hcall_abi.near import near_question
from hcall_abi.rules import console as rules


def attribute_number(name: str, given: int | str) -> int:
    """Return the number for an attribute's value; OperatorError for an unknown attribute or a wrong value."""
    row = ATTRIBUTES.get(name)
    if row is None:
        names = ", ".join(ATTRIBUTES)
        near = near_question(name, ATTRIBUTES)
        raise OperatorError(rules.ATTRIBUTE_KNOWN, f"no attribute {name!r}{near}; the attributes are {names}")
    try:
        return row.parse(given)
    # `parse` can't name a rule: the modules of the rules import its module, `hcall_abi.console`. So it raises
    # ValueError, and the rule is added here.
    except ValueError as error:
        near = near_question(str(given), row.words)
        raise OperatorError(rules.ATTRIBUTE_RANGE, f"{name} {error}{near}") from None


def parse_attributes(texts: Iterable[str]) -> dict[str, int]:
    """Return numbers by attribute name from texts "ATTRIBUTE=VALUE"; OperatorError for a wrong text."""
    numbers: dict[str, int] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise OperatorError(rules.ATTRIBUTE_FORM, f"{text!r} has no value")
        if name in numbers:
            raise OperatorError(rules.ATTRIBUTE_FORM, f"{name} is given twice")
        numbers[name] = attribute_number(name, value)
    return numbers
