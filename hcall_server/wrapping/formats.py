"""The layout of a wrapped object, as Construct definitions; spec/wrapped.md describes it."""

from __future__ import annotations

from construct import Bytes, Const, Int8ub, Int32ub, Int64ub, Struct, Terminated, this

from hcall_abi.wrapping import WRAP_OVERHEAD

MAGIC = b"SPKW"
LEVEL = 1
"""The format level that is written; older ones stay readable for ever."""
KEY_ID_SIZE = 16
SALT_SIZE = 32
"""Length of the random bytes of one wrapping, in bytes."""
TAG_SIZE = 16

_FIELDS = 4 + 1 + 3 + 8 + KEY_ID_SIZE + SALT_SIZE + 4

# Header and tag have 1024 bytes together, because Linux computes with this size.  It is the only public
# fact about the format (C-25).
WRAPPED_HEADER = Struct(
    "magic" / Const(MAGIC),
    "level" / Const(LEVEL, Int8ub),
    "reserved" / Const(bytes(3)),
    "flags" / Int64ub,
    "key_id" / Bytes(KEY_ID_SIZE),
    "salt" / Bytes(SALT_SIZE),
    "length" / Int32ub,
    "reserved" / Const(bytes(WRAP_OVERHEAD - TAG_SIZE - _FIELDS)),
)
"""The header before the tag, 1008 bytes in the clear; all of it is authenticated."""

WRAPPED_OBJECT = Struct(
    "header" / WRAPPED_HEADER,
    "tag" / Bytes(TAG_SIZE),
    "ciphertext" / Bytes(this.header.length),
    Terminated,
)
"""A whole wrapped object: 1024 bytes, then the ciphertext, as long as the wrapped bytes."""
