"""The record of the trusted system key: read whole or refused with the reason, only under its root key."""

import contextlib
import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcall_abi.rules import backup, storage
from hcall_server.platform.identity import SystemIdentity
from hcall_server.platform.trusted_key import TrustedSystemKey
from hcall_server.sealing import (
    SYSTEM_OWNER,
    NotAuthenticError,
    PlaintextError,
    SealedKind,
    Sealer,
    SealingError,
    UndecodableError,
    WrongKindError,
    seal_partition,
)
from hcall_server.sealing.trusted_key import (
    decode_trusted_key,
    encode_trusted_key,
    open_trusted_key,
    seal_trusted_key,
)
from tests.sealing import second_copies
from tests.sealing.samples import IDENTITY, RECORD, SEALER, flipped

SECRET = b"CANARY-trusted-key-56789abcdefgh"
KEY = TrustedSystemKey(SECRET)
PLAINTEXT = encode_trusted_key(KEY)


@given(st.binary(min_size=32, max_size=32))
def test_the_key_comes_back(secret: bytes) -> None:
    """R-02: The sealed key opens, with generation 0. Its plaintext is that of the second implementation."""
    blob = seal_trusted_key(SEALER, TrustedSystemKey(secret))
    assert open_trusted_key(SEALER, blob) == TrustedSystemKey(secret)
    generation, plaintext = SEALER.open(SealedKind.TRUSTED_KEY, SYSTEM_OWNER, blob)
    assert generation == 0
    assert plaintext == second_copies.trusted_key(secret)
    assert second_copies.trusted_key_of(plaintext) == secret


@given(st.binary(max_size=60))
def test_any_bytes_give_a_key_or_an_error(junk: bytes) -> None:
    """R-02: any bytes are decoded or refused, and only the bytes that encoding writes are accepted."""
    for plaintext in junk, b"\0\1\0\0" + junk, PLAINTEXT[:36] + junk:
        with contextlib.suppress(PlaintextError):
            assert encode_trusted_key(decode_trusted_key(plaintext)) == plaintext


def test_every_flipped_bit_gives_another_key_or_an_error() -> None:
    """R-02: If any bit is flipped, the record is refused or has another key."""
    for bit in range(8 * len(PLAINTEXT)):
        with contextlib.suppress(PlaintextError):
            assert decode_trusted_key(flipped(PLAINTEXT, bit)) != KEY


def test_a_truncated_record_is_refused() -> None:
    """R-02: a record of any other length is refused, also one with an extra byte."""
    for wrong in *(PLAINTEXT[:length] for length in range(len(PLAINTEXT))), PLAINTEXT + b"\0":
        with pytest.raises(PlaintextError) as caught:
            decode_trusted_key(wrong)
        assert caught.value.rule is backup.TRUSTED_KEY_LAYOUT


@pytest.mark.parametrize("tag", [0, 1, 0xFFFF])
def test_a_later_field_is_refused_by_its_tag(tag: int) -> None:
    """R-02: A record with a later field is refused, also with a tag of the system record."""
    with pytest.raises(PlaintextError, match=rf"unknown tag {tag}\b") as caught:
        decode_trusted_key(PLAINTEXT[:-1] + b"\1" + struct.pack(">HH", tag, 6) + b"CANARY")
    assert caught.value.rule is storage.SEALED_FIELD


def test_the_record_is_named() -> None:
    """R-02: Each error names the trusted system key, and none shows its bytes."""
    with pytest.raises(UndecodableError, match="the trusted system key: authentic but unreadable") as caught:
        open_trusted_key(SEALER, SEALER.seal(SealedKind.TRUSTED_KEY, SYSTEM_OWNER, 0, SECRET))
    assert "CANARY" not in str(caught.value)
    with pytest.raises(
        WrongKindError, match="the trusted system key: says that it is the record of partition"
    ):
        open_trusted_key(SEALER, seal_partition(SEALER, RECORD))


def test_every_flipped_bit_of_the_blob_is_refused() -> None:
    """R-02: A blob of the record with any flipped bit is refused."""
    blob = seal_trusted_key(SEALER, KEY)
    for bit in range(8 * len(blob)):
        with pytest.raises(SealingError, match="the trusted system key: ") as caught:
            open_trusted_key(SEALER, flipped(blob, bit))
        assert "CANARY" not in str(caught.value)


def test_the_record_is_useless_under_another_root_key() -> None:
    """R-02: The record does not open under another root key."""
    other = Sealer(SystemIdentity(IDENTITY.system_id, bytes(32)), os.urandom)
    with pytest.raises(NotAuthenticError, match="the trusted system key: does not authenticate"):
        open_trusted_key(other, seal_trusted_key(SEALER, KEY))
