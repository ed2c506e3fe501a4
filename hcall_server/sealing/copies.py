"""Console copies: one partition's record, sealed under the trusted system key (spec/sealed.md#console-copy).

The system makes the copies, and the console stores them.  The console cannot open them.  Every system with
the same trusted system key can.  So no byte of a copy depends on the root key of the system that made it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from uuid import UUID

from construct import ConstructError
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hcall_abi.counts import counted
from hcall_abi.later import FILE, of_later_release
from hcall_abi.layout import FixedLayout
from hcall_server.platform.trusted_key import TrustedSystemKey
from hcall_server.sealing.copy_errors import (
    CopyLengthError,
    CopyLevelError,
    CopyNotAuthenticError,
    CopyUnreadableError,
    NotCopyError,
    OtherKeyError,
)
from hcall_server.sealing.copy_formats import (
    COPY_HEADER,
    COPY_HEADER_1,
    COPY_LEVEL,
    COPY_MAGIC,
    COPY_START,
    COPY_START_1,
)
from hcall_server.sealing.errors import PlaintextError
from hcall_server.sealing.formats import KEY_SIZE, NONCE_SIZE, SALT_SIZE, TAG_SIZE
from hcall_server.sealing.partitions import PartitionRecord, decode_partition, encode_partition

COPY_INFO = b"swpks console copy 1"
_LEVELS = {
    1: (COPY_HEADER_1, FixedLayout(COPY_START_1).size),
    COPY_LEVEL: (COPY_HEADER, FixedLayout(COPY_START).size),
}
"""The clear header of each level, and the size of its fixed fields."""
_SIZES = 5
"""Bytes of the header besides its fixed fields and the firmware name: the length of either."""
READ_COPIES = tuple(_LEVELS)
"""The levels of copies that this release reads."""
LEAST_SIZE = min(size for _, size in _LEVELS.values()) + _SIZES + TAG_SIZE
"""Bytes of a copy of level 1 with no firmware name and no contents."""
_SHA256 = SHA256()


class CopyHeader(NamedTuple):
    """The clear facts of a console copy.  Until `open_copy` has authenticated them, they are only claims.

    `tsk_id` is the id of the trusted system key.  `system_id` is that of the system of origin.
    `generation` is that of the store.  `time` is in whole seconds since 1970 (UTC).  `kbytes` is the size
    of the keystore.  `restores` counts the restores of the store, 0 in a copy of level 1.
    """

    tsk_id: bytes
    system_id: bytes
    uuid: UUID
    generation: int
    time: int
    kbytes: int
    firmware: str
    restores: int = 0

    @property
    def age(self) -> tuple[int, int]:
        """The sort key of the copies of one partition: (restores, generation)."""
        # The generation alone does not order copies.  A restore may not know the largest generation, for
        # example after the service processor was lost.  Then the new generations are smaller than those of
        # earlier copies.
        return self.restores, self.generation


class OpenedCopy(NamedTuple):
    """An authentic console copy: its header, and the partition record in it."""

    header: CopyHeader
    record: PartitionRecord


def seal_copy(
    key: TrustedSystemKey,
    record: PartitionRecord,
    *,
    system_id: bytes,
    firmware: str,
    time: int,
    entropy: Callable[[int], bytes],
) -> bytes:
    """Return the console copy of a partition record; `time` is in whole seconds since the epoch (UTC).

    Every copy has custody OWN, no epoch and no peer.  Custody does not belong to the contents: the system
    that uses the copy decides about it.
    """
    profile = record.profile
    plaintext = encode_partition(record._replace(profile=profile.at_home))
    salt = entropy(SALT_SIZE)
    if len(salt) != SALT_SIZE:
        raise ValueError("the entropy source gave too few bytes")
    kbytes, generation = profile.attributes.keystore_kbytes, profile.image_generation
    facts = CopyHeader(key.id, system_id, profile.uuid, generation, time, kbytes, firmware, profile.restores)
    header = _clear(facts, salt, len(plaintext) + TAG_SIZE)
    cipher, nonce = _keys(key, salt, profile.uuid)
    return header + cipher.encrypt(nonce, plaintext, header)


def read_copy(blob: bytes) -> CopyHeader:
    """Return the clear facts of a console copy, without any key; CopyError for anything else.

    They are not authenticated.
    """
    return _facts(_parsed(blob))


def open_copy(key: TrustedSystemKey, blob: bytes) -> OpenedCopy:
    """Return the header and the record of a console copy; CopyError with a subclass for each reason.

    A copy of another trusted system key is refused by the id in its header, before any decryption.  The
    record has custody OWN without an epoch, whatever the copy has: the caller decides about custody.
    """
    found = _parsed(blob)
    header = _facts(found)
    # Without this check, a copy of another key would fail below as "damaged". The operator would look for
    # another file, although this one is good and only the key is missing.
    if header.tsk_id != key.id:
        raise OtherKeyError(header.tsk_id, key.id, header.uuid)
    cipher, nonce = _keys(key, found.header.salt, header.uuid)
    begin = len(blob) - found.sealed_length
    try:
        plaintext = cipher.decrypt(nonce, blob[begin:], blob[:begin])
    except InvalidTag:
        reason = "does not authenticate: it is damaged or was changed"
        raise CopyNotAuthenticError(reason, header.uuid) from None
    return OpenedCopy(header, _record(plaintext, header))


def _clear(facts: CopyHeader, salt: bytes, sealed_length: int) -> bytes:
    """Return the clear header of a copy."""
    start = {**facts._asdict(), "uuid": facts.uuid.bytes, "salt": salt}
    firmware = start.pop("firmware").encode()
    return bytes(COPY_HEADER.build({"header": start, "firmware": firmware, "sealed_length": sealed_length}))


def _keys(key: TrustedSystemKey, salt: bytes, uuid: UUID) -> tuple[AESGCM, bytes]:
    """Return cipher and nonce for the salt of a copy.  No other copy has this salt."""
    hkdf = HKDF(_SHA256, KEY_SIZE + NONCE_SIZE, salt, COPY_INFO + uuid.bytes)
    material = hkdf.derive(key.secret)
    return AESGCM(material[:KEY_SIZE]), material[KEY_SIZE:]


def _parsed(blob: bytes) -> Any:
    """Return the header of a copy, after every check that needs no key."""
    # A file shorter than the magic is compared with the start of the magic only.  If that matches, the file
    # is reported as truncated, not as another kind of file.
    if blob[: len(COPY_MAGIC)] != COPY_MAGIC[: len(blob)]:
        raise NotCopyError("is no console copy: it begins with other bytes", subject="the file")
    if len(blob) < LEAST_SIZE:
        raise CopyLengthError(f"is truncated: {len(blob)} bytes, fewer than the least possible")
    level = blob[len(COPY_MAGIC)]
    if level not in _LEVELS:
        # No release wrote level 0, so this is damage, and no later release would help.
        known = of_later_release(level, _LEVELS, FILE) if level else "the unknown level 0"
        raise CopyLevelError(f"has {known}")
    layout, size = _LEVELS[level]
    # The length of the firmware name is read here, not by Construct.  Construct would report a header that
    # is cut short like a wrong field.
    least = size + _SIZES + TAG_SIZE + blob[size]
    if len(blob) < least:
        raise CopyLengthError(f"is truncated: {len(blob)} bytes, and its header alone needs more")
    try:
        found = layout.parse(blob)
    except ConstructError:
        raise NotCopyError("has a wrong kind, or reserved bytes that are not zero") from None
    _check_length(len(blob), least - TAG_SIZE + found.sealed_length)
    return found


def _check_length(length: int, stated: int) -> None:
    if length < stated:
        raise CopyLengthError(f"is truncated: {length} of {stated} bytes")
    if length > stated:
        raise CopyLengthError(f"has {length - stated} bytes too many")


def _facts(found: Any) -> CopyHeader:
    start = found.header
    try:
        firmware = found.firmware.decode()
    except UnicodeDecodeError:
        raise NotCopyError("has a firmware level that is not UTF-8") from None
    uuid = UUID(bytes=start.uuid)
    restores = start.restores if start.level > 1 else 0
    return CopyHeader(
        start.tsk_id, start.system_id, uuid, start.generation, start.time, start.kbytes, firmware, restores
    )


def _record(plaintext: bytes, header: CopyHeader) -> PartitionRecord:
    try:
        profile, image = decode_partition(plaintext, header.uuid, header.generation)
    except PlaintextError as error:
        raise CopyUnreadableError(f"is authentic but unreadable: {error.message}", header.uuid) from None
    kbytes = profile.attributes.keystore_kbytes
    # Header and record are authenticated together.  So if they differ, the release that wrote the copy is
    # faulty.  The copy is refused, because the console sorts copies by the header.
    if kbytes != header.kbytes:
        reason = f"has a keystore of {kbytes} KiB, and its header says {header.kbytes} KiB"
        raise CopyUnreadableError(reason, header.uuid)
    if profile.restores != header.restores:
        reason = (
            f"has a store of {counted(profile.restores, 'restore')}, and its header says {header.restores}"
        )
        raise CopyUnreadableError(reason, header.uuid)
    return PartitionRecord(profile.at_home, image)
