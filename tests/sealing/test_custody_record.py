"""The custody record: it is read whole or refused with the reason, and has the page's layout."""

import contextlib
import struct
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hcall_abi.rules import migration, storage
from hcall_server.platform.custody import LEFT, Custody
from hcall_server.platform.departed import Departed
from hcall_server.sealing import SYSTEM_OWNER, PlaintextError, SealedKind, SealingError, UndecodableError
from hcall_server.sealing.custody_record import (
    custody_record,
    decode_custody,
    encode_custody,
    open_custody,
    seal_custody,
)
from tests.sealing import second_copies
from tests.sealing.samples import SEALER, flipped, put
from tests.sealing.test_golden import custody_in_words

DEPARTED = st.builds(
    Departed,
    uuid=st.uuids(),
    name=st.text("az-0 äé漢", min_size=1, max_size=60),
    custody=st.sampled_from(sorted(LEFT)),
    epoch=st.integers(1, 2**64 - 1),
    peer=st.just(b"") | st.binary(min_size=16, max_size=16).filter(any),
    reserves_name=st.booleans(),
)
RECORDS = st.lists(DEPARTED, max_size=4, unique_by=lambda each: each.uuid).map(custody_record)
ONE = Departed(UUID(int=1), "lpar1", Custody.GONE, 7, b"t" * 16, reserves_name=True)
TWO = Departed(UUID(int=2), "lpar2", Custody.NONE, 8)
RECORD = custody_record([TWO, ONE])
PLAINTEXT = encode_custody(RECORD)


@given(RECORDS)
def test_the_record_comes_back(record: tuple[Departed, ...]) -> None:
    """R-51: The sealed record opens with the same contents. Its plaintext is the second implementation's."""
    blob = seal_custody(SEALER, record)
    assert open_custody(SEALER, blob) == record
    generation, plaintext = SEALER.open(SealedKind.CUSTODY, SYSTEM_OWNER, blob)
    assert generation == 0
    assert plaintext == second_copies.custody(custody_in_words(record))
    assert second_copies.custody_of(plaintext) == custody_in_words(record)


@given(st.binary(max_size=90))
def test_any_bytes_give_a_record_or_an_error(junk: bytes) -> None:
    """Any bytes are decoded or refused, and only the bytes that encoding writes are accepted."""
    for plaintext in junk, b"\0\1\0\0" + junk, PLAINTEXT[:50] + junk:
        with contextlib.suppress(PlaintextError):
            assert encode_custody(decode_custody(plaintext)) == plaintext


def test_every_flipped_bit_gives_another_record_or_an_error() -> None:
    """If any bit is flipped, the record is refused or has other contents."""
    for bit in range(8 * len(PLAINTEXT)):
        with contextlib.suppress(PlaintextError):
            assert decode_custody(flipped(PLAINTEXT, bit)) != RECORD


def test_a_truncated_record_is_refused() -> None:
    """A record of any other length is refused, also one with an extra byte."""
    for wrong in *(PLAINTEXT[:length] for length in range(len(PLAINTEXT))), PLAINTEXT + b"\0":
        with pytest.raises(PlaintextError) as caught:
            decode_custody(wrong)
        assert caught.value.rule is migration.CUSTODY_RECORD


@pytest.mark.parametrize(
    "at,value",
    [(24, b"\1"), (24, b"\7"), (25, b"\2"), (26, bytes(8)), (51, b"\xff")],
    ids=["own", "arrived", "reserves", "epoch", "name"],
)
def test_values_outside_their_range_are_refused(at: int, value: bytes) -> None:
    """R-51: A record that has a partition with a store, or one without an attempt, is refused."""
    with pytest.raises(PlaintextError) as caught:
        decode_custody(put(PLAINTEXT, at, value))
    assert caught.value.rule is migration.CUSTODY_RECORD


def test_one_order_of_partitions() -> None:
    """A record with two entries of one partition, or in another order, is refused as ambiguous."""
    for wrong in (TWO, ONE), (ONE, ONE):
        with pytest.raises(PlaintextError, match="order of their UUIDs"):
            decode_custody(encode_custody(wrong))


def test_a_name_that_is_kept_is_one() -> None:
    """R-51: A barred target has no name, because it never learned the name. Any other entry needs a name."""
    barred = (TWO._replace(name=""),)
    assert decode_custody(encode_custody(barred)) == barred
    with pytest.raises(PlaintextError, match="outside its range"):
        decode_custody(encode_custody((ONE._replace(name=""),)))


def test_a_later_field_is_refused_by_its_tag() -> None:
    """A record with a later field is refused, and the error names the tag."""
    with pytest.raises(PlaintextError, match=r"unknown tag 1\b") as caught:
        decode_custody(PLAINTEXT[:-1] + b"\1" + struct.pack(">HH", 1, 6) + b"CANARY")
    assert caught.value.rule is storage.SEALED_FIELD


def test_the_record_is_named() -> None:
    """Each refusal names the custody record."""
    with pytest.raises(UndecodableError, match="the custody record: authentic but unreadable"):
        open_custody(SEALER, SEALER.seal(SealedKind.CUSTODY, SYSTEM_OWNER, 0, b"junk"))
    blob = seal_custody(SEALER, RECORD)
    with pytest.raises(SealingError, match="the custody record: does not authenticate"):
        open_custody(SEALER, flipped(blob, 8 * len(blob) - 1))
