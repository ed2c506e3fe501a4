"""Making and opening sealed blobs: AES-256-GCM under a fresh key for every sealing.

Every layout, derivation and check: spec/sealed.md.
"""

# A fresh key for every sealing
#
# AES-GCM fails completely if one key encrypts two plaintexts under the same nonce. The usual remedy is a
# counter as the nonce. Here a counter would have to be durable before each use. A crash, a restored backup, a
# clone of the machine and a migration can all set it back, and none of them would be noticed.
#
# So a sealing uses no stored number. It draws 32 random bytes, the salt. HKDF derives the key and the nonce
# of this one sealing from the key of the partition and the salt. The salt is in the clear header of the
# blob, so `open` derives both again. Two sealings share a key only if 32 random bytes come twice.
#
#     root key --HKDF(system id, UUID)--> partition key --HKDF-Expand(salt)--> key and nonce of one sealing
#
# The partition key encrypts nothing itself. It is derived once for each owner and cached: a cached key saves
# a derivation in each flush, and is as secret as the root key, which is in the same memory.
#
# The nonce is derived too. Under a key that is used once, even a constant nonce would be fresh. NIST SP
# 800-38D, 8.2 has two constructions of the nonce, and this is neither; spec/sealed.md#keys has the argument.
#
# UUID and system id are associated data as well. So a blob opens only as the record of its own partition and
# system. The key of another partition or system would already fail. But the binding must not depend on the
# derivation of the key alone.

from __future__ import annotations

from collections.abc import Callable, Iterable
from uuid import UUID

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from hcall_server.platform.identity import ROOT_KEY_SIZE, SYSTEM_ID_SIZE, SystemIdentity
from hcall_server.sealing.envelope import FreshKey, Unsealed, explained, opened, sealed
from hcall_server.sealing.errors import SealingError
from hcall_server.sealing.formats import ENVELOPE_LEVEL, KEY_SIZE, NONCE_SIZE, SALT_SIZE

PARTITION_KEY_INFO = b"swpks partition key 2"
SEALING_INFO = b"swpks sealing 2"
SNAPSHOT_INFO = b"swpks snapshot 1"
SYSTEM_OWNER = UUID(int=0)
"""The owner of the records of the system itself, in place of a partition's UUID."""
_SHA256 = SHA256()


class Sealer:
    """Seals and opens the records of one managed system.

    `entropy(n)` returns `n` random bytes and no fewer: `service/entropy.py` checks every source.  An owner is
    a partition's UUID, or `SYSTEM_OWNER`.
    """

    __slots__ = ("_entropy", "_partition_keys", "_prepared", "_root_key", "_system_id")

    def __init__(self, identity: SystemIdentity, entropy: Callable[[int], bytes]) -> None:
        if len(identity.system_id) != SYSTEM_ID_SIZE or len(identity.root_key) != ROOT_KEY_SIZE:
            raise ValueError("a system identity is 16 bytes of system id and 32 bytes of root key")
        self._system_id = identity.system_id
        self._root_key = identity.root_key
        self._entropy = entropy
        self._partition_keys: dict[UUID, bytes] = {}
        self._prepared: dict[UUID, FreshKey] = {}

    def __repr__(self) -> str:
        return f"Sealer(system_id={self._system_id.hex()}, keys hidden)"

    def seal(self, kind: int, owner: UUID, generation: int, plaintext: bytes) -> bytes:
        """Return `plaintext` sealed under a fresh key (64 KiB take some ten microseconds)."""
        # pop, so that a prepared key is used for one sealing only
        fresh = self._prepared.pop(owner, None) or self._new_key(owner)
        return sealed(kind, generation, fresh, plaintext, self._bound(owner))

    def prepare(self, owners: Iterable[UUID]) -> None:
        """Make the keys of the next sealings of these owners, while no client waits.  Drop all other keys.

        So an unused key, such as that of a deleted partition, stays in memory until the next call at most.
        Errors of the entropy source are raised.  Keys that were made before the error stay.
        """
        before, self._prepared = self._prepared, {}
        for owner in owners:
            # A key that was prepared and not used is still fresh.
            self._prepared[owner] = before.get(owner) or self._new_key(owner)

    def open(self, kind: int, owner: UUID, blob: bytes) -> Unsealed:
        """Return the content of `blob`; SealingError if it is not of this kind, owner and system.

        The error has a subclass for each reason; `explain` may find a more precise one.
        """
        keys_for = lambda salt: self._fresh_key(owner, salt)  # noqa: E731
        return opened(ENVELOPE_LEVEL, kind, owner, blob, keys_for, self._bound(owner))

    def explain(self, error: SealingError, blob: bytes, others: Iterable[UUID]) -> SealingError:
        """Return the most precise error for a blob that `open` refused with `error`.

        If another partition of `others` opens the blob, this is a SwappedError that names it.
        """
        return explained(self.open, error, blob, others)

    def snapshot_secret(self) -> bytes:
        """Return the key of the system's own snapshots, 32 bytes.  It ends with the root key."""
        return HKDFExpand(_SHA256, KEY_SIZE, SNAPSHOT_INFO).derive(self._root_key)

    def _partition_key(self, owner: UUID) -> bytes:
        """Return the key of one partition, 32 bytes; it never encrypts anything itself."""
        key = self._partition_keys.get(owner)
        if key is None:
            hkdf = HKDF(_SHA256, KEY_SIZE, self._system_id, PARTITION_KEY_INFO + owner.bytes)
            key = self._partition_keys[owner] = hkdf.derive(self._root_key)
        return key

    def _new_key(self, owner: UUID) -> FreshKey:
        salt = self._entropy(SALT_SIZE)
        if len(salt) != SALT_SIZE:
            raise ValueError("the entropy source gave too few bytes")
        key, nonce = self._fresh_key(owner, salt)
        return FreshKey(salt, AESGCM(key), nonce)

    def _fresh_key(self, owner: UUID, salt: bytes) -> tuple[bytes, bytes]:
        """Return the key and the nonce of the one sealing that has this salt.

        The partition key is uniform already, so HKDF's extract step would add nothing (RFC 5869, 3.3).
        """
        hkdf = HKDFExpand(_SHA256, KEY_SIZE + NONCE_SIZE, SEALING_INFO + salt)
        material = hkdf.derive(self._partition_key(owner))
        return material[:KEY_SIZE], material[KEY_SIZE:]

    def _bound(self, owner: UUID) -> bytes:
        """Return the associated data that follow the header (`formats.ASSOCIATED_DATA`)."""
        return self._system_id + owner.bytes
