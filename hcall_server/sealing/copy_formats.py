"""The layout of a console copy, as Construct definitions (spec/sealed.md#console-copy)."""

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

from hcall_server.platform.identity import SYSTEM_ID_SIZE, UUID_SIZE
from hcall_server.platform.trusted_key import ID_SIZE
from hcall_server.sealing.formats import SALT_SIZE
from hcall_server.sealing.kinds import SealedKind

COPY_MAGIC = b"SPKB"
COPY_LEVEL = 1

COPY_START = Struct(
    "magic" / Const(COPY_MAGIC),
    "level" / Const(COPY_LEVEL, Int8ub),
    "kind" / Const(int(SealedKind.PARTITION), Int8ub),
    "reserved" / Const(0, Int16ub),
    "tsk_id" / Bytes(ID_SIZE),
    "system_id" / Bytes(SYSTEM_ID_SIZE),
    "uuid" / Bytes(UUID_SIZE),
    "generation" / Int64ub,
    "time" / Int64ub,
    "kbytes" / Int32ub,
    "salt" / Bytes(SALT_SIZE),
)
"""The fields of a fixed size, 100 bytes."""

COPY_HEADER = Struct(
    "header" / COPY_START,
    "firmware" / Prefixed(Int8ub, GreedyBytes),
    "sealed_length" / Int32ub,
)
"""The clear header; all of it is associated data."""

COPY = Struct(
    "header" / COPY_HEADER,
    "sealed" / Bytes(this.header.sealed_length),
    Terminated,
)
"""A whole console copy: `sealed` is the ciphertext and the 16-byte tag."""
