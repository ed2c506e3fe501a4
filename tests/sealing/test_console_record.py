"""The console record: it is read whole or refused with the reason, and has the page's layout."""

import contextlib
import struct
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcall_abi.rules import backup, storage
from hcall_server.sealing import (
    SYSTEM_OWNER,
    PlaintextError,
    SealedKind,
    SealingError,
    UndecodableError,
    WrongKindError,
)
from hcall_server.sealing.console_record import (
    ConsoleRecord,
    Kept,
    decode_console,
    encode_console,
    open_console,
    seal_console,
)
from hcall_server.sealing.trusted_key import seal_trusted_key
from tests.sealing import second_copies
from tests.sealing.samples import SEALER, flipped
from tests.sealing.test_golden import console_in_words
from tests.sealing.test_trusted_key import KEY

UUIDS = st.uuids()
COUNTS = st.integers(0, 2**64 - 1)
COPIES = st.dictionaries(
    UUIDS,
    st.builds(Kept, st.integers(0, 2**32 - 1), COUNTS, COUNTS, st.binary(min_size=8, max_size=8)),
    max_size=4,
)
RECORDS = st.builds(
    ConsoleRecord,
    st.binary(min_size=16, max_size=16),
    st.text(max_size=40),
    COPIES.map(lambda copies: dict(sorted(copies.items()))),
    st.lists(UUIDS, max_size=3).map(tuple),
)
RECORD = ConsoleRecord(
    bytes(range(16)),
    "hmc1",
    {UUID(int=1): Kept(1, 2, 3, b"printed!"), UUID(int=2): Kept(0, 9, 8, bytes(8))},
    (UUID(int=7),),
)
PLAINTEXT = encode_console(RECORD)


@given(RECORDS)
def test_the_record_comes_back(record: ConsoleRecord) -> None:
    """The sealed record opens with the same contents. Its plaintext is that of the second implementation."""
    blob = seal_console(SEALER, record)
    assert open_console(SEALER, blob) == record
    generation, plaintext = SEALER.open(SealedKind.CONSOLE, SYSTEM_OWNER, blob)
    assert generation == 0
    assert plaintext == second_copies.console(console_in_words(record))
    assert second_copies.console_of(plaintext) == console_in_words(record)


@given(st.binary(max_size=90))
def test_any_bytes_give_a_record_or_an_error(junk: bytes) -> None:
    """Any bytes are decoded or refused, and only the bytes that encoding writes are accepted."""
    for plaintext in junk, b"\0\1\0\0" + junk, PLAINTEXT[:26] + junk:
        with contextlib.suppress(PlaintextError):
            assert encode_console(decode_console(plaintext)) == plaintext


def test_every_flipped_bit_gives_another_record_or_an_error() -> None:
    """If any bit is flipped, the record is refused or has other contents."""
    for bit in range(8 * len(PLAINTEXT)):
        with contextlib.suppress(PlaintextError):
            assert decode_console(flipped(PLAINTEXT, bit)) != RECORD


def test_a_truncated_record_is_refused() -> None:
    """A record of any other length is refused, also one with an extra byte."""
    for wrong in *(PLAINTEXT[:length] for length in range(len(PLAINTEXT))), PLAINTEXT + b"\0":
        with pytest.raises(PlaintextError) as caught:
            decode_console(wrong)
        assert caught.value.rule is backup.CONSOLE_LAYOUT


def test_one_order_of_copies() -> None:
    """A record with two copies of one store, or with copies in another order, is refused as ambiguous."""
    first, second = PLAINTEXT[30:74], PLAINTEXT[74:118]
    for wrong in first + first, second + first:
        with pytest.raises(PlaintextError, match="order of their UUIDs"):
            decode_console(PLAINTEXT[:30] + wrong + PLAINTEXT[118:])


def test_a_later_field_is_refused_by_its_tag() -> None:
    """A record with a later field is refused, and the error names the tag."""
    with pytest.raises(PlaintextError, match=r"unknown tag 1\b") as caught:
        decode_console(PLAINTEXT[:-1] + b"\1" + struct.pack(">HH", 1, 6) + b"CANARY")
    assert caught.value.rule is storage.SEALED_FIELD


def test_the_record_is_named() -> None:
    """Each refusal names the console record."""
    with pytest.raises(UndecodableError, match="the console record: authentic but unreadable"):
        open_console(SEALER, SEALER.seal(SealedKind.CONSOLE, SYSTEM_OWNER, 0, b"junk"))
    with pytest.raises(WrongKindError, match="the console record: says that it is the trusted system key"):
        open_console(SEALER, seal_trusted_key(SEALER, KEY))
    blob = seal_console(SEALER, RECORD)
    with pytest.raises(SealingError, match="the console record: does not authenticate"):
        open_console(SEALER, flipped(blob, 8 * len(blob) - 1))
