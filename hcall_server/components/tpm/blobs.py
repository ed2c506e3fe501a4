"""The blob of the embedded TPM and its seed file, as bytes.  Pure.  Layouts: spec/components.md#embedded-tpm.

Each sealing has its own key and nonce.  HKDF-SHA256 derives both from the seed and 32 random bytes in the
blob.  So there is no counter that a crash or a copy of the folder could repeat.
"""

from __future__ import annotations

import hashlib

from construct import Bytes, Const, ConstructError, GreedyBytes, Int8ub, Struct, Terminated
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hcall_abi.later import of_later_release
from hcall_server.components.tpm.bounds import check_size

SEED_SIZE = 32
SALT_SIZE = 32
CHECK_SIZE = 32
KEY_SIZE = 32
NONCE_SIZE = 12
EMBEDDED_LEVEL = 1
EMBEDDED_INFO = b"swpks embedded tpm 1"
SEED_MAGIC = b"SPKT"

SEED_BODY = Struct(
    "magic" / Const(SEED_MAGIC),
    "level" / Const(EMBEDDED_LEVEL, Int8ub),
    "reserved" / Const(bytes(3)),
    "seed" / Bytes(SEED_SIZE),
)
"""The seed file without its check value, 40 bytes."""

SEED_FILE = Struct("body" / Bytes(SEED_BODY.sizeof()), "check" / Bytes(CHECK_SIZE), Terminated)
"""The whole file, 72 bytes: `check` is the SHA-256 of `body` and finds damage, not forgery."""

SEED_FILE_SIZE: int = SEED_BODY.sizeof() + CHECK_SIZE

BLOB_HEADER = Struct("level" / Const(EMBEDDED_LEVEL, Int8ub), "salt" / Bytes(SALT_SIZE))
"""The clear header of a blob; all of it is associated data."""

BLOB = Struct("header" / BLOB_HEADER, "sealed" / GreedyBytes)
"""A blob: `sealed` is the ciphertext with its tag of 16 bytes."""


class NotOursError(ValueError):
    """This seed does not open the blob, or the content is no seed file; the text is the reason."""


def encoded_seed(seed: bytes) -> bytes:
    """Return the content of the seed file."""
    body = SEED_BODY.build({"seed": seed})
    return bytes(SEED_FILE.build({"body": body, "check": hashlib.sha256(body).digest()}))


def decoded_seed(content: bytes) -> bytes:
    """Return the seed in the content of a seed file; NotOursError if it is damaged or of another level."""
    try:
        file = SEED_FILE.parse(content)
        if hashlib.sha256(file.body).digest() != file.check:
            raise NotOursError("is damaged: its check value is wrong")
        # The check value is compared before the level.  So a damaged byte does not look like a later level.
        if (level := file.body[len(SEED_MAGIC)]) > EMBEDDED_LEVEL and file.body.startswith(SEED_MAGIC):
            raise NotOursError(f"has {of_later_release(level, [EMBEDDED_LEVEL])}")
        return bytes(SEED_BODY.parse(file.body).seed)
    except ConstructError:
        raise NotOursError(f"does not have the layout of level 1 ({len(content)} bytes read)") from None


def wrapped(seed: bytes, salt: bytes, secret: bytes) -> bytes:
    """Return `secret` encrypted under a key of this seed and salt; ValueError if it is too long."""
    check_size(secret)
    if len(salt) != SALT_SIZE:
        raise ValueError("the entropy source gave too few bytes")
    header: bytes = BLOB_HEADER.build({"salt": salt})
    cipher, nonce = _derived(seed, salt)
    return header + cipher.encrypt(nonce, secret, header)


def unwrapped(seed: bytes, blob: bytes) -> bytes:
    """Return the secret in a blob of this seed; NotOursError for any other blob."""
    try:
        header = BLOB.parse(blob).header
    except ConstructError:
        raise NotOursError(f"does not have the layout of level 1 ({len(blob)} bytes)") from None
    size = BLOB_HEADER.sizeof()
    cipher, nonce = _derived(seed, header.salt)
    try:
        return cipher.decrypt(nonce, blob[size:], blob[:size])
    except InvalidTag:
        raise NotOursError("was made by another TPM, or is damaged") from None


def _derived(seed: bytes, salt: bytes) -> tuple[AESGCM, bytes]:
    """Return cipher and nonce for this salt; each sealing has its own salt."""
    material = HKDF(SHA256(), KEY_SIZE + NONCE_SIZE, salt, EMBEDDED_INFO).derive(seed)
    return AESGCM(material[:KEY_SIZE]), material[KEY_SIZE:]
