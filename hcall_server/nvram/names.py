"""The names of the records in NVRAM (spec/sealed.md#record-names)."""

from __future__ import annotations

import re
from typing import NamedTuple
from uuid import UUID

from hcall_abi.console import LARGEST_PARTITION_ID

SYSTEM = "system"
"""The managed system's own record."""
COMMIT = "commit"
"""The commit record: the list of all records."""
TRUSTED_KEY = "trusted-key"
"""The sealed trusted system key."""
CONSOLE = "console"
"""The sealed console record."""
CUSTODY = "custody"
"""The sealed custody record."""

# Only this spelling counts.  UUID() also accepts capitals and braces, so two names could mean one partition.
_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_PARTITION = re.compile(rf"partition/({_UUID})", re.ASCII)
_OLD_RECORD = re.compile(r"partition/([0-9]{5})/(image|profile)", re.ASCII)


def wrapped_name(slot: int) -> str:
    """Return the name of the root key's copy for the TPM of a slot (1 or 2), such as ``root-key/1``.

    This TPM has wrapped the copy.
    """
    return f"root-key/{slot}"


def partition_name(uuid: UUID) -> str:
    """Return the name of a partition's record: ``partition/`` and the UUID."""
    return f"partition/{uuid}"


def parse_partition(name: str) -> UUID | None:
    """Return the UUID in the name of a partition's record, None for any other name."""
    match = _PARTITION.fullmatch(name)
    return UUID(match[1]) if match else None


def records_of(uuid: UUID) -> tuple[str, ...]:
    """Return the names of all records of a partition."""
    # A partition that could not be converted from sealed level 1 has two records and no UUID.
    # `writeback.convert` has put the number of the partition in place of the UUID.
    if uuid.version is None:
        return old_profile_name(uuid.int), old_image_name(uuid.int)
    return (partition_name(uuid),)


class OldName(NamedTuple):
    """The parts of a record's name at sealed level 1."""

    partition: int
    what: str
    """``profile`` or ``image``."""


def old_image_name(partition: int) -> str:
    """Return the name of a partition's image at sealed level 1: ``partition/00004/image``."""
    return f"partition/{partition:05}/image"


def old_profile_name(partition: int) -> str:
    """Return the name of a partition's profile at sealed level 1: ``partition/00004/profile``."""
    return f"partition/{partition:05}/profile"


def parse_old_name(name: str) -> OldName | None:
    """Return the parts of a name of sealed level 1, None for any other name."""
    match = _OLD_RECORD.fullmatch(name)
    if match is None or not 1 <= int(match[1]) <= LARGEST_PARTITION_ID:
        return None
    return OldName(int(match[1]), match[2])
