"""A second implementation of the embedded TPM, written from spec/components.md alone, without code of the
package.

HKDF and AES-256-GCM come from `tests.sealing.second`; `embedded_vector` returns the contents of a golden
file.
"""

import hashlib
import struct

from tests.sealing.second import Gcm, hkdf_sha256

INFO = b"swpks embedded tpm 1"


def derive(seed: bytes, salt: bytes) -> tuple[bytes, bytes]:
    """Return the key and the nonce for one blob."""
    material = hkdf_sha256(seed, salt, INFO, 44)
    return material[:32], material[32:]


def seal(seed: bytes, salt: bytes, secret: bytes) -> bytes:
    header = struct.pack(">B32s", 1, salt)
    return header + Gcm(*derive(seed, salt)).encrypt(secret, header)


def unseal(seed: bytes, blob: bytes) -> bytes:
    """Return the secret in a blob; fail if anything in the blob is wrong."""
    level, salt = struct.unpack_from(">B32s", blob)
    assert level == 1
    return Gcm(*derive(seed, salt)).decrypt(blob[33:], blob[:33])


def seed_file(seed: bytes) -> bytes:
    body = struct.pack(">4sB3x32s", b"SPKT", 1, seed)
    return body + hashlib.sha256(body).digest()
