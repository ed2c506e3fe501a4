"""The layouts of all sealed records, as Construct definitions; the tests check spec/sealed.md against them.

The envelope is around every blob and is read before authentication.  Plaintexts are read after it, with the
same strict checks.  A layout on a hot path has a `FixedLayout`.  It is derived from the definition here,
never written a second time.  Layouts that are only read are in `level_1_formats`.
"""

from __future__ import annotations

from construct import (
    Array,
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

from hcall_abi.bounds import ACCESS_KEY_SIZE, TRUSTED_KEY_SIZE
from hcall_server.keystore.image import OBJECT_HEADER
from hcall_server.platform.identity import SEALED_LEVEL, SYSTEM_ID_SIZE, UUID_SIZE

MAGIC = b"SPKS"
ENVELOPE_LEVEL = SEALED_LEVEL
"""The sealed level that is written; older ones stay readable for ever."""
# A key is used for one sealing, so two sealings must never have the same salt. With 32 random bytes the
# probability of that is about 2^-193 after 2^32 sealings (spec/sealed.md#keys).
SALT_SIZE = 32
TAG_SIZE = 16
KEY_SIZE = 32
# 96 bits is the length that GCM uses without a hash of the nonce (NIST SP 800-38D, 7.1).
NONCE_SIZE = 12

IMAGE_LEVEL = 1
PARTITION_LEVEL = 1
SYSTEM_LEVEL = 2
TRUSTED_KEY_LEVEL = 1


def envelope_header(level: int) -> Struct:
    """Return the layout of an envelope's header; all levels have the same fields."""
    return Struct(
        "magic" / Const(MAGIC),
        "level" / Const(level, Int8ub),
        "kind" / Int8ub,
        "reserved" / Const(0, Int16ub),
        "salt" / Bytes(SALT_SIZE),
        # The generation is in clear, because the commit record lists it and is made without the key of the
        # blob.
        "generation" / Int64ub,
        "sealed_length" / Int32ub,
    )


ENVELOPE_HEADER = envelope_header(ENVELOPE_LEVEL)
"""The clear part of a sealed blob, 52 bytes; all of it is associated data (spec/sealed.md#the-envelope)."""

ENVELOPE = Struct(
    "header" / ENVELOPE_HEADER,
    "sealed" / Bytes(this.header.sealed_length),
    Terminated,
)
"""A whole sealed blob: `sealed` is the ciphertext and the 16-byte tag."""

ASSOCIATED_DATA = Struct(
    "header" / Bytes(ENVELOPE_HEADER.sizeof()),
    "system_id" / Bytes(SYSTEM_ID_SIZE),
    "uuid" / Bytes(UUID_SIZE),
)
"""The associated data of a blob: its clear header, then the system and the partition that own it."""

OBJECT = Struct(
    "header" / OBJECT_HEADER,
    "label" / Bytes(this.header.label_length),
    "data" / Bytes(this.header.data_length),
)
"""The entry of one object; `hcall_server.keystore.image` encodes it."""

IMAGE_HEADER = Struct(
    "level" / Const(IMAGE_LEVEL, Int16ub),
    "reserved" / Const(0, Int16ub),
    "count" / Int32ub,
)

IMAGE = Struct(
    "header" / IMAGE_HEADER,
    "objects" / Array(this.header.count, OBJECT),
    Terminated,
)
"""The image in a partition record (spec/sealed.md#partition-image)."""

LATER_FIELD = Struct("tag" / Int16ub, "value" / Prefixed(Int16ub, GreedyBytes))

LATER_FIELDS = PrefixedArray(Int8ub, LATER_FIELD)
"""A tagged list: fields that later releases may add (spec/sealed.md#later-fields)."""

PARTITION_HEADER = Struct(
    "level" / Const(PARTITION_LEVEL, Int16ub),
    "attributes" / Int16ub,
    "number" / Int16ub,
    "secure_boot" / Int8ub,
    "auto_start" / Int8ub,
    "kbytes" / Int32ub,
    "ipl_count" / Int32ub,
    "access_key" / Bytes(ACCESS_KEY_SIZE),
    "custody" / Int8ub,
    "name_length" / Int8ub,
)

PARTITION = Struct(
    "header" / PARTITION_HEADER,
    "name" / Bytes(this.header.name_length),
    "later" / LATER_FIELDS,
    # The image has no length field: it takes all bytes that are left, and `decode_image` checks its end.
    "image" / GreedyBytes,
)
"""The plaintext of a partition record: profile, then image (spec/sealed.md#partition-record)."""

LISTED_HEADER = Struct(
    "uuid" / Bytes(UUID_SIZE),
    "number" / Int16ub,
    "name_length" / Int8ub,
)

LISTED = Struct(
    "header" / LISTED_HEADER,
    "name" / Bytes(this.header.name_length),
)
"""One partition in the roster of the system record."""

SYSTEM_HEADER = Struct(
    "level" / Const(SYSTEM_LEVEL, Int16ub),
    "reserved" / Const(0, Int16ub),
    "total_kbytes" / Int32ub,
    "firmware" / Prefixed(Int8ub, GreedyBytes),
)

SYSTEM = Struct(
    "header" / SYSTEM_HEADER,
    "roster" / PrefixedArray(Int16ub, LISTED),
    "later" / LATER_FIELDS,
    Terminated,
)
"""The plaintext of the system record (spec/sealed.md#system-record)."""

TRUSTED_KEY = Struct(
    "level" / Const(TRUSTED_KEY_LEVEL, Int16ub),
    "reserved" / Const(0, Int16ub),
    "key" / Bytes(TRUSTED_KEY_SIZE),
    "later" / LATER_FIELDS,
    Terminated,
)
"""The plaintext of the trusted system key's record (spec/sealed.md#trusted-system-key)."""
