"""What the records in NVRAM are called (spec/sealed.md#record-names)."""

from __future__ import annotations

import re
from typing import NamedTuple

from hcall_abi.console import LARGEST_PARTITION_ID

SYSTEM = "system"
"""The managed system's own record."""

_PARTITION_RECORD = re.compile(r"partition/([0-9]{5})/(image|profile)", re.ASCII)


class RecordName(NamedTuple):
    """A record's name taken apart: the partition (0 for the system's own) and what is kept of it."""

    partition: int
    what: str
    """``system``, ``profile`` or ``image``."""


def image_name(partition: int) -> str:
    """Return the name of a partition's image record: ``partition/00004/image``."""
    return f"partition/{partition:05}/image"


def profile_name(partition: int) -> str:
    """Return the name of a partition's profile record: ``partition/00004/profile``."""
    return f"partition/{partition:05}/profile"


def parse_name(name: str) -> RecordName | None:
    """Return a record's name taken apart, None for a name that no release ever wrote."""
    if name == SYSTEM:
        return RecordName(0, "system")
    match = _PARTITION_RECORD.fullmatch(name)
    if match is None or not 1 <= int(match[1]) <= LARGEST_PARTITION_ID:
        return None
    return RecordName(int(match[1]), match[2])
