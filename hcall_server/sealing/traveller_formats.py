"""The layout of a partition that travels, as Construct definitions.

Page: spec/sealed.md#a-partition-that-travels.
"""

from __future__ import annotations

from construct import (
    Bytes,
    Const,
    GreedyBytes,
    Int8ub,
    Int16ub,
    Int32ub,
    Int64ub,
    Prefixed,
    PrefixedArray,
    Struct,
    Terminated,
)

from hcall_server.platform.identity import UUID_SIZE

TRAVELLER_LEVEL = 1

PASSWORD = Struct("consumer" / Int8ub, "secret" / Prefixed(Int16ub, GreedyBytes))
"""The password of a consumer."""

LABEL_LIST = Struct("token" / Int64ub, "consumer" / Int8ub, "labels" / Prefixed(Int32ub, GreedyBytes))
"""An open list of labels; each label is u16 n, then n bytes."""

TRAVELLER = Struct(
    "level" / Const(TRAVELLER_LEVEL, Int16ub),
    "secure_boot" / Int8ub,
    "used" / Int8ub,
    "uuid" / Bytes(UUID_SIZE),
    "generation" / Int64ub,
    "record" / Prefixed(Int32ub, GreedyBytes),
    "passwords" / PrefixedArray(Int8ub, PASSWORD),
    "places" / Prefixed(Int32ub, GreedyBytes),
    "objects" / Prefixed(Int32ub, GreedyBytes),
    "listings" / PrefixedArray(Int8ub, LABEL_LIST),
    Terminated,
)
"""A partition that travels: its record, and the used state of its keystore."""
