"""The layout of the console record, as Construct definitions; a start does not need them."""

from __future__ import annotations

from construct import (
    Bytes,
    Const,
    GreedyBytes,
    Int16ub,
    Int32ub,
    Int64ub,
    Prefixed,
    PrefixedArray,
    Struct,
    Terminated,
)

from hcall_abi.bounds import CONSOLE_ID_SIZE
from hcall_server.platform.identity import UUID_SIZE
from hcall_server.sealing.formats import LATER_FIELDS

CONSOLE_LEVEL = 1
# Only the system that made a fingerprint compares it.  If two fingerprints match by accident, one copy is
# not requested.  For that, 8 bytes of a SHA-256 are enough.
FINGERPRINT_SIZE = 8

CONSOLE_HEADER = Struct(
    "level" / Const(CONSOLE_LEVEL, Int16ub),
    "reserved" / Const(0, Int16ub),
    "id" / Bytes(CONSOLE_ID_SIZE),
    "name" / Prefixed(Int16ub, GreedyBytes),
)

KEPT = Struct(
    "uuid" / Bytes(UUID_SIZE),
    "restores" / Int32ub,
    "generation" / Int64ub,
    "time" / Int64ub,
    "profile" / Bytes(FINGERPRINT_SIZE),
)
"""The last copy of one store, in the console record."""

CONSOLE = Struct(
    "header" / CONSOLE_HEADER,
    "kept" / PrefixedArray(Int32ub, KEPT),
    "forgotten" / PrefixedArray(Int32ub, Bytes(UUID_SIZE)),
    "later" / LATER_FIELDS,
    Terminated,
)
"""The plaintext of the console record (spec/sealed.md#console-record)."""
