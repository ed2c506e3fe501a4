"""The wrapped copies of the root key in NVRAM, as a TPM made them (spec/sealed.md#wrapped-root-key).

The record is not sealed, because a start reads it before it has a root key.  The TPM protects the blob.
System id and root key are inside the blob, so a new anchor card can be written from it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from construct import Bytes, Const, ConstructError, Int8ub, Int16ub, Int32ub, Struct, Terminated, this

from hcall_abi.errors import StorageError
from hcall_abi.later import of_later_release
from hcall_abi.layout import FixedLayout
from hcall_abi.rules import storage as rules
from hcall_server.platform.identity import ROOT_KEY_SIZE, SEALED_LEVEL, SYSTEM_ID_SIZE, SystemIdentity

WRAPPED_MAGIC = b"SPKW"
WRAPPED_LEVEL = 1


class WrapperKind(IntEnum):
    """The kind of TPM that wrapped a copy: one byte of its record."""

    EMBEDDED = 1
    TPM_2 = 2


WRAPPED = Struct(
    "magic" / Const(WRAPPED_MAGIC),
    "level" / Const(WRAPPED_LEVEL, Int8ub),
    "kind" / Int8ub,
    "reserved" / Const(0, Int16ub),
    "length" / Int32ub,
    "blob" / Bytes(this.length),
    Terminated,
)
"""The record of a wrapped copy in NVRAM."""

IDENTITY = Struct("system_id" / Bytes(SYSTEM_ID_SIZE), "root_key" / Bytes(ROOT_KEY_SIZE))
"""The secret that a TPM wraps, 48 bytes."""

_IDENTITY = FixedLayout(IDENTITY)


class WrappedKey(NamedTuple):
    """A wrapped copy of the root key: the kind of its TPM, and the blob of that TPM."""

    kind: WrapperKind
    blob: bytes

    def __repr__(self) -> str:
        return f"WrappedKey({self.kind.name}, <{len(self.blob)} bytes>)"


def encode_wrapped(kind: WrapperKind, blob: bytes) -> bytes:
    """Return the NVRAM record of a wrapped copy."""
    return bytes(WRAPPED.build({"kind": kind, "length": len(blob), "blob": blob}))


def decode_wrapped(record: bytes) -> WrappedKey:
    """Return the wrapped copy in an NVRAM record; StorageError if it is damaged or of an unknown kind.

    A copy of a later level is refused in the same way.  The other copies have the same key, so this start can
    go on, and makes the copy again.
    """
    level = record[len(WRAPPED_MAGIC)] if len(record) > len(WRAPPED_MAGIC) else 0
    if record.startswith(WRAPPED_MAGIC) and level > WRAPPED_LEVEL:
        finding = of_later_release(level, [WRAPPED_LEVEL])
        raise StorageError(rules.ROOT_KEY_RECORD, f"a wrapped copy of the root key has {finding}")
    try:
        found = WRAPPED.parse(record)
        return WrappedKey(WrapperKind(found.kind), found.blob)
    except (ConstructError, ValueError) as error:
        message = f"a wrapped copy of the root key is damaged ({type(error).__name__})"
        raise StorageError(rules.ROOT_KEY_RECORD, message) from None


def pack_identity(identity: SystemIdentity) -> bytes:
    """Return the 48 secret bytes that a TPM wraps."""
    return _IDENTITY.pack(identity.system_id, identity.root_key)


def unpack_identity(secret: bytes) -> SystemIdentity:
    """Return the identity in the bytes that a TPM unwrapped; StorageError unless they are 48."""
    if len(secret) != _IDENTITY.size:
        message = f"a wrapped copy of the root key has {len(secret)} bytes inside, not {_IDENTITY.size}"
        raise StorageError(rules.ROOT_KEY_IDENTITY, message)
    system_id, root_key = _IDENTITY.unpack(secret)
    return SystemIdentity(system_id, root_key, SEALED_LEVEL)
