"""Named snapshots: profiles, images and settings of a whole system in one sealed file (spec/snapshots.md)."""

# Two kinds of snapshots
#
# An own snapshot serves the system that made it.  It is sealed under a key from the root key, so it needs no
# secret of the operator, and ends with Clear All, as the records in NVRAM do.  A portable one serves another
# system.  It is sealed under a passphrase, so its reader needs no part of the first system.
#
#     own       root key --HKDF-Expand("swpks snapshot 1")--> snapshot key --+
#     portable  passphrase --scrypt(salt)--> 32 bytes ----------------------+--HKDF(salt)--> key, nonce
#
# A fresh salt makes a fresh key for every snapshot, as for records (`sealer`).  So no pair of key and nonce
# comes twice.
#
# Both have the same header and the same plaintext.  The header is in clear and authenticated: a list needs no
# key.  Names of partitions are sealed, as in NVRAM.
#
# An attacker who can write the file could ask for scrypt with gigabytes of memory.  So the parameters stand
# in the header for later levels, and a reader refuses all others before it derives anything.
#
# A portable snapshot has no access key: it leaves the system, and its loading makes new keys.  Neither kind
# has a password, a TRANSIENT object, custody, or a key of the system: `PartitionRecord` has none of the first
# two, and `at_home` removes the third.

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Any, NamedTuple
from uuid import UUID

from construct import ConstructError
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hcall_abi.bounds import ACCESS_KEY_SIZE, LARGEST_SNAPSHOT, SYSTEM_NAME_SIZE
from hcall_abi.errors import OperatorError
from hcall_abi.later import FILE, of_later_release
from hcall_abi.layout import FixedLayout
from hcall_abi.rules import snapshot as rules
from hcall_server.sealing.errors import PlaintextError
from hcall_server.sealing.fields import NO_FIELDS, later_fields
from hcall_server.sealing.formats import KEY_SIZE, NONCE_SIZE, SALT_SIZE, TAG_SIZE
from hcall_server.sealing.partitions import PartitionRecord, decode_partition, encode_partition
from hcall_server.sealing.snapshot_errors import (
    NotSnapshotError,
    OtherSystemError,
    SnapshotLengthError,
    SnapshotLevelError,
    SnapshotNotAuthenticError,
    SnapshotParametersError,
    SnapshotPassphraseError,
    SnapshotUnreadableError,
)
from hcall_server.sealing.snapshot_formats import (
    CONTENTS_LEVEL,
    KEY_ID_SIZE,
    OWN,
    PORTABLE,
    SNAPSHOT_CONTENTS,
    SNAPSHOT_HEADER,
    SNAPSHOT_LEVEL,
    SNAPSHOT_MAGIC,
    SNAPSHOT_START,
)

READ_SNAPSHOTS = (SNAPSHOT_LEVEL,)
"""The levels of snapshots that this release reads."""
SNAPSHOT_SEALING_INFO = b"swpks snapshot sealing 1"
SNAPSHOT_ID_INFO = b"swpks snapshot id 1"
LOG_N, SCRYPT_R, SCRYPT_P = 15, 8, 1
"""The parameters of scrypt: 32 MiB, and about 0.1 s of one core."""
_SCRYPT_MEMORY = 64 << 20
"""Most bytes of memory for scrypt; OpenSSL needs a little more than 128 * n * r."""
_SCRYPT = {OWN: (0, 0, 0), PORTABLE: (LOG_N, SCRYPT_R, SCRYPT_P)}
_START_SIZE = FixedLayout(SNAPSHOT_START).size
_SIZES = 6
"""Bytes of the header besides its fixed fields and texts: the lengths of two texts and of the ciphertext."""
LEAST_SNAPSHOT = _START_SIZE + _SIZES + TAG_SIZE
HEAD_SIZE = _START_SIZE + _SIZES + 2 * 255
"""Bytes from the beginning of a file that hold every header."""
_NO_KEY = bytes(KEY_ID_SIZE)
_SHA256 = SHA256()
Entropy = Callable[[int], bytes]


class SnapshotKey:
    """The key of a system's own snapshots.  `repr` shows its id, never the key."""

    portable = False

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.id = hmac.digest(secret, SNAPSHOT_ID_INFO, "sha256")[:KEY_ID_SIZE]

    def __repr__(self) -> str:
        return f"SnapshotKey({self.id.hex()}, key hidden)"

    def derived(self, salt: bytes) -> bytes:
        """Return the secret from which the key of one snapshot comes."""
        return self._secret


class Passphrase:
    """The passphrase of a portable snapshot.  `repr` does not show it."""

    portable = True
    id = _NO_KEY

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return "Passphrase(hidden)"

    def derived(self, salt: bytes) -> bytes:
        """Return the secret from which the key of one snapshot comes; takes about 0.1 s and 32 MiB."""
        return hashlib.scrypt(
            self._text.encode(),
            salt=salt,
            n=1 << LOG_N,
            r=SCRYPT_R,
            p=SCRYPT_P,
            maxmem=_SCRYPT_MEMORY,
            dklen=KEY_SIZE,
        )


