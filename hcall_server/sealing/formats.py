"""The layouts of everything sealed, as Construct definitions: the truth that spec/sealed.md describes.

The envelope goes around every blob and is read before anything is known to be authentic; the
plaintexts are read only after authentication, and just as strictly.  Where a layout is on a hot
path its `FixedLayout` is derived from the definition here, never written a second time.
"""

from __future__ import annotations

from enum import IntEnum

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
    Struct,
    Terminated,
    this,
)

MAGIC = b"SPKS"
ENVELOPE_LEVEL = 1
"""The envelope format that is written; older ones stay readable for ever."""
SALT_SIZE = 32
TAG_SIZE = 16
SYSTEM_ID_SIZE = 16
KEY_SIZE = 32
NONCE_SIZE = 12

IMAGE_LEVEL = 1
PROFILE_LEVEL = 2
SYSTEM_LEVEL = 1


class SealedKind(IntEnum):
    """What a sealed blob holds, one byte of its header and part of what is authenticated."""

    PARTITION_IMAGE = 1
    PARTITION_PROFILE = 2
    SYSTEM_RECORD = 3


ENVELOPE_HEADER = Struct(
    "magic" / Const(MAGIC),
    "level" / Const(ENVELOPE_LEVEL, Int8ub),
    "kind" / Int8ub,
    "reserved" / Const(0, Int16ub),
    "salt" / Bytes(SALT_SIZE),
    "generation" / Int64ub,
    "sealed_length" / Int32ub,
)
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
    "partition" / Int16ub,
)
"""What is authenticated besides the ciphertext: the clear header, and whose blob it is."""

OBJECT_HEADER = Struct(
    "consumer" / Int8ub,
    "reserved" / Const(0, Int8ub),
    "label_length" / Int16ub,
    "policy" / Int32ub,
    "data_length" / Int32ub,
)
"""One stored object without its label and data, 12 bytes."""

OBJECT = Struct(
    "header" / OBJECT_HEADER,
    "label" / Bytes(this.header.label_length),
    "data" / Bytes(this.header.data_length),
)

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
"""The plaintext of a partition image (spec/sealed.md#partition-image)."""

_PROFILE_FIELDS = (
    "number" / Int16ub,
    "secure_boot" / Int8ub,
    "auto_start" / Int8ub,
    "kbytes" / Int32ub,
    "ipl_count" / Int32ub,
    "image_generation" / Int64ub,
    "name_length" / Int8ub,
)

PROFILE_HEADER = Struct(
    "level" / Const(PROFILE_LEVEL, Int16ub),
    "attributes" / Int16ub,
    *_PROFILE_FIELDS,
)

PROFILE = Struct(
    "header" / PROFILE_HEADER,
    "name" / Bytes(this.header.name_length),
    Terminated,
)
"""The plaintext of a partition profile (spec/sealed.md#partition-profile)."""

PROFILE_1_HEADER = Struct(
    "level" / Const(1, Int16ub),
    "reserved" / Const(0, Int16ub),
    *_PROFILE_FIELDS,
)

PROFILE_1 = Struct(
    "header" / PROFILE_1_HEADER,
    "name" / Bytes(this.header.name_length),
    Terminated,
)
"""The plaintext of a profile of level 1, which knew no attributes: it is only read any more."""

SYSTEM = Struct(
    "level" / Const(SYSTEM_LEVEL, Int16ub),
    "reserved" / Const(0, Int16ub),
    "total_kbytes" / Int32ub,
    "firmware" / Prefixed(Int8ub, GreedyBytes),
    Terminated,
)
"""The plaintext of the system record (spec/sealed.md#system-record)."""
