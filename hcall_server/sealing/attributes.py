"""How a sealed record stores the attributes that the console sets.

An attribute with a number has a field of the record's header.  A switch is a bit of the header's field
`attributes`.  The profiles of sealed level 1 (`level_1`) use the same fields and bits as partition records.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hcall_abi.console import ATTRIBUTES
from hcall_abi.rules import storage as rules
from hcall_server.sealing.errors import PlaintextError

FIELDS = {name: row.sealed for name, row in ATTRIBUTES.items() if isinstance(row.sealed, str)}
"""Attributes with a field of their own in the header."""
BITS = {name: row.sealed for name, row in ATTRIBUTES.items() if isinstance(row.sealed, int)}
"""Attributes that are switches, each a bit of the header's `attributes`.

A bit is set while the switch differs from its default.  So a record that is older than an attribute has the
default of that attribute.
"""


def out_of_range() -> PlaintextError:
    """Return the error for a record with a value that no release writes."""
    return PlaintextError(rules.PROFILE_RANGES, "a field has a value outside its range")


def switches_of(numbers: Mapping[str, int]) -> int:
    """Return the bits of all switches."""
    return sum(bit for name, bit in BITS.items() if numbers[name] != ATTRIBUTES[name].default)


def numbers_of(header: Any, switches: int) -> dict[str, int]:
    """Return the numbers of all attributes; PlaintextError for a wrong number or an unknown switch."""
    numbers = {attribute: getattr(header, field) for attribute, field in FIELDS.items()}
    numbers |= {name: ATTRIBUTES[name].default ^ bool(switches & bit) for name, bit in BITS.items()}
    inside = all(numbers[attribute] in row.numbers for attribute, row in ATTRIBUTES.items())
    # An unknown bit may be a restriction of a later release.  If this release ignored it, it could serve a
    # partition that must not be served.  So it refuses the record.
    if switches & ~sum(BITS.values()) or not inside:
        raise out_of_range()
    return numbers
