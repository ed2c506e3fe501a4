"""The limits of one partition's keystore: sizes in bytes, and the supported policies."""

from __future__ import annotations

from typing import NamedTuple

from hcall_abi.levels import KIB, FirmwareLevel

LARGE_OBJECTS_SINCE = 3
"""Config version from which objects of 64 KiB and more exist, and with them the fixed 0xFFFF."""


class KeystoreLimits(NamedTuple):
    """The limits of a keystore.

    `max_object_size` is the value in GET_CONFIG (16 bits); `largest_object` is the limit of WRITE.
    """

    # There are two limits, because a field of 16 bits cannot hold the size of a large object.  If objects
    # of 64 KiB and more exist, Linux demands 0xFFFF in this field, and reads the limit from another one.

    total_size: int
    object_overhead: int
    max_object_size: int
    largest_object: int
    max_label_size: int
    max_password_size: int
    supported_policies: int


def limits_of(level: FirmwareLevel, kbytes: int) -> KeystoreLimits:
    """Return the limits of a keystore of `kbytes` KiB on a firmware level (spec/levels.md)."""
    total = kbytes * KIB
    large = level.config_version >= LARGE_OBJECTS_SINCE and level.max_large_object_size > 0
    # Without large objects, no object is larger than the store.  With them, the value is fixed (choice
    # C-12).
    max_object = level.max_object_size if large else min(total, level.max_object_size)
    return KeystoreLimits(
        total_size=total,
        object_overhead=level.object_overhead,
        max_object_size=max_object,
        largest_object=level.max_large_object_size if large else max_object,
        max_label_size=level.max_label_size,
        max_password_size=level.max_password_size,
        supported_policies=level.supported_policies,
    )
