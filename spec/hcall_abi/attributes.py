"""Attributes as an operator writes them, for the settings of a server and for `swpks hmc`.

`AttributeRow.parse` is the one grammar of a value.  Here it meets the rules: each refusal names its row.
"""

from __future__ import annotations

from collections.abc import Iterable

from hcall_abi.console import ATTRIBUTES
from hcall_abi.errors import OperatorError
from hcall_abi.near import near_question
from hcall_abi.rules import console as rules


def attribute_number(name: str, given: int | str) -> int:
    """Return the number of a value; OperatorError for a name or a value that no partition has."""
    row = ATTRIBUTES.get(name)
    if row is None:
        names = ", ".join(ATTRIBUTES)
        near = near_question(name, ATTRIBUTES)
        raise OperatorError(rules.ATTRIBUTE_KNOWN, f"no attribute {name!r}{near}; the attributes are {names}")
    try:
        return row.parse(given)
    # `parse` raises no rule: `hcall_abi.console` is read by the rules themselves, so it can't import
    # them.
    except ValueError as error:
        near = near_question(str(given), row.words)
        raise OperatorError(rules.ATTRIBUTE_RANGE, f"{name} {error}{near}") from None


def parse_attributes(texts: Iterable[str]) -> dict[str, int]:
    """Return the numbers in texts of the form "ATTRIBUTE=VALUE" by name; OperatorError if one is wrong."""
    numbers: dict[str, int] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise OperatorError(rules.ATTRIBUTE_FORM, f"{text!r} has no value")
        if name in numbers:
            raise OperatorError(rules.ATTRIBUTE_FORM, f"{name} is given twice")
        numbers[name] = attribute_number(name, value)
    return numbers
