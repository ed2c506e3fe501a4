"""Making and opening sealed blobs: AES-256-GCM under a fresh key for every sealing.

The key and nonce of one sealing come by HKDF-SHA256 from the partition's key and 32 random bytes
that stand in the blob, so there is no counter to persist and none to repeat after a crash, a
restore or a clone.  Every layout, derivation and check: spec/sealed.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hcall_abi.layout import FixedLayout
from hcall_server.platform.identity import SystemIdentity
from hcall_server.sealing.errors import (
    NotAuthenticError,
    NotSealedError,
    SealedLengthError,
    SealingError,
    SwappedError,
    UnknownLevelError,
    WrongKindError,
    record_name,
)
from hcall_server.sealing.formats import (
    ENVELOPE_HEADER,
    ENVELOPE_LEVEL,
    KEY_SIZE,
    MAGIC,
    NONCE_SIZE,
    SALT_SIZE,
    SYSTEM_ID_SIZE,
    TAG_SIZE,
)

PARTITION_KEY_INFO = b"swpks partition key 1"
SEALING_INFO = b"swpks sealing 1"
_HEADER = FixedLayout(ENVELOPE_HEADER)
_SHA256 = SHA256()


class Unsealed(NamedTuple):
    """What came out of a sealed blob: the generation it was sealed with, and the plaintext."""

    generation: int
    plaintext: bytes

    def __repr__(self) -> str:
        return f"Unsealed(generation={self.generation}, plaintext=<{len(self.plaintext)} bytes>)"


class Sealer:
    """Seals and opens the records of one managed system.

    `entropy(n)` returns `n` random bytes.  Partition 0 stands for the system's own records.
    """

    __slots__ = ("_entropy", "_partition_keys", "_root_key", "_system_id")

    def __init__(self, identity: SystemIdentity, entropy: Callable[[int], bytes]) -> None:
        if len(identity.system_id) != SYSTEM_ID_SIZE or len(identity.root_key) != KEY_SIZE:
            raise ValueError("a system identity is 16 bytes of system id and 32 bytes of root key")
        self._system_id = identity.system_id
        self._root_key = identity.root_key
        self._entropy = entropy
        self._partition_keys: dict[int, bytes] = {}

    def __repr__(self) -> str:
        return f"Sealer(system_id={self._system_id.hex()}, keys hidden)"

    def seal(self, kind: int, partition: int, generation: int, plaintext: bytes) -> bytes:
        """Return `plaintext` sealed under a fresh key (64 KiB take some ten microseconds)."""
        salt = self._entropy(SALT_SIZE)
        if len(salt) != SALT_SIZE:
            raise ValueError("the entropy source gave too few bytes")
        header = _HEADER.pack(kind, salt, generation, len(plaintext) + TAG_SIZE)
        key, nonce = self._fresh_key(partition, salt)
        return header + AESGCM(key).encrypt(nonce, plaintext, self._associated(header, partition))

    def open(self, kind: int, partition: int, blob: bytes) -> Unsealed:
        """Return what `blob` holds, if it is a blob of this kind, partition and system.

        Raises SealingError, with a subclass for each reason; `explain` may know more.
        """
        salt, generation = _checked_header(kind, partition, blob)
        key, nonce = self._fresh_key(partition, salt)
        associated = self._associated(blob[: _HEADER.size], partition)
        try:
            plaintext = AESGCM(key).decrypt(nonce, blob[_HEADER.size :], associated)
        except InvalidTag:
            reason = "does not authenticate: damaged, or sealed for another partition, system or root key"
            raise NotAuthenticError(kind, partition, reason) from None
        return Unsealed(generation, plaintext)

    def explain(self, error: SealingError, blob: bytes, others: Iterable[int]) -> SealingError:
        """Return the most telling error for a blob that `open` refused with `error`.

        A blob that does not authenticate is tried as a record of each of the partitions `others`;
        where one of them opens it, the answer is a SwappedError that names it.
        """
        if type(error) is not NotAuthenticError:
            return error
        for other in others:
            if other != error.partition and self._opens(error.kind, other, blob):
                return SwappedError(error.kind, error.partition, other)
        return error

    def _opens(self, kind: int, partition: int, blob: bytes) -> bool:
        try:
            self.open(kind, partition, blob)
        except SealingError:
            return False
        return True

    def _partition_key(self, partition: int) -> bytes:
        """Return the key of one partition, 32 bytes; it never encrypts anything itself."""
        key = self._partition_keys.get(partition)
        if key is None:
            info = PARTITION_KEY_INFO + partition.to_bytes(2, "big")
            key = HKDF(_SHA256, KEY_SIZE, self._system_id, info).derive(self._root_key)
            self._partition_keys[partition] = key
        return key

    def _fresh_key(self, partition: int, salt: bytes) -> tuple[bytes, bytes]:
        """Return the key and the nonce of the one sealing that has this salt."""
        hkdf = HKDF(_SHA256, KEY_SIZE + NONCE_SIZE, salt, SEALING_INFO)
        material = hkdf.derive(self._partition_key(partition))
        return material[:KEY_SIZE], material[KEY_SIZE:]

    def _associated(self, header: bytes, partition: int) -> bytes:
        """Return the associated data (spec/sealed.md#associated-data), `formats.ASSOCIATED_DATA`."""
        return header + self._system_id + partition.to_bytes(2, "big")


def _checked_header(kind: int, partition: int, blob: bytes) -> tuple[bytes, int]:
    """Return salt and generation from a header that is sound as far as it can be read without a key.

    The order is that of spec/sealed.md#order-of-checks.
    """
    if blob[: len(MAGIC)] != MAGIC[: len(blob)]:
        raise NotSealedError(kind, partition, "not a sealed blob: the magic is missing")
    if len(blob) < _HEADER.size + TAG_SIZE:
        raise SealedLengthError(
            kind, partition, f"truncated: {len(blob)} bytes, fewer than the least possible"
        )
    _, level, found, reserved, salt, generation, length = _HEADER.unpack_raw(blob)
    if level != ENVELOPE_LEVEL:
        reason = f"format level {level} where this release knows level {ENVELOPE_LEVEL}"
        raise UnknownLevelError(kind, partition, reason)
    if reserved:
        raise NotSealedError(kind, partition, f"reserved bytes hold 0x{reserved:04x}")
    if found != kind:
        raise WrongKindError(kind, partition, f"says that it is {record_name(found, partition)}")
    _check_length(kind, partition, len(blob), _HEADER.size + length)
    return salt, generation


def _check_length(kind: int, partition: int, length: int, stated: int) -> None:
    if length < stated:
        raise SealedLengthError(kind, partition, f"truncated: {length} of {stated} bytes")
    if length > stated:
        raise SealedLengthError(kind, partition, f"{length - stated} bytes too many after its {stated}")
