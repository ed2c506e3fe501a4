"""The tagged list at the end of a record: room for fields of later releases (spec/sealed.md#later-fields).

A release that does not know a tag cannot know the restrictions of its field.  So it refuses the record.
"""

from __future__ import annotations

from typing import Any

from hcall_abi.rules import storage as rules
from hcall_server.sealing.errors import PlaintextError

NO_FIELDS = b"\0"
"""The list as this release writes it: it has no later field."""


def check_later(fields: Any) -> None:
    """Refuse a list with a field in it: this release knows no tag; PlaintextError names the first one."""
    for field in fields:
        raise PlaintextError(rules.SEALED_FIELD, f"has a field with the unknown tag {field.tag}")
