"""A file sealed with AES-256-GCM: the demo's disk where there is no cryptsetup."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from swpks.demo.disk import WrongKeyError


class AesFile:
    """A file sealed with AES-256-GCM; the disk that needs nothing installed.

    The file is 32 bytes of salt, then ciphertext and tag; key and nonce come from the disk key and
    the salt, which is new for every write.
    """

    kind = "an AES-256-GCM file"
    _SALT = 32

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def make(cls, path: Path, key: bytes) -> AesFile:
        """Make an empty disk."""
        disk = cls(path)
        disk._seal(key, b"")
        return disk

    def write(self, key: bytes, data: bytes) -> None:
        """Write what the whole disk is to hold."""
        self._open(key)
        self._seal(key, data)

    def read(self, key: bytes, size: int) -> bytes:
        """Return the first `size` bytes."""
        return self._open(key)[:size]

    def _seal(self, key: bytes, data: bytes) -> None:
        salt = os.urandom(self._SALT)
        aead, nonce = self._aead(key, salt)
        self._path.write_bytes(salt + aead.encrypt(nonce, data, salt))

    def _open(self, key: bytes) -> bytes:
        content = self._path.read_bytes()
        salt, sealed = content[: self._SALT], content[self._SALT :]
        aead, nonce = self._aead(key, salt)
        try:
            return aead.decrypt(nonce, sealed, salt)
        except InvalidTag:
            raise WrongKeyError("the key does not open the file") from None

    def _aead(self, key: bytes, salt: bytes) -> tuple[AESGCM, bytes]:
        material = HKDF(hashes.SHA256(), 44, salt, b"swpks demo disk 1").derive(key)
        return AESGCM(material[:32]), material[32:]