class SnapshotHeader(NamedTuple):
    """The clear facts of a snapshot.  Until `open_snapshot` has authenticated them, they are only claims.

    `key_id` is the id of the key of an own snapshot.  `time` is in whole seconds since 1970 (UTC).
    `partitions` is their number.  `name` is that under which the snapshot was saved.
    """

    portable: bool
    system_id: bytes
    key_id: bytes
    time: int
    partitions: int
    name: str
    firmware: str


class SnapshotContents(NamedTuple):
    """The contents of a snapshot: the settings of the system, and its partitions."""

    system_name: str
    total_kbytes: int
    records: tuple[PartitionRecord, ...]


class OpenedSnapshot(NamedTuple):
    """An authentic snapshot: its header and its contents."""

    header: SnapshotHeader
    contents: SnapshotContents


def seal_snapshot(
    key: SnapshotKey | Passphrase,
    contents: SnapshotContents,
    *,
    system_id: bytes,
    firmware: str,
    name: str,
    time: int,
    entropy: Entropy,
) -> bytes:
    """Return the snapshot of these contents; OperatorError if it is larger than a snapshot may be.

    `time` is in whole seconds since the epoch (UTC).  With a passphrase, the call takes about 0.1 s.
    """
    plaintext = _encoded(contents, portable=key.portable)
    salt = entropy(SALT_SIZE)
    if len(salt) != SALT_SIZE:
        raise ValueError("the entropy source gave too few bytes")
    count = len(contents.records)
    facts = SnapshotHeader(key.portable, system_id, key.id, time, count, name, firmware)
    header = _clear(facts, salt, len(plaintext) + TAG_SIZE)
    if len(header) + len(plaintext) + TAG_SIZE > LARGEST_SNAPSHOT:
        raise OperatorError(
            rules.SNAPSHOT_SIZE, f"the snapshot of this system would have {len(plaintext)} bytes"
        )
    cipher, nonce = _keys(key, salt)
    return header + cipher.encrypt(nonce, plaintext, header)


def read_head(head: bytes, size: int) -> SnapshotHeader:
    """Return the clear facts of a snapshot of `size` bytes, without any key; SnapshotError for anything else.

    `head` are the first `HEAD_SIZE` bytes, or the whole snapshot.  The facts are not authenticated.
    """
    return _facts(_parsed(head, size))


def open_snapshot(blob: bytes, key: SnapshotKey, passphrase: Passphrase | None) -> OpenedSnapshot:
    """Return the header and the contents of a snapshot; SnapshotError with a subclass for each reason.

    `key` is that of the present system.  A portable snapshot needs a passphrase, and an own one takes none.
    """
    found = _parsed(blob, len(blob))
    header = _facts(found)
    if header.portable != (passphrase is not None):
        needed = "is portable: give its passphrase" if header.portable else "is no portable one: it has none"
        raise SnapshotPassphraseError(needed)
    # Without this check, the snapshot of another key would fail below as "damaged".
    if not header.portable and header.key_id != key.id:
        raise OtherSystemError(
            f"was sealed by the system {header.system_id.hex()} under another root key: it opens on that "
            "system alone, and never again after Clear All has destroyed that key"
        )
    cipher, nonce = _keys(passphrase or key, found.header.salt)
    begin = len(blob) - found.sealed_length
    try:
        plaintext = cipher.decrypt(nonce, blob[begin:], blob[:begin])
    except InvalidTag:
        other = "the passphrase is another one, or it is damaged" if header.portable else "it is damaged"
        raise SnapshotNotAuthenticError(f"does not authenticate: {other}") from None
    return OpenedSnapshot(header, _decoded(plaintext, header))


def _clear(facts: SnapshotHeader, salt: bytes, sealed_length: int) -> bytes:
    """Return the clear header of a snapshot."""
    kind = PORTABLE if facts.portable else OWN
    log_n, r, p = _SCRYPT[kind]
    start = {"kind": kind, "system_id": facts.system_id, "key_id": facts.key_id, "time": facts.time}
    start |= {"partitions": facts.partitions, "log_n": log_n, "r": r, "p": p, "salt": salt}
    texts = {"name": facts.name.encode(), "firmware": facts.firmware.encode()}
    return bytes(SNAPSHOT_HEADER.build({"header": start, **texts, "sealed_length": sealed_length}))


def _keys(key: SnapshotKey | Passphrase, salt: bytes) -> tuple[AESGCM, bytes]:
    """Return cipher and nonce for the salt of a snapshot.  No other snapshot has this salt."""
    hkdf = HKDF(_SHA256, KEY_SIZE + NONCE_SIZE, salt, SNAPSHOT_SEALING_INFO)
    material = hkdf.derive(key.derived(salt))
    return AESGCM(material[:KEY_SIZE]), material[KEY_SIZE:]


