"""A second implementation of wrapped objects, made only from spec/wrapped.md."""

from __future__ import annotations

import functools
import hashlib
import hmac
import struct

from tests.sealing.second import Gcm, hkdf_sha256

LEAST_FLAGS = 0x1000_0000_0000_0001


def key_id(key: bytes) -> bytes:
    """Return the id by which a wrapped object names its key."""
    return hmac.new(key, b"swpks wrapping key id 1", hashlib.sha256).digest()[:16]


def header(key: bytes, flags: int, salt: bytes, length: int) -> bytes:
    """Return the 1008 bytes before the tag."""
    fields = struct.pack(">4sB3xQ16s32sI", b"SPKW", 1, flags, key_id(key), salt, length)
    return fields + bytes(1008 - len(fields))


@functools.lru_cache(maxsize=1024)
def wrap(key: bytes, data: bytes, flags: int = LEAST_FLAGS, salt: bytes = b"s" * 32) -> bytes:
    """Return the wrapped object for `data`; this implementation is slow."""
    material = hkdf_sha256(key, salt, b"swpks wrapping 1", 44)
    clear = header(key, flags, salt, len(data))
    sealed = Gcm(material[:32], material[32:]).encrypt(data, clear)
    return clear + sealed[-16:] + sealed[:-16]


def unwrap(key: bytes, wrapped: bytes) -> tuple[int, bytes]:
    """Return the flags and the data in a wrapped object; fail if anything in it is wrong."""
    magic, level, flags, name, salt, length = struct.unpack_from(">4sB3xQ16s32sI", wrapped)
    assert (magic, level, name, length) == (b"SPKW", 1, key_id(key), len(wrapped) - 1024)
    assert wrapped[:1008] == header(key, flags, salt, length)
    material = hkdf_sha256(key, salt, b"swpks wrapping 1", 44)
    sealed = wrapped[1024:] + wrapped[1008:1024]
    return flags, Gcm(material[:32], material[32:]).decrypt(sealed, wrapped[:1008])
