"""The layout of the custody record, as Construct definitions; few starts need them."""

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

from hcall_server.platform.identity import SYSTEM_ID_SIZE, UUID_SIZE
from hcall_server.sealing.formats import LATER_FIELDS

CUSTODY_LEVEL = 1

DEPARTED = Struct(
    "uuid" / Bytes(UUID_SIZE),
    "custody" / Int8ub,
    "reserves_name" / Int8ub,
    "epoch" / Int64ub,
    "peer" / Bytes(SYSTEM_ID_SIZE),
    "name" / Prefixed(Int8ub, GreedyBytes),
)
"""One partition that the system has no store of."""

CUSTODY = Struct(
    "level" / Const(CUSTODY_LEVEL, Int16ub),
    "reserved" / Const(0, Int16ub),
    "departed" / PrefixedArray(Int32ub, DEPARTED),
    "later" / LATER_FIELDS,
    Terminated,
)
"""The plaintext of the custody record (spec/sealed.md#custody-record)."""