def _parsed(head: bytes, size: int) -> Any:
    """Return the header of a snapshot of `size` bytes, after every check that needs no key."""
    # A file shorter than the magic is compared with the start of the magic only.  If that matches, the file
    # is reported as truncated, not as another kind of file.
    if head[: len(SNAPSHOT_MAGIC)] != SNAPSHOT_MAGIC[: len(head)]:
        raise NotSnapshotError("is none: it begins with other bytes")
    if size < LEAST_SNAPSHOT:
        raise SnapshotLengthError(f"is truncated: {size} bytes, fewer than the least possible")
    level = head[len(SNAPSHOT_MAGIC)]
    if level not in READ_SNAPSHOTS:
        # No release wrote level 0, so this is damage, and no later release would help.
        known = of_later_release(level, READ_SNAPSHOTS, FILE) if level else "the unknown level 0"
        raise SnapshotLevelError(f"has {known}")
    try:
        found = SNAPSHOT_HEADER.parse(head)
    except ConstructError:
        # The header may also be cut short.  Its texts are shorter than `head`, so the length is wrong then.
        raise NotSnapshotError("has reserved bytes that are not zero, or no room for its texts") from None
    stated = _START_SIZE + _SIZES + len(found.name) + len(found.firmware) + found.sealed_length
    if size != stated or found.sealed_length < TAG_SIZE:
        raise SnapshotLengthError(f"has {size} bytes, and its header states {stated}")
    return found


def _facts(found: Any) -> SnapshotHeader:
    start = found.header
    if start.kind not in _SCRYPT:
        raise NotSnapshotError(f"has the unknown kind {start.kind}")
    if (start.log_n, start.r, start.p) != _SCRYPT[start.kind]:
        found_here = f"n = 2^{start.log_n}, r = {start.r}, p = {start.p}"
        raise SnapshotParametersError(f"asks for scrypt with {found_here}, which no release writes")
    if start.kind == PORTABLE and start.key_id != _NO_KEY:
        raise NotSnapshotError("is portable and has the id of a key")
    try:
        name, firmware = found.name.decode(), found.firmware.decode()
    except UnicodeDecodeError:
        raise NotSnapshotError("has a text that is not UTF-8") from None
    portable = start.kind == PORTABLE
    return SnapshotHeader(
        portable, start.system_id, start.key_id, start.time, start.partitions, name, firmware
    )


def _encoded(contents: SnapshotContents, *, portable: bool) -> bytes:
    """Return the plaintext of a snapshot."""
    # Construct would copy each record several times, and a snapshot may hold many.  So the parts are joined
    # here; a test compares the result with `SNAPSHOT_CONTENTS`.
    name = contents.system_name.encode()
    parts = [
        CONTENTS_LEVEL.to_bytes(2, "big"),
        bytes(2),
        contents.total_kbytes.to_bytes(4, "big"),
        bytes([len(name)]) + name,
        len(contents.records).to_bytes(2, "big"),
    ]
    for record in contents.records:
        profile = record.profile.at_home
        if portable:
            profile = profile._replace(access_key=bytes(ACCESS_KEY_SIZE))
        encoded = encode_partition(record._replace(profile=profile))
        parts += [profile.uuid.bytes, profile.image_generation.to_bytes(8, "big")]
        parts += [len(encoded).to_bytes(4, "big"), encoded]
    return b"".join([*parts, NO_FIELDS])


def _decoded(plaintext: bytes, header: SnapshotHeader) -> SnapshotContents:
    """Return the contents in a plaintext; SnapshotUnreadableError for anything else."""
    try:
        return _contents(plaintext, header)
    except (PlaintextError, ConstructError, UnicodeDecodeError) as error:
        reason = error.message if isinstance(error, PlaintextError) else "it has another layout"
        level = int.from_bytes(plaintext[:2], "big")
        if level > CONTENTS_LEVEL:
            reason = f"it has {of_later_release(level, [CONTENTS_LEVEL], FILE)}"
        raise SnapshotUnreadableError(f"is authentic but unreadable: {reason}") from None


def _contents(plaintext: bytes, header: SnapshotHeader) -> SnapshotContents:
    found = SNAPSHOT_CONTENTS.parse(plaintext)
    later_fields(found.later, ())
    records = tuple(
        decode_partition(each.record, UUID(bytes=each.uuid), each.generation) for each in found.partitions
    )
    profiles = [each.profile for each in records]
    for values in ([each.uuid for each in profiles], [each.name for each in profiles]):
        if len(set(values)) != len(values):
            raise PlaintextError(rules.SNAPSHOT_CONTENTS, "it has a partition twice")
    if len(records) != header.partitions or len(found.system_name) > SYSTEM_NAME_SIZE:
        raise PlaintextError(rules.SNAPSHOT_CONTENTS, "it differs from its header")
    home = tuple(each._replace(profile=each.profile.at_home) for each in records)
    return SnapshotContents(found.system_name.decode(), found.total_kbytes, home)
