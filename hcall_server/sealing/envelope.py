"""The envelope of a sealed blob: its clear header, checked in the order of spec/sealed.md#order-of-checks.

Both sealed levels have the same envelope; they differ in their keys and in the associated data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple, TypeVar
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hcall_abi.later import of_later_release
from hcall_abi.layout import FixedLayout
from hcall_server.platform.identity import SEALED_LEVEL
from hcall_server.sealing.errors import (
    NotAuthenticError,
    NotSealedError,
    Owner,
    SealedLengthError,
    SealingError,
    SwappedError,
    UnknownLevelError,
    WrongKindError,
    record_name,
)
from hcall_server.sealing.formats import ENVELOPE_HEADER, MAGIC, TAG_SIZE

_HEADER = FixedLayout(ENVELOPE_HEADER)
HEADER_SIZE = _HEADER.size
AnyOwner = TypeVar("AnyOwner", UUID, int)


class Unsealed(NamedTuple):
    """The content of a sealed blob: its generation and its plaintext."""

    generation: int
    plaintext: bytes

    def __repr__(self) -> str:
        return f"Unsealed(generation={self.generation}, plaintext=<{len(self.plaintext)} bytes>)"


class Label(NamedTuple):
    """The salt and the generation from the clear header of a blob."""

    salt: bytes
    generation: int


class FreshKey(NamedTuple):
    """The salt of one sealing, and the cipher and nonce that come from it.  Never used twice."""

    salt: bytes
    cipher: AESGCM
    nonce: bytes

    def __repr__(self) -> str:
        return "FreshKey(hidden)"


def sealed(kind: int, generation: int, fresh: FreshKey, plaintext: bytes, bound: bytes) -> bytes:
    """Return a blob: header, ciphertext, tag.  `bound` is authenticated after the header."""
    # The whole clear header is associated data. So the kind, the generation and the length can't be
    # changed, although they are not encrypted.
    header = _HEADER.pack(kind, fresh.salt, generation, len(plaintext) + TAG_SIZE)
    return header + fresh.cipher.encrypt(fresh.nonce, plaintext, header + bound)


def opened(
    level: int,
    kind: int,
    owner: Owner,
    blob: bytes,
    keys_for: Callable[[bytes], tuple[bytes, bytes]],
    bound: bytes,
) -> Unsealed:
    """Return the content of a blob of a sealed level; SealingError with a subclass for each reason.

    `keys_for(salt)` returns key and nonce.
    """
    salt, generation = read_label(level, kind, owner, blob)
    key, nonce = keys_for(salt)
    try:
        plaintext = AESGCM(key).decrypt(nonce, blob[HEADER_SIZE:], blob[:HEADER_SIZE] + bound)
    except InvalidTag:
        reason = "does not authenticate: damaged, or sealed for another partition, system or root key"
        raise NotAuthenticError(kind, owner, reason) from None
    return Unsealed(generation, plaintext)


def explained(
    open_as: Callable[[int, AnyOwner, bytes], object],
    error: SealingError,
    blob: bytes,
    others: Iterable[AnyOwner],
) -> SealingError:
    """Return a SwappedError if `open_as` opens the blob for another owner.  If not, return `error`.

    Other owners are tried only for a blob that does not authenticate.
    """
    # The other errors come from the clear header, so they would be the same for every owner.
    if type(error) is not NotAuthenticError:
        return error
    # Each try costs a key derivation and a decryption. That is acceptable, because a start does it only for
    # a record that it is about to refuse.
    for other in others:
        if other == error.owner:
            continue
        with suppress(SealingError):
            open_as(error.kind, other, blob)
            return SwappedError(error.kind, error.owner, other)
    return error


def read_label(level: int, kind: int, owner: Owner, blob: bytes) -> Label:
    """Return the salt and the generation of a header, after every check that needs no key."""
    # A blob shorter than the magic is compared with the start of the magic only.  If that matches, the next
    # check reports the blob as truncated.
    if blob[: len(MAGIC)] != MAGIC[: len(blob)]:
        raise NotSealedError(kind, owner, "not a sealed blob: the magic is missing")
    if len(blob) < HEADER_SIZE + TAG_SIZE:
        raise SealedLengthError(kind, owner, f"truncated: {len(blob)} bytes, fewer than the least possible")
    # unpack_raw does not check the constants, so each wrong field gets its own error below, in the order of
    # the page.  unpack would report all of them as one mismatch.
    _, found_level, found, reserved, salt, generation, length = _HEADER.unpack_raw(blob)
    if found_level != level:
        reason = f"has the format level {found_level} where a record of level {level} belongs"
        if found_level > SEALED_LEVEL:
            reason = f"has the format {of_later_release(found_level, range(1, SEALED_LEVEL + 1))}"
        raise UnknownLevelError(kind, owner, reason)
    if reserved:
        raise NotSealedError(kind, owner, f"reserved bytes hold 0x{reserved:04x}")
    if found != kind:
        raise WrongKindError(kind, owner, f"says that it is {record_name(found, owner)}")
    _check_length(kind, owner, len(blob), HEADER_SIZE + length)
    return Label(salt, generation)


def _check_length(kind: int, owner: Owner, length: int, stated: int) -> None:
    if length < stated:
        raise SealedLengthError(kind, owner, f"truncated: {length} of {stated} bytes")
    if length > stated:
        raise SealedLengthError(kind, owner, f"{length - stated} bytes too many after its {stated}")
