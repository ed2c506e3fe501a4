"""The layouts of sealed level 1, which this release only reads (spec/sealed.md#level-1)."""

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
    Struct,
    Terminated,
    this,
)

from hcall_server.platform.identity import SYSTEM_ID_SIZE
from hcall_server.sealing.commits import MARK_MAGIC
from hcall_server.sealing.formats import envelope_header

ENVELOPE_HEADER = envelope_header(1)

ASSOCIATED_DATA = Struct(
    "header" / Bytes(ENVELOPE_HEADER.sizeof()),
    "system_id" / Bytes(SYSTEM_ID_SIZE),
    "partition" / Int16ub,
)

_PROFILE_FIELDS = (
    "number" / Int16ub,
    "secure_boot" / Int8ub,
    "auto_start" / Int8ub,
    "kbytes" / Int32ub,
    "ipl_count" / Int32ub,
    "image_generation" / Int64ub,
    "name_length" / Int8ub,
)

PROFILE_2_HEADER = Struct("level" / Const(2, Int16ub), "attributes" / Int16ub, *_PROFILE_FIELDS)

PROFILE_2 = Struct("header" / PROFILE_2_HEADER, "name" / Bytes(this.header.name_length), Terminated)
"""The plaintext of a partition profile of level 2."""

PROFILE_1_HEADER = Struct("level" / Const(1, Int16ub), "reserved" / Const(0, Int16ub), *_PROFILE_FIELDS)

PROFILE_1 = Struct("header" / PROFILE_1_HEADER, "name" / Bytes(this.header.name_length), Terminated)
"""The plaintext of a partition profile of level 1, which knew no attributes."""

SYSTEM_1 = Struct(
    "level" / Const(1, Int16ub),
    "reserved" / Const(0, Int16ub),
    "total_kbytes" / Int32ub,
    "firmware" / Prefixed(Int8ub, GreedyBytes),
    Terminated,
)
"""The plaintext of a system record of level 1."""

MARK_1 = Struct(
    "magic" / Const(MARK_MAGIC),
    "level" / Const(1, Int8ub),
    "reserved" / Const(bytes(3)),
    "number" / Int64ub,
    "check" / Int32ub,
)
"""The high-water mark of level 1, 20 bytes; `check` is the CRC-32 of the fields before it."""
