"""A file sealed with AES-256-GCM: the demo's disk on a host without cryptsetup."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from swpks.demo.disk import WrongKeyError


class AesFile:
    """A file sealed with AES-256-GCM: a disk for hosts without cryptsetup.

    The file is 32 bytes of salt, then ciphertext and tag.
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
        """Replace the whole content of the disk; WrongKeyError if the key does not open it."""
        self._open(key)  # as on a real disk, a wrong key must fail and not make a new disk
        self._seal(key, data)

    def read(self, key: bytes, size: int) -> bytes:
        """Return the first `size` bytes of the disk; WrongKeyError if the key does not open it."""
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
        # Key and nonce both depend on the salt, which is new for each write.  So no nonce is used twice with
        # a key.
        material = HKDF(hashes.SHA256(), 44, salt, b"swpks demo disk 1").derive(key)
        return AESGCM(material[:32]), material[32:]
