"""The console's vocabulary: attributes, secure-boot modes, names, message numbers (spec/control.md).

The names and numbers are those of the real console where it has them.  What a partition may have at a
given moment is decided by its system; here stands what exists at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from hcall_abi.consumers import SecureBoot

ATTRIBUTES: Mapping[str, range] = {
    "keystore_kbytes": range(0x10000),
    "keystore_signed_updates": range(2),
    "keystore_signed_updates_without_verification": range(2),
    "linux_dynamic_key_secure_boot": range(2),
    "secure_boot": range(3),
}
"""Attributes and the numbers that each may have at all: KiB, 0 or 1, and secure-boot modes."""

SECURE_BOOT_MODES = tuple(mode.name.lower() for mode in SecureBoot)
"""Names of the secure-boot modes, in the order of their numbers: off, audit, enforce."""

IN_USE_CODE = "HSCL0DC8"
"""The console's message number for switching off something that a keystore in use needs."""

NAME_RULE = (
    "a name is 1 to 31 letters, digits, dots, dashes or underscores, starts with a letter or digit, "
    "and is not control or tcp"
)
"""The rule of partition names, as refusals cite it (spec/control.md#names)."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,30}")
_RESERVED_NAMES = frozenset({"control", "tcp"})


def is_partition_name(name: str) -> bool:
    """Return whether a partition can have this name: it becomes the name of a socket and of a file."""
    return bool(_NAME.fullmatch(name)) and name not in _RESERVED_NAMES
