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
COPY_LEVEL = 2
"""The level that is written; level 1 stays readable for ever."""


def _start(level: int) -> Struct:
    """Return the layout of the fixed-size fields; level 1 has no count of restores."""
    restores = ["restores" / Int32ub] if level > 1 else []
    return Struct(
        "magic" / Const(COPY_MAGIC),
        "level" / Const(level, Int8ub),
        "kind" / Const(int(SealedKind.PARTITION), Int8ub),
        "reserved" / Const(0, Int16ub),
        # The next fields are in clear, because the console has no key.  By them it finds the copies of a
        # partition, orders them by (restores, generation), and checks whether they fit a target.
        "tsk_id" / Bytes(ID_SIZE),
        "system_id" / Bytes(SYSTEM_ID_SIZE),
        "uuid" / Bytes(UUID_SIZE),
        "generation" / Int64ub,
        "time" / Int64ub,
        "kbytes" / Int32ub,
        *restores,
        "salt" / Bytes(SALT_SIZE),
    )


def _header(start: Struct) -> Struct:
    return Struct(
        "header" / start,
        "firmware" / Prefixed(Int8ub, GreedyBytes),
        "sealed_length" / Int32ub,
    )


COPY_START = _start(COPY_LEVEL)
"""The fields of a fixed size, 104 bytes."""
COPY_START_1 = _start(1)
"""The same at level 1, 100 bytes."""

COPY_HEADER = _header(COPY_START)
"""The clear header; all of it is associated data."""
COPY_HEADER_1 = _header(COPY_START_1)
"""The clear header of level 1, which is only read."""

COPY = Struct(
    "header" / COPY_HEADER,
    "sealed" / Bytes(this.header.sealed_length),
    Terminated,
)
"""A whole console copy: `sealed` is the ciphertext and the 16-byte tag."""
