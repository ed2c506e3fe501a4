"""The tagged list at the end of a record: fields that later releases added (spec/sealed.md#later-fields).

A release that does not know a tag cannot know the restrictions of its field.  So it refuses the record.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from construct import Container, Int16ub, Struct

from hcall_abi.later import of_later_release
from hcall_abi.layout import FixedLayout
from hcall_abi.rules import storage as rules
from hcall_abi.rules.rule import Rule
from hcall_server.sealing.errors import PlaintextError

_START = FixedLayout(Struct("tag" / Int16ub, "length" / Int16ub))
"""The start of a `formats.LATER_FIELD`; its value follows."""

_LEVEL_SIZE = 2
"""Bytes of the level with which each plaintext begins."""

NO_FIELDS = b"\0"
"""The list without a field."""

SYSTEM_NAME_TAG = 1
"""The field of the system record with the system's name."""

SYSTEM_MOVES_TAG = 2
"""The field of the system record of a system that partitions have left or come to by a migration."""

RESTORES_TAG = 1
"""The field of the partition record with the count of its restores.  A store that was never restored has no
such field."""

EPOCH_TAG = 2
"""The field of the partition record with the number of the last attempt to move it.  Without an attempt there
is no such field."""

PEER_TAG = 3
"""The field of the partition record with the system at the other end of that attempt."""

PARTITION_TAGS = frozenset({RESTORES_TAG, EPOCH_TAG, PEER_TAG})
"""Tags that this release knows in a partition record."""
SYSTEM_TAGS = frozenset({SYSTEM_NAME_TAG, SYSTEM_MOVES_TAG})
"""Tags that this release knows in the system record."""
TRUSTED_KEY_TAGS: frozenset[int] = frozenset()
"""Tags that this release knows in the record of the trusted system key."""
CONSOLE_TAGS: frozenset[int] = frozenset()
"""Tags that this release knows in the console record."""
CUSTODY_TAGS: frozenset[int] = frozenset()
"""Tags that this release knows in the custody record."""


def layout_error(plaintext: bytes, level: int, rule: Rule, error: Exception) -> PlaintextError:
    """Return the error of a plaintext that does not have the layout of `level`, the newest one."""
    # Every plaintext begins with its level, at all levels.  So a later level can be reported by its number,
    # even if the rest of the plaintext cannot be read.
    found = int.from_bytes(plaintext[:_LEVEL_SIZE], "big")
    if len(plaintext) >= _LEVEL_SIZE and found > level:
        return PlaintextError(rules.STATE_LEVEL, f"has {of_later_release(found, [level])}")
    return PlaintextError(rule, f"does not have the layout of its level ({type(error).__name__})")


def encode_fields(values: Mapping[int, bytes]) -> bytes:
    """Return the list with these values by their tags, in ascending order."""
    fields = b"".join(_START.pack(tag, len(value)) + value for tag, value in sorted(values.items()))
    return bytes([len(values)]) + fields


def taken_apart(plaintext: bytes, begin: int) -> tuple[list[Any], int] | None:
    """Return the fields of the list at `begin`, and the end of the list; None if the bytes end too early.

    The result is that of `formats.LATER_FIELDS`, in a tenth of its time; a property test compares them.
    """
    found: list[Any] = []
    at = begin + 1
    for _ in range(plaintext[begin] if begin < len(plaintext) else 0):
        value = at + _START.size
        if value > len(plaintext):
            return None
        tag, length = _START.unpack_raw(plaintext, at)
        at = value + length
        # If a value runs past the end, the slice cuts it short.  `at` counts the stated length, so the
        # comparison after the loop finds that.
        found.append(Container(tag=tag, value=plaintext[value:at]))
    return (found, at) if at <= len(plaintext) else None


def later_fields(fields: Iterable[Any], known: Collection[int]) -> dict[int, bytes]:
    """Return the values of a list by their tags.

    The tags have to ascend, and each has to be in `known`.  PlaintextError names the first tag that breaks
    this.
    """
    found: dict[int, bytes] = {}
    last = -1
    for field in fields:
        if field.tag not in known:
            finding = of_later_release(field.tag, known, what="tag")
            raise PlaintextError(rules.SEALED_FIELD, f"has a field with the unknown {finding}")
        # Ascending tags give each content one form, and rule out two values of one tag.
        if field.tag <= last:
            raise PlaintextError(rules.SEALED_FIELD, f"has the tag {field.tag} after the tag {last}")
        found[field.tag], last = field.value, field.tag
    return found
