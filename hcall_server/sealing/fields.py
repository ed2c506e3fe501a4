"""The tagged list at the end of a record: fields that later releases added (spec/sealed.md#later-fields).

A release that does not know a tag cannot know the restrictions of its field.  So it refuses the record.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from hcall_abi.rules import storage as rules
from hcall_server.sealing.errors import PlaintextError
from hcall_server.sealing.formats import LATER_FIELDS

NO_FIELDS = b"\0"
"""The list without a field."""

SYSTEM_NAME_TAG = 1
"""The field of the system record with the system's name."""

RESTORES_TAG = 1
"""The field of the partition record with the count of its restores; a store without one has no field."""

PARTITION_TAGS = frozenset({RESTORES_TAG})
"""Tags that this release knows in a partition record."""
SYSTEM_TAGS = frozenset({SYSTEM_NAME_TAG})
"""Tags that this release knows in the system record."""
TRUSTED_KEY_TAGS: frozenset[int] = frozenset()
"""Tags that this release knows in the record of the trusted system key."""
CONSOLE_TAGS: frozenset[int] = frozenset()
"""Tags that this release knows in the console record."""


def encode_fields(values: Mapping[int, bytes]) -> bytes:
    """Return the list with these values by their tags, in ascending order."""
    fields = [{"tag": tag, "value": value} for tag, value in sorted(values.items())]
    return bytes(LATER_FIELDS.build(fields)) if fields else NO_FIELDS


def later_fields(fields: Iterable[Any], known: Collection[int]) -> dict[int, bytes]:
    """Return the values of a list by their tags.

    PlaintextError names the first tag that is not `known`, or not larger than the one before it.
    """
    found: dict[int, bytes] = {}
    last = -1
    for field in fields:
        if field.tag not in known:
            raise PlaintextError(rules.SEALED_FIELD, f"has a field with the unknown tag {field.tag}")
        if field.tag <= last:
            raise PlaintextError(rules.SEALED_FIELD, f"has the tag {field.tag} after the tag {last}")
        found[field.tag], last = field.value, field.tag
    return found
