"""Making and opening wrapped objects: AES-256-GCM under a fresh key for every wrapping."""

# HKDF-SHA256 derives key and nonce of one wrapping from the wrapping key and 32 random bytes, which the
# object stores.  So no pair of key and nonce is used twice, even after many wrappings or a restored store
# (spec/wrapped.md#keys).  We dropped a counter: each WRAP would change the store, and a restored store
# would repeat its numbers.

from __future__ import annotations

from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hcall_abi.layout import FixedLayout, LayoutMismatch
from hcall_abi.wrapping import AES_256_GCM, ALGORITHM_MASK, WRAP_OVERHEAD, WRAPPING_KEY_SIZE
from hcall_server.wrapping.errors import DamagedObject, UnknownFormat
from hcall_server.wrapping.formats import LEVEL, MAGIC, SALT_SIZE, WRAPPED_HEADER

WRAPPING_INFO = b"swpks wrapping 1"
NONCE_SIZE = 12

_HEADER = FixedLayout(WRAPPED_HEADER)
_BEGINNING = MAGIC + bytes([LEVEL])
_SHA256 = SHA256()


class Header(NamedTuple):
    """The clear header of a wrapped object, not authenticated yet; `length` is that of the wrapped bytes."""

    flags: int
    key_id: bytes
    salt: bytes
    length: int


def wrap(key: bytes, key_id: bytes, flags: int, salt: bytes, data: bytes) -> bytes:
    """Return `data` wrapped under a key of 32 bytes; the result is 1024 bytes longer.

    `flags` are those of WRAP: policy and algorithm.  `salt` is 32 random bytes that were never used before.
    """
    if len(key) != WRAPPING_KEY_SIZE or len(salt) != SALT_SIZE:
        raise ValueError("a wrapping key and a salt have 32 bytes each")
    header = _HEADER.pack(flags, key_id, salt, len(data))
    cipher, nonce = _fresh_cipher(key, salt)
    sealed = cipher.encrypt(nonce, data, header)
    # The library puts the tag at the end.  The format has it in front of the ciphertext, at a fixed offset.
    return header + sealed[len(data) :] + sealed[: len(data)]


def read_header(wrapped: bytes) -> Header:
    """Return the header of a wrapped object.

    Raises UnknownFormat, or DamagedObject for bytes that no wrapped object of this format can have.
    """
    # The beginning is checked before the layout.  An object of another level must be "unknown"
    # (H_UNSUPPORTED), not "damaged".
    if wrapped[: len(_BEGINNING)] != _BEGINNING:
        raise UnknownFormat
    try:
        header = Header(*_HEADER.unpack(wrapped))
    except LayoutMismatch:
        raise DamagedObject("its reserved bytes are not 0, or it is too short") from None
    if header.flags & ALGORITHM_MASK != AES_256_GCM:
        raise UnknownFormat
    if len(wrapped) != WRAP_OVERHEAD + header.length:
        raise DamagedObject(f"{len(wrapped)} bytes instead of {WRAP_OVERHEAD + header.length}")
    return header


def open_wrapped(key: bytes, wrapped: bytes) -> bytes:
    """Return the wrapped bytes; DamagedObject if they do not authenticate under the key."""
    header = read_header(wrapped)
    cipher, nonce = _fresh_cipher(key, header.salt)
    sealed = wrapped[WRAP_OVERHEAD:] + wrapped[_HEADER.size : WRAP_OVERHEAD]
    try:
        return cipher.decrypt(nonce, sealed, wrapped[: _HEADER.size])
    except InvalidTag:
        raise DamagedObject("it does not authenticate") from None


def _fresh_cipher(key: bytes, salt: bytes) -> tuple[AESGCM, bytes]:
    """Return cipher and nonce for the salt of a wrapping.  No other wrapping has this salt."""
    material = HKDF(_SHA256, WRAPPING_KEY_SIZE + NONCE_SIZE, salt, WRAPPING_INFO).derive(key)
    return AESGCM(material[:WRAPPING_KEY_SIZE]), material[WRAPPING_KEY_SIZE:]
