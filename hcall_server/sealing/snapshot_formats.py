"""The layout of a named snapshot, as Construct definitions (spec/snapshots.md#format)."""

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
    this,
)

from hcall_server.platform.identity import SYSTEM_ID_SIZE, UUID_SIZE
from hcall_server.sealing.formats import LATER_FIELDS, SALT_SIZE

SNAPSHOT_MAGIC = b"SPKN"
SNAPSHOT_LEVEL = 1
"""The level that is written; it stays readable for ever."""
CONTENTS_LEVEL = 1
OWN, PORTABLE = 1, 2
"""The kinds: sealed under a key from the root key, or under a passphrase."""
KEY_ID_SIZE = 8

SNAPSHOT_START = Struct(
    "magic" / Const(SNAPSHOT_MAGIC),
    "level" / Const(SNAPSHOT_LEVEL, Int8ub),
    "kind" / Int8ub,
    "reserved" / Const(0, Int16ub),
    # The next fields are in clear, so that a list of snapshots needs neither the root key nor a passphrase.
    "system_id" / Bytes(SYSTEM_ID_SIZE),
    "key_id" / Bytes(KEY_ID_SIZE),
    "time" / Int64ub,
    "partitions" / Int16ub,
    "log_n" / Int8ub,
    "r" / Int8ub,
    "p" / Int8ub,
    "reserved_2" / Const(b"\0\0\0", Bytes(3)),
    "salt" / Bytes(SALT_SIZE),
)
"""The fields of a fixed size, 80 bytes."""

SNAPSHOT_HEADER = Struct(
    "header" / SNAPSHOT_START,
    "name" / Prefixed(Int8ub, GreedyBytes),
    "firmware" / Prefixed(Int8ub, GreedyBytes),
    "sealed_length" / Int32ub,
)
"""The clear header; all of it is associated data."""

SNAPSHOT = Struct(
    "header" / SNAPSHOT_HEADER,
    "sealed" / Bytes(this.header.sealed_length),
    Terminated,
)
"""A whole snapshot: `sealed` is the ciphertext and the 16-byte tag."""

SNAPSHOT_PARTITION = Struct(
    "uuid" / Bytes(UUID_SIZE),
    "generation" / Int64ub,
    "record" / Prefixed(Int32ub, GreedyBytes),
)
"""One partition: `record` is the plaintext of a partition record (spec/sealed.md#partition-record)."""

SNAPSHOT_CONTENTS = Struct(
    "level" / Const(CONTENTS_LEVEL, Int16ub),
    "reserved" / Const(0, Int16ub),
    "total_kbytes" / Int32ub,
    "system_name" / Prefixed(Int8ub, GreedyBytes),
    "partitions" / PrefixedArray(Int16ub, SNAPSHOT_PARTITION),
    "later" / LATER_FIELDS,
    Terminated,
)
"""The plaintext of a snapshot."""
