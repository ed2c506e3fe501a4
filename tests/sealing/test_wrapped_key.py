"""The records of the root key's wrapped copies, and the 48 bytes inside them."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcall_abi.errors import StorageError
from hcall_abi.rules import storage as rules
from hcall_server.platform.identity import SEALED_LEVEL, SystemIdentity
from hcall_server.sealing.wrapped_key import (
    WrappedKey,
    WrapperKind,
    decode_wrapped,
    encode_wrapped,
    pack_identity,
    unpack_identity,
)
from tests.sealing import second_copies
from tests.sealing.samples import flipped, put

RECORD = encode_wrapped(WrapperKind.TPM_2, b"CANARY-blob-of-a-TPM")
kinds = st.sampled_from(WrapperKind)


@given(kinds, st.binary(max_size=300))
def test_a_wrapped_copy_comes_back(kind: WrapperKind, blob: bytes) -> None:
    """R-02: A wrapped copy is read with its kind and blob, and has the documented layout."""
    record = encode_wrapped(kind, blob)
    assert decode_wrapped(record) == WrappedKey(kind, blob)
    assert record == second_copies.wrapped(kind, blob)
    assert second_copies.wrapped_of(record) == (kind, blob)


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"SPKS" + RECORD[4:],
        put(RECORD, 4, b"\0"),
        put(RECORD, 5, b"\0"),
        put(RECORD, 5, b"\3"),
        put(RECORD, 6, b"\0\1"),
        put(RECORD, 8, b"\xff\xff\xff\xff"),
        RECORD + b"x",
        *(RECORD[:length] for length in range(len(RECORD))),
    ],
)
def test_a_damaged_record_is_refused(wrong: bytes) -> None:
    """R-02: Wrong magic, level, kind, reserved bytes or length is refused, and no error shows the blob."""
    with pytest.raises(StorageError, match="a wrapped copy of the root key is damaged") as caught:
        decode_wrapped(wrong)
    assert caught.value.rule is rules.ROOT_KEY_RECORD
    assert "CANARY" not in f"{caught.value}{caught.value!r}"


def test_a_record_of_a_later_level_is_named() -> None:
    """The error for a later level has the level found and the level that this release reads."""
    words = "has level 2 of a later release, and this release reads level 1;"
    with pytest.raises(StorageError, match=words) as caught:
        decode_wrapped(put(RECORD, 4, b"\2"))
    assert caught.value.rule is rules.ROOT_KEY_RECORD
    assert "CANARY" not in f"{caught.value}{caught.value!r}"


@given(st.binary(max_size=40))
def test_any_bytes_give_a_copy_or_an_error(junk: bytes) -> None:
    """R-02: any bytes are decoded or refused, and only the bytes that encoding writes are accepted."""
    for record in junk, b"SPKW\1\1\0\0" + junk, RECORD[:12] + junk:
        with contextlib.suppress(StorageError):
            assert encode_wrapped(*decode_wrapped(record)) == record


def test_every_flipped_bit_gives_another_copy_or_an_error() -> None:
    """R-02: If any bit is flipped, the copy is refused or has other contents."""
    for bit in range(8 * len(RECORD)):
        with contextlib.suppress(StorageError):
            assert decode_wrapped(flipped(RECORD, bit)) != decode_wrapped(RECORD)


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=32, max_size=32))
def test_an_identity_comes_back(system_id: bytes, root_key: bytes) -> None:
    """R-02: The 48 bytes are system id and root key. The identity gets the level of today's records."""
    identity = SystemIdentity(system_id, root_key)
    assert pack_identity(identity) == system_id + root_key
    assert unpack_identity(system_id + root_key) == identity
    assert unpack_identity(system_id + root_key).sealed_level == SEALED_LEVEL


@pytest.mark.parametrize("length", [0, 47, 49])
def test_other_contents_are_refused(length: int) -> None:
    """R-02: Contents that do not have 48 bytes are refused, and no error shows them."""
    with pytest.raises(StorageError, match=f"has {length} bytes inside, not 48") as caught:
        unpack_identity((b"CANARY" * 9)[:length])
    assert caught.value.rule is rules.ROOT_KEY_IDENTITY
    assert "CANARY" not in str(caught.value)


def test_nothing_shows_the_blob() -> None:
    """R-02: The text of a wrapped copy has its kind and its size, and not its blob."""
    assert repr(decode_wrapped(RECORD)) == "WrappedKey(TPM_2, <20 bytes>)"
