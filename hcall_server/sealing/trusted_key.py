"""The record of the trusted system key, sealed under the root key (spec/sealed.md#trusted-system-key).

The blob is a record in NVRAM, and the console stores the same blob.  It can't be opened without the root key.
"""

from __future__ import annotations

from construct import ConstructError

from hcall_abi.rules import backup as rules
from hcall_server.platform.trusted_key import TrustedSystemKey
from hcall_server.sealing.errors import PlaintextError, UndecodableError
from hcall_server.sealing.fields import TRUSTED_KEY_TAGS, later_fields, layout_error
from hcall_server.sealing.formats import TRUSTED_KEY, TRUSTED_KEY_LEVEL
from hcall_server.sealing.kinds import SealedKind
from hcall_server.sealing.sealer import SYSTEM_OWNER, Sealer


def encode_trusted_key(key: TrustedSystemKey) -> bytes:
    """Return the plaintext of the record."""
    return bytes(TRUSTED_KEY.build({"key": key.secret, "later": []}))


def decode_trusted_key(plaintext: bytes) -> TrustedSystemKey:
    """Return the key that `plaintext` holds; raises PlaintextError for anything else."""
    try:
        found = TRUSTED_KEY.parse(plaintext)
    except ConstructError as error:
        raise layout_error(plaintext, TRUSTED_KEY_LEVEL, rules.TRUSTED_KEY_LAYOUT, error) from None
    later_fields(found.later, TRUSTED_KEY_TAGS)
    return TrustedSystemKey(found.key)


def seal_trusted_key(sealer: Sealer, key: TrustedSystemKey) -> bytes:
    """Return the sealed blob of the record; its generation is 0."""
    return sealer.seal(SealedKind.TRUSTED_KEY, SYSTEM_OWNER, 0, encode_trusted_key(key))


def open_trusted_key(sealer: Sealer, blob: bytes) -> TrustedSystemKey:
    """Return the key in a sealed blob; raises SealingError with the reason."""
    _, plaintext = sealer.open(SealedKind.TRUSTED_KEY, SYSTEM_OWNER, blob)
    try:
        return decode_trusted_key(plaintext)
    except PlaintextError as error:
        raise UndecodableError(SealedKind.TRUSTED_KEY, SYSTEM_OWNER, error) from None
